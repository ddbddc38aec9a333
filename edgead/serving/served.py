"""A bundle that is served: judged with by one thread, and exchanged for its successor between two requests."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

from edgead.bundle import MANIFEST, Bundle, file_digest
from edgead.clock import Clock
from edgead.decision import tells_no_map
from edgead.engines.proof import check_reach
from edgead.errors import EdgeadError
from edgead.jobs.score import Judge
from edgead.line.shelf import Loaded, Shelf
from edgead.serving.tensors import Array
from edgead.serving.wanted import Named
from edgead.types import Inspection, Verdict

_log = logging.getLogger("edgead.serve")

Told: TypeAlias = Callable[[Sequence[Inspection]], None]


@dataclass(slots=True)
class _Current:
    """What answers now."""

    loaded: Loaded
    judge: Judge


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdicts on the pictures of one request, all of one bundle.

    Attributes:
        found: in the pictures' order.
        bundle: SHA-256 of the one that judged.
        engine: that answered.
        map_size: height, width of its maps.
    """

    found: tuple[Inspection, ...]
    bundle: str
    engine: str
    map_size: tuple[int, int]


@dataclass(slots=True)
class Counts:
    """What became of a served model's requests.

    Attributes:
        verdicts: given, by verdict.
        causes: of those that have one, by its first word.
        exchanged: how often its bundle was exchanged for a changed one.
        refused: how often a changed bundle was not taken.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    exchanged: int = 0
    refused: int = 0


class Served:
    """One bundle under one name. Its engine answers on a thread of its own, one picture after the other.

    A changed bundle is opened, verified and proved beside the one that runs, as the shelf does it, and takes its place between
    two requests: whoever waits gets an answer of the one or of the other. One that cannot be used is told; the former goes on.

    Args:
        wanted: bundle and name.
        shelf: opens and proves; shared by all.
        engine: its name in the bundle; None: the bundle's default.
        budget_ms: from a request's arrival to each of its verdicts; later is UNKNOWN("late"). None: no limit.
        clock: of that.

    Raises:
        EdgeadError: the bundle cannot be used.
    """

    def __init__(self, wanted: Named, shelf: Shelf, engine: str | None, budget_ms: float | None, clock: Clock) -> None:
        self.wanted, self.counts = wanted, Counts()
        self._shelf, self._engine, self._clock = shelf, engine, clock
        self._budget_ns = None if budget_ms is None else round(budget_ms * 1e6)
        self._complaint = ""
        self._current = self._open()
        self._thread = ThreadPoolExecutor(1, f"edgead-serve {wanted.key}")

    @property
    def bundle(self) -> Bundle:
        """The one that answers now."""
        return self._current.loaded.bundle

    @property
    def engine(self) -> str:
        """Name of the engine that answers now."""
        return self._current.loaded.record.name

    @property
    def map_size(self) -> tuple[int, int]:
        """Height, width of its maps; (1, 1) where it tells none."""
        return _map_size(self._current)

    @property
    def has_map(self) -> bool:
        return not tells_no_map(self.map_size)

    def judge(self, pictures: Sequence[Array | bytes]) -> Future[Answer]:
        """The verdicts, soon: each picture as the camera gave it, or a file's bytes. From any thread."""
        arrived = self._clock.now_ns()
        return self._thread.submit(self._judged, pictures, arrived)

    def _judged(self, pictures: Sequence[Array | bytes], arrived: int) -> Answer:
        current = self._current
        found = tuple(self._one(current.judge, picture, arrived) for picture in pictures)
        for one in found:
            self.counts.verdicts[one.verdict.value] += 1
            if one.cause:
                self.counts.causes[one.cause.partition(":")[0]] += 1
        return Answer(found, current.loaded.bundle.digest, current.loaded.record.name, _map_size(current))

    def _one(self, judge: Judge, picture: Array | bytes, arrived: int) -> Inspection:
        if self._late(arrived):
            return judge.unknown("late")
        found = judge(picture)
        return dataclasses.replace(found, verdict=Verdict.UNKNOWN, cause=found.cause or "late") if self._late(arrived) else found

    def _late(self, arrived: int) -> bool:
        return self._budget_ns is not None and self._clock.now_ns() - arrived > self._budget_ns

    def look(self) -> bool:
        """Take the bundle that lies there now, if it is another one; was it exchanged? One caller at a time."""
        try:
            if file_digest(self.wanted.path / MANIFEST) == self.bundle.digest:
                self._complaint = ""
                return False
            fresh = self._open()
        except (EdgeadError, OSError, ValueError) as error:
            self._refused(f"{error}")
            return False
        former = self._thread.submit(self._exchange, fresh).result()
        self._shelf.release(former.loaded)
        self._complaint = ""
        self.counts.exchanged += 1
        _log.info("%s: %s answers now, sha256 %s", self.wanted.key, self.wanted.path, self.bundle.digest)
        return True

    def _refused(self, complaint: str) -> None:
        if complaint != self._complaint:  # it is tried again and again: a bundle may be on its way
            self.counts.refused += 1
            _log.warning("%s: what lies in %s now is not taken, the former bundle goes on: %s", self.wanted.key, self.wanted.path,
                         complaint)  # fmt: skip
        self._complaint = complaint

    def _exchange(self, fresh: _Current) -> _Current:
        """On the engine's thread: no request is under way."""
        former, self._current = self._current, fresh
        return former

    def _open(self) -> _Current:
        loaded = self._shelf.load(self.wanted.path, self._engine)
        try:
            judge = Judge(loaded.bundle, loaded.record, loaded.engine)
            check_reach(loaded.bundle, loaded.record, judge.rule, loaded.bundle.golden(), _log.warning)
        except BaseException:
            self._shelf.release(loaded)
            raise
        return _Current(loaded, judge)

    def close(self) -> None:
        """Answer what waits, and release the engine."""
        self._thread.shutdown()
        self._shelf.release(self._current.loaded)


def _map_size(current: _Current) -> tuple[int, int]:
    height, width = next(one.shape for one in current.loaded.engine.outputs if one.name == "anomaly_map")[-2:]
    return height, width
