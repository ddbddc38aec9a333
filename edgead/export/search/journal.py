"""What was measured in a search, one JSON object a line, so that nothing is measured twice.

A line is flushed to the disk before the next candidate begins. A crash leaves at most one broken last line, which is dropped.
Figures are kept, not verdicts: another budget or tolerated loss uses the same journal.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.export.search.space import Choice

SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Latency:
    """From the camera's picture to the verdict, in milliseconds.

    Attributes:
        p50_ms, p99_ms: of `samples` parts.
        reference_ms: p50 of the reference engine, which took turns with this one.
        full: enough samples for a p99 to mean something; else a first look.
        disturbed: the reference engine was slower than it had been: the machine was busy with something else.
    """

    p50_ms: float
    p99_ms: float
    samples: int
    reference_ms: float
    full: bool
    disturbed: bool = False


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Answers on the frames that everything is judged on.

    Attributes:
        auroc: on good frames against defects, labelled or drawn.
        auroc_change: that minus the trained model's (negative: worse); the original one's also after training again.
        score_deviation, label_flips (of `frames`): from the trained model of the same input size, see
            :class:`edgead.calibration.judging.deviation.Deviation`.
        good, defect: scores behind the AUROC.
        auroc_error: one standard error of `auroc_change`; 0 in journals of before, which judges more strictly.
    """

    auroc: float
    auroc_change: float
    score_deviation: float
    label_flips: int
    frames: int
    good: tuple[float, ...]
    defect: tuple[float, ...]
    auroc_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one candidate.

    Attributes:
        choice: which.
        latency, accuracy: None: not measured (yet, or not needed).
        failed: why it could not be built or run; "" when it could.
        bytes: of the engine's files.
        graph: SHA-256 of the ONNX graph that the engine was made of; "" when no more than a look was had at it.
    """

    choice: Choice
    latency: Latency | None = None
    accuracy: Accuracy | None = None
    failed: str = ""
    bytes: int = 0
    graph: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "choice": self.choice.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """What `to_json` gave, also through a file. Raises KeyError, TypeError or ValueError for anything else."""
        latency, accuracy = data["latency"], data["accuracy"]
        if accuracy is not None:
            accuracy = Accuracy(**{**accuracy, "good": tuple(accuracy["good"]), "defect": tuple(accuracy["defect"])})
        if latency is not None:
            latency = Latency(**latency)
            if not (math.isfinite(latency.p50_ms) and math.isfinite(latency.p99_ms)):
                raise ValueError("a latency is not finite")
        return cls(
            Choice.from_json(data["choice"]), latency, accuracy, str(data["failed"]), int(data["bytes"]), str(data["graph"])
        )


class Journal:
    """The file of one search; closed after each line, so nothing is left open.

    Args:
        file: made when the first candidate is added.
        head: what the figures belong to (model, machine, frames); the first line. A file with another one is begun anew.
    """

    def __init__(self, file: Path, head: Mapping[str, Any]) -> None:
        self.file, self.head = file, {"schema": SCHEMA, **head}
        self._records: dict[str, Record] = {}
        whole = self._read() if file.is_file() else 0
        if file.is_file():
            os.truncate(file, whole)
        self.found = len(self._records)

    @property
    def records(self) -> list[Record]:
        """The latest of every candidate, in the order in which they were first measured."""
        return list(self._records.values())

    def get(self, choice: Choice) -> Record | None:
        return self._records.get(choice.key)

    def add(self, record: Record) -> None:
        """Note a candidate; it takes the place of what was known of it.

        Raises:
            OSError: the disk is full or not writable.
        """
        lines = [] if self.file.is_file() and self.file.stat().st_size else [self.head]
        lines.append(record.to_json())
        with self.file.open("a", encoding="utf-8") as out:
            out.write("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))
            out.flush()
            os.fsync(out.fileno())
        self._records[record.choice.key] = record

    def _read(self) -> int:
        """Take in what is whole; how many bytes that is."""
        whole = 0
        for i, line in enumerate(self.file.read_bytes().splitlines(keepends=True)):
            try:
                if not line.endswith(b"\n"):
                    break
                data = json.loads(line)
                if i == 0 and data != self.head:
                    return 0
                if i > 0:
                    record = Record.from_json(data)
                    self._records[record.choice.key] = record
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            whole += len(line)
        return whole
