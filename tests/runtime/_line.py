"""A triggered station on its own thread, driven by a test: nothing sleeps, time is moved by hand."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Sequence
from dataclasses import fields
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.triggers import SoftwareTrigger
from edgead.runtime.products.recipes import RecipeBook
from edgead.testing import FakeClock, FakeEngine, Hang, PushedCamera
from edgead.types import Camera, Engine, Image, Inspection, Output, Trigger, TriggerSource, Verdict
from tests.waiting import PATIENCE_S, until

RECIPE = PreprocessRecipe(64, 64)
GOOD: Image = np.full((64, 64, 3), 10, np.uint8)
BAD: Image = np.full((64, 64, 3), 200, np.uint8)
BUDGET_MS = 100.0


def brightness(image: Image) -> float:
    return float(image.mean())


def words(inspection: Inspection) -> str:
    return inspection.verdict.value + (f" {inspection.cause}" if inspection.cause else "")


class LineUnderTest:
    """Runs a station with brightness as the score and 100 as the threshold; `hangs` are let go at the end.

    Each verdict can be waited for with `verdict`. On leaving: everything ends, and what must always hold is checked: one verdict
    for each trigger, in order, part ids without gaps, no wrong OK.
    """

    def __init__(
        self,
        *,
        engine: Engine | None = None,
        camera: Camera | None = None,
        triggers: TriggerSource | None = None,
        outputs: Sequence[Output] = (),
        hangs: Iterable[Hang] = (),
        budget_ms: float | None = BUDGET_MS,
        clock: FakeClock | None = None,
        max_parts: int | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock or FakeClock(manual=True)
        self.camera = camera or PushedCamera(self.clock)
        self.triggers = triggers or SoftwareTrigger(self.clock)
        settings = {field.name: options.pop(field.name) for field in fields(StationSettings) if field.name in options}
        self.station = Station(
            self.camera,
            engine or FakeEngine(brightness),
            RECIPE,
            100.0,
            StationSettings(budget_ms=budget_ms, **settings),
            outputs,
            self.clock,
            triggers=self.triggers,
            **options,
        )
        self.seen: list[Inspection] = []
        self.error: BaseException | None = None
        self._arrived: queue.SimpleQueue[Inspection] = queue.SimpleQueue()
        self._hangs, self._max_parts = list(hangs), max_parts
        self._ng_views = settings.get("combine", 1)
        self.station.on_inspection(self._see, capacity=100_000)
        self.thread = threading.Thread(target=self._run, name="line")

    def push(self, *pictures: Image | Exception | Hang, skipped: int = 0) -> None:
        assert isinstance(self.camera, PushedCamera)
        for picture in pictures:
            self.camera.push(picture, skipped=skipped)

    def fire(self, part_id: int | None = None) -> Trigger:
        assert isinstance(self.triggers, SoftwareTrigger)
        return self.triggers.fire(part_id)

    def verdict(self) -> Inspection:
        """The next verdict, waited for in real time."""
        return self._arrived.get(timeout=PATIENCE_S)

    def told(self, count: int) -> list[str]:
        """The next verdicts in words."""
        return [words(self.verdict()) for _ in range(count)]

    def pass_time(self, duration_ms: float) -> None:
        self.clock.advance(duration_ms / 1000)

    def end(self) -> None:
        """Let everything go and wait for the run to end by itself."""
        if isinstance(self.triggers, SoftwareTrigger):
            self.triggers.end()
        self._finish()

    def stop(self) -> None:
        self.station.stop()
        until(lambda: self.station.health().open_parts == 0 or bool(self._hangs))
        self._finish()

    def wait_for_frame(self) -> None:
        """Wait until the loop has come to wait for a part's frame."""
        until(lambda: (part := self.station._ledger.busy()[2]) is not None and part.stage == "frame" and not part.closed)

    def __enter__(self) -> LineUnderTest:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.thread.is_alive():
            self.stop()
        self.station.close()
        if kind is None:
            self.check()

    def check(self) -> None:
        stats = self.station.stats
        assert [i.part_id for i in self.seen] == list(range(1, len(self.seen) + 1))
        triggers = [i.trigger.trigger_id for i in self.seen if i.trigger is not None]
        assert triggers == list(range(1, len(triggers) + 1)), "each trigger has one verdict, in order"
        assert stats.triggers == len(triggers)
        assert stats.parts == len(self.seen)
        assert stats.frames == stats.inspected + sum(stats.drops.values()) - stats.drops["camera"]
        frames = [(v.frame.camera, v.frame.frame_id) for i in self.seen for v in (i.views or (i,)) if v.frame is not None]
        assert len(frames) == len(set(frames)), "no frame serves two triggers"
        for inspection in self.seen:
            if inspection.verdict is Verdict.OK:
                views = inspection.views or (inspection,)
                good = sum(v.frame is not None and int(v.frame.image[0, 0, 0]) == 10 for v in views)
                assert good >= len(views) - self._ng_views + 1, "a wrong OK"

    def _finish(self) -> None:
        if isinstance(self.camera, PushedCamera):
            self.camera.end()
        for hang in self._hangs:
            hang.let_go()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def _run(self) -> None:
        try:
            self.station.run(self._max_parts)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def _see(self, inspection: Inspection) -> None:
        self.seen.append(inspection)
        self._arrived.put(inspection)


Book = TypeVar("Book", bound="WithBook")


class WithBook:
    """A line with a book of recipes beside it; both run within a ``with``."""

    line: LineUnderTest
    book: RecipeBook

    def part(self, picture: Image = GOOD) -> Inspection:
        """A part comes."""
        self.line.fire()
        self.line.push(picture)
        found = self.line.verdict()
        self.line.pass_time(1)
        return found

    @property
    def notices(self) -> dict[str, str]:
        return dict(self.line.station.health().notices)

    def __enter__(self: Book) -> Book:
        self.line.__enter__()
        self.book.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.line.__exit__(*error)  # type: ignore[arg-type]
        self.book.close()
