"""The two ways a station works: free-running, and triggered. One object for each `run`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgead.budget import LatencyBudget
from edgead.clock import Clock
from edgead.errors import CameraError, CameraLost, EndOfStream, FrameDoubtful, LinkError
from edgead.runtime.absent import AbsentCamera
from edgead.runtime.loop.catchers import AskedCatcher, ComingCatcher, LineCatcher, RunningCatcher
from edgead.runtime.loop.examiner import Examiner
from edgead.runtime.loop.feed import Capture, Feed, LiveFeed, PullFeed
from edgead.runtime.loop.ledger import Ledger, Part
from edgead.runtime.loop.matching import Matcher
from edgead.runtime.loop.stats import Stats
from edgead.runtime.loop.triggers import CameraTrigger
from edgead.runtime.threads import Supervised
from edgead.types import Camera, Frame, Inspection, Trigger, TriggerSource

PATIENCE_S = 10.0  # a trigger source that does not come back for so long stands still
SLICE_S = 0.1  # how long an idle loop waits at most before it looks whether it shall stop, and shows a sign of life
DRAIN = 10_000  # triggers that are read at a stop, at most

_log = logging.getLogger("edgead.station")


@dataclass(frozen=True, slots=True)
class Core:
    """What a line works with.

    Attributes:
        stopping: shall the loop end?
        turn: called by the loop as it makes progress; the argument says whether it is idle.
    """

    clock: Clock
    stats: Stats
    ledger: Ledger
    examiner: Examiner
    budget: LatencyBudget
    stopping: Callable[[], bool]
    turn: Callable[[bool], None]


class Line(Protocol):
    """One run of a station."""

    @property
    def camera(self) -> Camera:
        """The camera in use; it may have been opened again."""

    @property
    def camera_state(self) -> str:
        """ "ok", "silent", "lost" or "ended"."""

    def work(self) -> None:
        """The loop: returns when the source ends, enough was done, or the station stops.

        Raises:
            CameraLost: a recording broke off.
        """

    def end_triggers(self) -> None:
        """After the loop: read what was triggered before the stop, so that it gets its verdict."""

    def close(self) -> None:
        """Stop capturing; the camera stays open."""


class Roomy(Protocol):
    """Whoever is told verdicts, at his own pace."""

    def wait_for_room(self, wait_s: float) -> bool: ...


class FreeRunning:
    """The newest frame again and again, or each picture of a recording.

    Args:
        camera: `live` tells how it is treated.
        core: shared with the station.
        sinks: a recording waits for them.
        timeout_s, max_age_s: see :class:`edgead.runtime.loop.station.Station`.
        reopen: for a live camera.
        max_parts: verdicts after which the loop ends.
    """

    def __init__(
        self,
        camera: Camera,
        core: Core,
        sinks: Sequence[Roomy],
        *,
        live: bool,
        timeout_s: float,
        max_age_s: float | None,
        reopen: Callable[[], Camera] | None,
        max_parts: int | None,
    ) -> None:
        self._core, self._sinks, self._live = core, sinks, live
        self._timeout_s, self._max_age_s = timeout_s, max_age_s
        self._last = core.stats.parts + max_parts if max_parts is not None else None
        self._verdict_at_ns = core.clock.now_ns()
        self._feed: Feed = (
            LiveFeed(camera, core.stats, core.clock, timeout_s=timeout_s, reopen=reopen)
            if live
            else PullFeed(camera, core.stats, timeout_s=timeout_s)
        )

    @property
    def camera(self) -> Camera:
        return self._feed.camera

    @property
    def camera_state(self) -> str:
        return self._feed.state

    def work(self) -> None:
        core = self._core
        while not core.stopping() and (self._last is None or core.stats.parts < self._last):
            entry = self._feed.next(SLICE_S)
            if isinstance(entry, EndOfStream):
                break
            if entry is not None:
                self._judge(entry)
            core.turn(True)
            if isinstance(entry, CameraLost) and not self._live:
                raise entry

    def end_triggers(self) -> None:
        """There are none."""

    def close(self) -> None:
        self._feed.close()

    def _judge(self, entry: Frame | CameraError) -> None:
        core, now_ns = self._core, self._core.clock.now_ns()
        silent = now_ns - self._verdict_at_ns > self._timeout_s * 1e9
        if isinstance(entry, FrameDoubtful) and not silent:
            return
        if isinstance(entry, CameraError):
            part = core.ledger.open(None, now_ns, None, taken=True)
            self._close(part, core.examiner.view(part, entry))
        elif not self._feed.keeps and self._max_age_s is not None and now_ns - entry.captured_at_ns > self._max_age_s * 1e9:
            core.stats.drop("stale")
            if silent:
                part = core.ledger.open(None, now_ns, None, taken=True)
                self._close(part, core.examiner.unknown(part, "stale"))
        else:
            core.stats.add_inspected()
            arrived_ns = entry.captured_at_ns + entry.age_ns
            deadline = core.budget.start(arrived_ns)
            part = core.ledger.open(None, arrived_ns, deadline.at_ns if deadline else None, taken=True)
            self._close(part, core.examiner.finding(part, [core.examiner.view(part, entry)]))

    def _close(self, part: Part, finding: Inspection) -> None:
        while self._feed.keeps and not self._core.stopping() and not all(sink.wait_for_room(SLICE_S) for sink in self._sinks):
            pass  # a recording waits for whoever listens
        self._core.ledger.close(part, finding)
        self._verdict_at_ns = self._core.clock.now_ns()


class Triggered:
    """A verdict for each trigger. The trigger thread opens parts, the capture thread gives them frames, the loop closes them.

    Args:
        camera, source, core: the station's.
        expecting: called with part id and trigger of each part, before its verdict.
        views: frames for each part.
        timeout_s: how long the camera may be silent.
        delay_ns, window_ns: when a part's frames may be captured.
        max_waiting: parts that may wait for the loop.
        reopen: for a live camera.
        max_parts: triggers after which no more are taken.
    """

    def __init__(
        self,
        camera: Camera,
        source: TriggerSource,
        core: Core,
        *,
        live: bool,
        expecting: Sequence[Callable[[int, Trigger], None]],
        views: int,
        timeout_s: float,
        delay_ns: int,
        window_ns: int | None,
        max_waiting: int,
        reopen: Callable[[], Camera] | None,
        max_parts: int | None,
    ) -> None:
        self._source, self._core, self._expecting, self._views = source, core, expecting, views
        self._max_waiting, self._left = max_waiting, max_parts
        self._no_more = max_parts == 0  # no trigger will be opened any more
        self._over = False
        self._matcher = Matcher(core.clock, core.stats, views=views, delay_ns=delay_ns, window_ns=window_ns)
        asks = not live or hasattr(camera, "software_trigger")
        self._catcher: RunningCatcher | AskedCatcher | LineCatcher | ComingCatcher
        running = RunningCatcher(self._matcher, timeout_s)
        asked = AskedCatcher(self._matcher, core.stats, core.clock, views=views, timeout_s=timeout_s)
        if isinstance(source, CameraTrigger):
            self._catcher = LineCatcher(self._matcher, self._open, core.stats, core.clock, views=views, timeout_s=timeout_s)
        elif isinstance(camera, AbsentCamera):
            self._catcher = ComingCatcher(running, asked)
        else:
            self._catcher = asked if asks else running
        self._reader = None if isinstance(source, CameraTrigger) else Supervised("triggers", self._read, patience_s=PATIENCE_S)
        self._capture = Capture(camera, self._catcher, core.stats, core.clock, timeout_s=timeout_s, reopen=reopen)

    @property
    def camera(self) -> Camera:
        return self._capture.camera

    @property
    def camera_state(self) -> str:
        return self._capture.shown

    def work(self) -> None:
        core = self._core
        if self._reader is not None:
            self._reader.start()
        while not core.stopping():
            ended = self._capture.state == "ended"
            self._over = self._over or ended  # no trigger of a recording's end is waited for, what came already has its verdict
            over = self._no_more or ended
            part = core.ledger.take(SLICE_S)
            if part is not None:
                self._serve(part)
            elif over:
                break
            core.turn(core.ledger.busy()[1] == 0)

    def end_triggers(self) -> None:
        self._over = True
        if self._reader is not None and not self._reader.join(5.0):
            _log.error("the trigger source does not answer; its thread is left behind")

    def close(self) -> None:
        self._capture.close()
        self._matcher.clear()

    def _serve(self, part: Part) -> None:
        """Close the part with a verdict, unless the station stops or the referee was faster."""
        core = self._core
        if part.doom:
            core.ledger.close(part, core.examiner.unknown(part, part.doom))
            return
        views: list[Inspection] = []
        while len(views) < self._views and (entry := self._frame(part)) is not None:
            if isinstance(entry, Frame):
                core.stats.add_inspected()
            _, waiting, _ = core.ledger.busy()
            views.append(core.examiner.view(part, entry, waiting=waiting))
        self._matcher.done(part)
        if len(views) == self._views:
            core.ledger.close(part, core.examiner.finding(part, views))

    def _frame(self, part: Part) -> Frame | CameraError | None:
        """The part's next frame or fault; None when it needs none any more."""
        part.enter("frame", self._core.clock.now_ns())
        while not part.closed and not self._core.stopping():
            if (entry := self._matcher.take(part, SLICE_S)) is not None:
                return entry
            self._core.turn(False)
        return None

    def _open(self, trigger: Trigger | None, at_ns: int, doom: str = "") -> Part | None:
        """Owe a verdict; None when no more are taken in this run. Called by the trigger thread, or by the capture thread."""
        if self._no_more:
            return None
        if trigger is not None:
            self._core.stats.add_trigger()
        deadline = self._core.budget.start(at_ns)
        part = self._core.ledger.open(
            trigger,
            at_ns,
            deadline.at_ns if deadline else None,
            doom=doom or (trigger.refused if trigger is not None else ""),
            limit=self._max_waiting,
            opened=self._opened,
        )
        self._core.stats.queue_depth("parts", self._core.ledger.busy()[1])
        if self._left is not None and trigger is not None:
            self._left -= 1
            self._no_more = self._left <= 0
        return part

    def _opened(self, part: Part) -> None:
        """Under the ledger's lock: before anybody can take or close the part."""
        if not part.doom:
            self._catcher.opened(part)
        if part.trigger is None:
            return
        for expect in self._expecting:
            try:
                expect(part.part_id, part.trigger)
            except BaseException as error:  # noqa: BLE001 - an output's fault costs that output
                self._core.stats.add_error("expect")
                _log.error("an output could not be told of a trigger: %s", error)

    def _read(self) -> None:
        """The trigger thread: never waits for anything but triggers."""
        assert self._reader is not None
        self._hold(False)
        while not self._over and not self._no_more:
            self._reader.turn()
            self._read_one(SLICE_S)
        self._hold(True)  # what the source has taken so far is read; a PLC is not told that we took what nobody will read
        for _ in range(DRAIN):
            if self._no_more or not self._read_one(0.0):
                break
        self._no_more = True
        self._core.ledger.wake()

    def _hold(self, held: bool) -> None:
        if (hold := getattr(self._source, "hold", None)) is not None:
            hold(held)

    def _read_one(self, wait_s: float) -> bool:
        try:
            trigger = self._source.wait(wait_s)
            if trigger is not None and not isinstance(trigger, Trigger):
                raise TypeError(f"it gave {type(trigger).__name__} instead of a trigger")
        except EndOfStream:
            self._no_more = True
            return False
        except LinkError:  # of its faults the PLC's device tells and counts itself
            threading.Event().wait(min(wait_s, 0.01))
            return False
        except Exception as error:  # noqa: BLE001 - whatever the source's device does, the next trigger may come
            count = self._core.stats.add_error("triggers")
            _log.log(logging.ERROR if count == 1 else logging.DEBUG, "the trigger source failed (%d): %s", count, error)
            threading.Event().wait(min(wait_s, 0.01))
            return False
        if trigger is not None:
            self._open(trigger, trigger.at_ns)
        return trigger is not None
