"""The station: exactly one verdict for each trigger (or, free-running, for each inspected frame) and each fault, in time.

    free-running  capture thread -> slot (newest frame) -> loop
    triggered     trigger thread -> ledger -> loop <- matcher (a frame for each part) <- capture thread
    both          loop: resize, inference, decision -> ledger -> a worker for each output and callback
                  referee: what is not decided by its deadline goes out as late

Nothing slow runs on the loop's thread. docs/station.md tells what is guaranteed, and all causes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from edgead.budget import LatencyBudget
from edgead.clock import Clock, MonotonicClock
from edgead.decision import Rule
from edgead.errors import BadInput, EngineError
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.conditions import blocking, conditions_of, texts
from edgead.runtime.loop.combine import Combine, Settle
from edgead.runtime.loop.examiner import Answerer, Examiner, PictureCheck
from edgead.runtime.loop.first import RecordFirst
from edgead.runtime.loop.ledger import Ledger
from edgead.runtime.loop.lines import SLICE_S, Core, FreeRunning, Line, Triggered
from edgead.runtime.loop.selfcheck import SELFCHECK_FAILED, SelfCheck, SpareTime
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.sinks import FLUSH_S, Sink
from edgead.runtime.loop.stats import Health, Stats, counts_of
from edgead.runtime.loop.triggers import CameraTrigger
from edgead.runtime.records.record import records_trouble, to_record
from edgead.runtime.records.wallclock import utc_now
from edgead.runtime.threads import Crew, Supervised
from edgead.types import Camera, Engine, Inspection, Output, TriggerSource, Verdict

MAX_AGE_S = 1.0
"""Of live pictures, free-running, unless the settings say another; older ones are not inspected."""
PATIENCE_S = 10.0  # a loop without a turn for so long (and for the time that a recording's picture may take) stands still

_log = logging.getLogger("edgead.station")


class Station:
    """An inspection station, free-running or triggered.

    **Free-running** (no `triggers`): a camera with an attribute ``live`` that is False (recordings) is asked when the loop is
    ready, and nothing is dropped. Any other camera gets a capture thread: frames that come while one is being inspected replace
    each other and are counted, as are frames older than `max_age_ms` when their turn comes. Each CameraTimeout is one
    UNKNOWN("camera_timeout"), so a silent camera gives one per `frame_timeout_ms`; each UnreadableFrame and each loss of the
    camera is one UNKNOWN; stale frames alone for `frame_timeout_ms` give UNKNOWN("stale").

    **Triggered**: each trigger gets exactly one verdict, by its deadline, whatever hangs. Its picture is the first that was
    captured `trigger_delay_ms` after the trigger or later; a camera with a method ``software_trigger()`` is asked for it at
    that moment (by the thread that grabs), and so is a recording. With :class:`~edgead.runtime.loop.triggers.CameraTrigger` the
    camera's own hardware line triggers: each frame is a part.

    All causes of UNKNOWN are listed in docs/station.md. The faults of all threads of the crew in which a station was made
    (:meth:`edgead.runtime.threads.Crew.current`) are its own.

    Args:
        camera: where frames come from. The station closes it.
        engine: answers; the caller closes it, since it may be shared (:class:`edgead.runtime.loop.group.SharedEngine`).
        recipe: the engine's preprocess recipe.
        threshold: what makes a part NG; a number is the score at and above which it is, raw model units.
        settings: its budget, its times and its ways; see :class:`edgead.runtime.loop.settings.StationSettings`.
        outputs: told each verdict; the station closes them. An output with a method ``expect(part_id, trigger)`` is told of each
            trigger, before its verdict, on the thread that learned of it: it must return at once. One with a method
            ``conditions()`` tells by name what people should look at (:class:`edgead.runtime.conditions.Condition`).
        clock: the one that stamps the camera's frames and the triggers.
        reopen: opens a lost live camera again; None goes on asking the same one.
        engine_name, bundle, model: for the records: the engine's name, SHA-256 of its bundle's manifest and of its own file.
        triggers: where triggers come from; the station closes it. Needs a budget.
        picture_size: height, width of the camera's pictures; None: a live camera's first one sets it, a recording's may differ.
        fallback: a faster engine for when the main one does not keep up (:class:`edgead.runtime.loop.examiner.Examiner`).
        output_capacity: verdicts that may wait for an output; a full queue loses its oldest, and the output goes safe.
        first_part_id: the number of the first part, to go on after a restart.
        on_idle: called by the loop after a verdict when no other part waits, and several times a second without parts
            (:func:`edgead.runtime.supervision.process.tuned`); must take well below a millisecond.
        check: asks the engine about golden frames in spare moments; while it fails, parts are UNKNOWN("selfcheck_failed").

    Raises:
        BadInput: values that make no sense, or recipe and engine do not fit.
    """

    def __init__(
        self,
        camera: Camera,
        engine: Engine,
        recipe: PreprocessRecipe,
        threshold: Rule | float,
        settings: StationSettings | None = None,
        outputs: Sequence[Output] = (),
        clock: Clock | None = None,
        *,
        reopen: Callable[[], Camera] | None = None,
        engine_name: str = "",
        bundle: str = "",
        model: str = "",
        triggers: TriggerSource | None = None,
        picture_size: tuple[int, int] | None = None,
        fallback: Answerer | None = None,
        output_capacity: int = 64,
        first_part_id: int = 1,
        on_idle: Callable[[], None] | None = None,
        check: SelfCheck | None = None,
    ) -> None:
        given = self._given = settings or StationSettings()
        self._live = bool(getattr(camera, "live", True))
        self._budget = LatencyBudget(given.budget_ms)
        _check(given, triggers, live=self._live)
        if min(output_capacity, first_part_id) < 1:
            raise BadInput("the outputs' queues and the first part id must be 1 or more")
        self._clock = clock or MonotonicClock()
        self._combine = Combine.named(given.frames_per_part, given.combine)
        checked = self._live or picture_size is not None or given.frozen_after is not None
        self._examiner = Examiner(
            Answerer(engine, recipe, threshold, engine_name, bundle, model),
            self._clock,
            combine=self._combine,
            fallback=fallback,
            check=PictureCheck(picture_size, given.frozen_after) if checked else None,
            limits_ms=given.stage_budget_ms.given(),
            late_verdict=Verdict.NG if given.on_late == "reject" else Verdict.UNKNOWN,
            settling=(given.settle_frames, given.hysteresis),
        )
        self._check, self._check_failed = check, ""
        self._spare = SpareTime(self._budget.total_ms)
        self._notices: dict[str, str] = {}
        self._missing: dict[str, str] = {}
        self._frame_timeout_s = given.frame_timeout_ms / 1000
        self._max_age_s = MAX_AGE_S if given.max_age_ms is None else given.max_age_ms / 1000
        waits_s = (1.0, self._max_age_s, (self._budget.total_ms or 0.0) / 1000)
        self._patience_ns = round(2e9 * max(waits_s))  # a part is not open for longer
        self._settling = (given.settle_frames, given.hysteresis)
        self._settle = Settle(*self._settling)
        self._camera, self._outputs, self._reopen, self._triggers = camera, tuple(outputs), reopen, triggers
        self._engine_name, self._output_capacity, self._on_idle = engine_name, output_capacity, on_idle
        self._listeners: list[tuple[str, Callable[[Inspection], None], int]] = []
        self._record_listeners: list[tuple[str, Callable[[dict[str, Any]], None], int]] = []
        self._expecting = [output.expect for output in self._outputs if hasattr(output, "expect")]
        self.stats = Stats()
        self._ledger = Ledger(
            self._clock,
            self._deliver,
            unknown=self._examiner.unknown,
            lateness=self._examiner.lateness,
            late_result=self.stats.add_late_result,
            first_part_id=first_part_id,
        )
        self._sinks: Sequence[Sink] = ()
        self._held: Sequence[Sink] = ()  # those of the sinks that are told when the record is safe
        self._first: RecordFirst | None = None
        self._keepers: list[Any] = []  # who says what is wrong with records
        self._beside: list[object] = []  # who counts what nobody on the line waits for
        self._stopping = False
        self._state = "stopped"
        self._line: Line | None = None
        self._crew = Crew.current()
        self._loop = _Loop(PATIENCE_S + self._frame_timeout_s)
        self._progress_at_ns = self._verdict_at_ns = 0

    def on_inspection(self, callback: Callable[[Inspection], None], *, capacity: int = 16) -> Station:
        """Call `callback` with each inspection on a thread of its own, from the next `run` on.

        What it raises is logged and counted. When it is slower than a live camera or triggers, the oldest of `capacity` waiting
        inspections is lost to it and counted; recordings wait for it.
        """
        self._listeners.append((_name(callback), callback, capacity))
        return self

    def on_record(self, callback: Callable[[dict[str, Any]], None], *, capacity: int = 1024, first: bool = False) -> Station:
        """As `on_inspection`, with the part's record (:func:`edgead.runtime.records.record.to_record`), which holds no pictures.

        Whoever has a method `owe` beside this callback (:class:`edgead.runtime.records.store.RecordStore`) learns how many
        verdicts
        there are, so that it knows in the end what was lost on the way.

        Args:
            callback, capacity: see `on_inspection`.
            first: outputs are told a verdict only when its record is safe (:class:`edgead.runtime.loop.first.RecordFirst`); the
                callback is the `write` of a RecordStore then, and is called at once.
        """
        owner: Any = getattr(callback, "__self__", None)
        if hasattr(owner, "owe"):
            owner.owe(self.told)
            self._keepers.append(owner)
        if first and not hasattr(owner, "listen"):
            raise BadInput("only a RecordStore says when a record is safe", hint="on_record(store.write, first=True)")
        if first:
            self._first = RecordFirst(owner, self._record, self._tell_outputs, self.stats, self._clock)
        else:
            self._record_listeners.append((_name(callback), callback, capacity))
        return self

    def count(self, who: object) -> None:
        """Show in `health` what somebody beside the line counts: its method ``counts()``."""
        self._beside.append(who)

    def told(self) -> int:
        """Verdicts that there were, by the ledger's own count (all runs)."""
        return self._ledger.closed

    def run(self, max_parts: int | None = None) -> Stats:
        """Inspect until the source ends, `stop` is called, or `max_parts` verdicts were given (triggers taken) in this run.

        The loop has a thread of its own; this one waits for it, so signals are handled at once.

        Returns:
            The station's counters (all runs).

        Raises:
            CameraLost: a recording broke off (after its UNKNOWN verdict); a live camera is waited for instead.
            EngineError: on a stop the loop did not come back within seconds (a hanging engine): its thread is left behind.
        """
        if not self._loop.wait(0):
            raise EngineError("the loop of the run before hangs still", hint="restart the process")
        with self._crew.own():
            return self._run(max_parts)

    def _run(self, max_parts: int | None) -> Stats:
        loop = self._loop = _Loop(PATIENCE_S + self._frame_timeout_s)
        core = Core(
            self._clock,
            self.stats,
            self._ledger,
            self._examiner,
            self._budget,
            lambda: self._stopping or loop.abandoned,
            self._turn,
        )
        self._state, self._progress_at_ns = "starting", self._clock.now_ns()
        self._settle = Settle(*self._settling)  # outputs begin safe
        try:
            with ExitStack() as stack:
                self._sinks = Sink.entered(self._make_sinks(), stack)
                if self._first is not None:
                    self._held = [sink for sink in self._sinks if sink.is_output]
                    stack.enter_context(self._first)
                self._ledger.start()
                stack.callback(self._ledger.end)
                line = self._line = self._open_line(core, max_parts)
                stack.callback(self._let_go, line, loop)
                loop.start(line.work)
                self._state = "ready"
                while not loop.wait(SLICE_S) and not self._stopping:
                    self._crew.look()
        finally:
            self._state, self._stopping, self._line, self._sinks, self._held = "stopped", False, None, (), ()
        if loop.error is not None:
            raise loop.error
        return self.stats

    def stop(self) -> None:
        """Let `run` return soon; from any thread, and from a signal handler. Before `run`, the next one ends at once."""
        self._stopping = True

    def change(
        self,
        main: Answerer,
        fallback: Answerer | None = None,
        *,
        check: SelfCheck | None = None,
        retired: Callable[[], None] = lambda: None,
    ) -> None:
        """Answer parts that begin (their trigger; free-running their frame) from now on with another engine; from any thread.

        Parts that began before are answered by the engine that was there then, all views of a part by the same. Nothing waits.

        Args:
            main, fallback, check: as in the constructor; `main.name` is the engine's name for the records.
            retired: called by the loop when the engines from before are no longer used, in two seconds or so.

        Raises:
            BadInput: recipe and engine do not fit, or the recipe does not fit the camera's pictures. Then nothing has changed.
        """
        self._examiner.change(main, fallback, retired)
        self._engine_name = main.name
        if self._check is None or self._check.engine is not main.engine:  # the same engine is still in the check that it was in
            self._check, self._check_failed = check, ""

    def notice(self, name: str, text: str) -> None:
        """What people should know while the station works, shown by `health` and logged when it changes; "" takes it back."""
        if text == self._notices.get(name, ""):
            return
        if text:
            self._notices = {**self._notices, name: text}
            _log.warning("%s: %s", name, text)
        else:
            self._notices = {key: value for key, value in self._notices.items() if key != name}
            _log.info("%s: all is well again", name)

    def missing(self, name: str, text: str) -> None:
        """As `notice`, of something that the station cannot work without: as long as there is a text it is faulted."""
        self._missing = {key: value for key, value in {**self._missing, name: text}.items() if value}
        self.notice(name, text)

    def health(self) -> Health:
        """How the station is doing; cheap, from any thread."""
        open_parts, waiting, taken = self._ledger.busy()
        line = self._line
        camera = line.camera_state if line is not None else "ok"
        state, fault = self._state, ""
        conditions = conditions_of(self._outputs)
        if state in ("starting", "ready") and self._stopping:
            state = "stopping"
        elif state == "ready" and taken is not None and taken.overdue(self._clock.now_ns()):
            state, fault = "faulted", f"part {taken.part_id} hangs in {taken.stage}"
        elif state == "ready" and (faults := self._crew.faults()):
            state, fault = "faulted", "; ".join(f"{name}: {text}" for name, text in faults.items())
        elif state == "ready" and camera == "lost":
            state, fault = "faulted", "the camera is lost"
        elif state == "ready" and self._missing:
            state, fault = "faulted", f"not there: {', '.join(self._missing)}"
        elif state == "ready" and self._first is not None and (found := self._first.trouble):
            state, fault = "faulted", found
        elif state == "ready" and self._check_failed:
            state, fault = "faulted", f"the self-check failed: {self._check_failed}"
        elif state == "ready" and (found := blocking(conditions)):
            state, fault = "faulted", found
        queues = {sink.name: sink.depth for sink in self._sinks}
        return Health(
            state,
            fault,
            self._progress_at_ns,
            self._verdict_at_ns,
            open_parts,
            waiting,
            queues,
            camera,
            str(getattr(line.camera if line is not None else self._camera, "time_source", "")),
            self._counted(),
            {**self._notices, **texts(conditions), **records_trouble(self._keepers)},
            self._crew.deaths(),
            self._examiner.answering(),
        )

    def _counted(self) -> dict[str, dict[str, int]]:
        """What devices count themselves, as far as they do."""
        device = self._line.camera if self._line is not None else self._camera
        counted = {"camera": dict(device.counters())} if hasattr(device, "counters") else {}
        return counted | counts_of((*self._outputs, *self._beside))

    def close(self) -> None:
        """Close the camera, the trigger source and the outputs; may be called twice, not while `run` runs."""
        with ExitStack() as stack:
            for output in self._outputs:
                stack.callback(output.close)
            if self._triggers is not None:
                stack.callback(self._triggers.close)
            self._camera.close()

    def __enter__(self) -> Station:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- what all modes share

    def _make_sinks(self) -> list[Sink]:
        sinks = [Sink.of_output(o, self.stats, self._clock, self._output_capacity) for o in self._outputs]
        sinks += [Sink(name, callback, self.stats, capacity) for name, callback, capacity in self._listeners]
        return sinks + [Sink(n, c, self.stats, size, prepare=self._record) for n, c, size in self._record_listeners]

    def _record(self, inspection: Inspection) -> dict[str, Any]:
        return to_record(inspection, time_utc=utc_now(), engine=inspection.engine or self._engine_name)

    def _deliver(self, inspection: Inspection) -> None:
        """Under the ledger's lock: each verdict once, in order."""
        inspection = self._settle(inspection)
        self._verdict_at_ns = self._clock.now_ns()
        self.stats.add(inspection)
        self._spare.seen(inspection)
        for sink in self._sinks:
            if sink not in self._held:
                sink.tell(inspection)
        if self._first is not None:
            self._first.take(inspection)

    def _tell_outputs(self, inspection: Inspection) -> None:
        for sink in self._held:
            sink.tell(inspection)

    def _turn(self, idle: bool) -> None:
        """The loop makes progress."""
        self._progress_at_ns = self._clock.now_ns()
        self._loop.turn()
        for sink in self._sinks:
            sink.beat()
        self._examiner.retire(self._patience_ns)
        if idle and self._on_idle is not None:
            self._on_idle()
        if idle and self._check is not None and self._check.due():
            self._look_at(self._check)

    def _look_at(self, check: SelfCheck) -> None:
        """One step of the self-check, if no part is late because of it."""
        if not self._check_failed and not self._spare.there(self._clock.now_ns()):
            if check.waited_s() > check.every_s and self._spare.known:
                self.notice("self-check", "no spare moment for it: the budget leaves no time between the parts")
            return
        fault = check.step()
        if fault is None or check is not self._check:  # another engine has come meanwhile
            return
        self._examiner.bar(check.engine, SELFCHECK_FAILED if fault else "")
        if fault and not self._check_failed:
            _log.error("the self-check failed, parts are UNKNOWN until it passes again: %s", fault)
        elif self._check_failed and not fault:
            _log.warning("the self-check passes again")
        self._check_failed = fault
        self.notice("self-check", "")

    def _let_go(self, line: Line, loop: _Loop) -> None:
        """The end of a run: the loop, the triggers, the open parts, the camera; outputs follow."""
        self._stopping = True
        if not loop.wait(FLUSH_S):
            loop.abandoned = True
            _, _, taken = self._ledger.busy()
            where = f"part {taken.part_id} hangs in {taken.stage}" if taken is not None else "the camera's adapter hangs"
            loop.error = EngineError(f"the loop did not come back: {where}", hint="restart the process")
            _log.error("the loop did not come back: %s; its thread is left behind", where)
        line.end_triggers()
        self._ledger.end()
        line.close()
        self._camera = line.camera  # it may have been opened again

    def _open_line(self, core: Core, max_parts: int | None) -> Line:
        given = self._given
        reopen = self._reopen if self._live else None
        if self._triggers is None:
            return FreeRunning(
                self._camera,
                core,
                self._sinks if self._first is None else [*self._sinks, self._first],
                live=self._live,
                timeout_s=self._frame_timeout_s,
                max_age_s=self._max_age_s,
                reopen=reopen,
                max_parts=max_parts,
            )
        return Triggered(
            self._camera,
            self._triggers,
            core,
            live=self._live,
            expecting=self._expecting,
            views=self._combine.views,
            timeout_s=self._frame_timeout_s,
            delay_ns=round(given.trigger_delay_ms * 1e6),
            window_ns=None if given.frame_window_ms is None else round(given.frame_window_ms * 1e6),
            max_waiting=given.max_waiting,
            reopen=reopen,
            max_parts=max_parts,
        )


