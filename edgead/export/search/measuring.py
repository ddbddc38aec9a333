"""What a search measures of a candidate, and when it stops: a look at the time, accuracy, then enough parts for a p99."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from edgead import machine
from edgead.bundle import storage_errors
from edgead.calibration.judging.deviation import Limits
from edgead.errors import EdgeadError, StorageError
from edgead.export.kitchen import Report
from edgead.export.options import ExportOptions
from edgead.export.search.bench import Bench
from edgead.export.search.journal import Journal, Record
from edgead.export.search.options import SearchOptions
from edgead.export.search.outcome import p50, p99
from edgead.export.search.pareto import meets, within_loss
from edgead.export.search.space import Choice, Size, thread_counts

CPU_BACKENDS = ("openvino", "onnxruntime")
"""Those whose number of threads may be chosen."""


class OutOfTime(Exception):
    """No further candidate is begun."""


class Measuring:
    """The part of a search that measures: each candidate as far as it is promising, each figure once.

    Attributes:
        bench, benches: of the model as it is, and of each input size (None: its own).
        journal: what is measured already.
        reference: the engine that all are timed beside.
        limits: what may be lost.
        plain: candidates without lossy rewrites, the best threads of each.
        began, total_s, reserve_s: seconds: when the search began, what it may take, and what is kept for the bundle.
        notes: what the user was told.
    """

    options: ExportOptions
    asked: SearchOptions
    report: Report
    note: Callable[[str], None]
    scratch: Path
    bench: Bench
    benches: dict[Size | None, Bench]
    journal: Journal
    reference: Callable[[], object] | None
    limits: Limits
    plain: list[Choice]
    notes: list[str]
    began: float
    total_s: float
    reserve_s: float

    def _consider(self, choice: Choice) -> Record:
        """As far as it is promising: a look at the time, accuracy, then enough parts for a p99; when that is too late now and
        then, with fewer threads, which may be slower and steadier."""
        record = self._promising(choice)
        if self.options.threads is None and record.latency and record.latency.full and p99(record) > self.asked.budget_ms:
            for count in self._fewer_threads(choice):
                other = self._promising(replace(choice, threads=count))
                if meets(other, self.asked.budget_ms):
                    return other
                if p50(other) > self.asked.budget_ms:  # still fewer are slower still
                    break
        return record

    def _promising(self, choice: Choice) -> Record:
        self._in_time()
        record = self._measure(choice, "look")
        if record.latency is None or p50(record) > self.asked.budget_ms:
            return record
        record = self._measure(choice, "judge")
        if record.accuracy is not None and within_loss(record.accuracy, self.limits):
            record = self._measure(choice, "time")
        return record

    def _fewer_threads(self, choice: Choice) -> list[int]:
        """Fewer than the choice has, most first."""
        counts = thread_counts(choice.threads or machine.usable_cores()) if choice.backend in CPU_BACKENDS else []
        return counts[::-1]

    def _measure(self, choice: Choice, *steps: str) -> Record:
        """What is missing of these steps; a candidate that cannot be built or run stays in the journal with the reason."""
        for step in steps:
            record = self.journal.get(choice) or Record(choice)
            if record.failed:
                return record
            full = step == "time"
            done = record.accuracy is not None if step == "judge" else record.latency is not None and record.latency.full >= full
            if done:
                continue
            self.report(f"{choice}: {step}", 0.0)
            try:
                with storage_errors(self.scratch, hint="free space for temporary files (TMPDIR)"):
                    record = self._judged(record) if step == "judge" else self._timed(record, full)
            except StorageError:
                raise
            except EdgeadError as error:
                record = replace(record, failed=str(error))
            self._note_down(record)
        return self.journal.get(choice) or Record(choice)

    def _timed(self, record: Record, full: bool) -> Record:
        bench, choice = self.benches[record.choice.size], record.choice
        assert self.reference is not None
        sketched = not full and record.accuracy is None and bool(choice.rewrites)
        maker = bench.sketch() if sketched else bench
        with closing(maker.open(choice)) as engine:
            latency = bench.latency(engine, self.reference, full)
        record = replace(record, latency=latency, bytes=maker.size_bytes(choice))
        return record if sketched else replace(record, graph=bench.digest(choice))

    def _judged(self, record: Record) -> Record:
        bench, choice = self.benches[record.choice.size], record.choice
        answers = bench.answers(choice)
        accuracy = bench.accuracy_of(answers, self.bench if bench is not self.bench else None)
        return replace(record, accuracy=accuracy, bytes=bench.size_bytes(choice), graph=bench.digest(choice))

    def _note_down(self, record: Record) -> None:
        with storage_errors(self.journal.file, hint="free space, or choose another --search-dir"):
            self.journal.add(record)

    def _runs(self, choice: Choice) -> bool:
        return choice.size in self.benches and choice.job in {plain.job for plain in self.plain}

    def _left_s(self) -> float:
        return self.total_s - self.reserve_s - (time.monotonic() - self.began)

    def _in_time(self) -> None:
        if self._left_s() < 0:
            raise OutOfTime

    def _say(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)
            self.note(line)