class _Loop:
    """The thread of one run's loop, and how it ended. It is not started again: whoever called `run` decides what follows."""

    def __init__(self, patience_s: float) -> None:
        self.error: BaseException | None = None
        self.abandoned = False
        self._patience_s = patience_s
        self._thread: Supervised | None = None
        self._done = threading.Event()

    def start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - carried to whoever called `run`
                self._fail(error)
            self._done.set()

        self._thread = Supervised("loop", run, died=self._died, restart=False, patience_s=self._patience_s, kind=EngineError)
        self._thread.start()

    def turn(self) -> None:
        """It makes progress."""
        if self._thread is not None:
            self._thread.turn()

    def wait(self, wait_s: float) -> bool:
        """Wait for its end; True when it has ended, or never began."""
        if self._thread is None:
            return True
        if self._done.wait(wait_s):
            self._thread.join()
            return True
        return False

    def _died(self, error: BaseException) -> None:
        self._fail(EngineError(f"the loop died: {error!r}", hint="restart the process, and report this"))
        self._done.set()

    def _fail(self, error: BaseException) -> None:
        if not self.abandoned:
            self.error = error


def _check(given: StationSettings, triggers: TriggerSource | None, *, live: bool) -> None:
    """Refuse values that make no sense, and what goes only with, or only without, triggers."""
    if not given.frame_timeout_ms > 0 or (given.max_age_ms is not None and not given.max_age_ms > 0):
        raise BadInput("frame timeout and largest age must be above 0 ms")
    if not given.trigger_delay_ms >= 0 or (given.frame_window_ms is not None and not given.frame_window_ms > 0):
        raise BadInput("the trigger delay must be 0 ms or more and the frame window above 0 ms")
    if given.max_waiting < 1:
        raise BadInput("the number of waiting parts must be 1 or more")
    if given.on_late not in ("unknown", "reject"):
        raise BadInput(f"late parts cannot be told as {given.on_late!r}", hint='use "unknown" or "reject"')
    if triggers is None:
        if given.frames_per_part != 1:
            raise BadInput(f"{given.frames_per_part} frames for each part need triggers", hint="free-running: settle_frames")
        return
    if given.budget_ms is None:
        raise BadInput("triggered parts need a latency budget", hint="say in how many milliseconds each verdict must be out")
    if given.settle_frames != 1 or given.hysteresis != 0:
        raise BadInput("triggered parts are judged one by one: they do not settle", hint="leave settle_frames and hysteresis out")
    if isinstance(triggers, CameraTrigger) and not live:
        raise BadInput("a recording has no trigger line", hint="leave triggers out: each of its pictures gets a verdict")


def _name(thing: object) -> str:
    """A short name of an output or a callback for counters and logs."""
    return getattr(thing, "__qualname__", None) or type(thing).__name__
