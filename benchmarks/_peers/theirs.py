"""anomalib's trained model, engines and answers for one case, made once and kept below the case's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._peers.case import Case, lite0_weights
from benchmarks._peers.process import Worker

FILES = {"openvino": "openvino", "openvino-f32": "openvino", "openvino-fixed": "openvino-fixed", "int8_ptq": "int8_ptq"}
"""Variant -> the export that it runs."""

SHARE = 0.01
"""Of all patches that PatchCore's bank keeps; edgead gets as many rows."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Scores and labels (True: anomalous) of the judged pictures, in the case's order."""

    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Theirs:
    """anomalib's side of one case.

    Attributes:
        checkpoint: Lightning's file.
        engines: export -> IR.
        made: what training told.
        answers: variant ("torch" or of `FILES`) -> its answers.
    """

    checkpoint: Path
    engines: dict[str, Path]
    made: dict[str, Any]
    answers: dict[str, Answers]

    def file(self, variant: str) -> Path:
        return self.checkpoint if variant == "torch" else self.engines[FILES[variant]]


def make(worker: Worker, case: Case, size: int, cache: Path) -> Theirs:
    """Train, export and ask what is not there yet.

    Raises:
        WorkerFailed: anomalib could not.
    """
    folder, px = case.folder / "anomalib-patchcore", [size, size]
    checkpoint, weights = folder / "model.ckpt", lite0_weights(cache / "lite0.npz")
    made = _once(folder / "trained.json", lambda: worker.ask(
        "train", data=case.data, out=checkpoint, weights=weights, size=px, share=SHARE, seed=case.seed,
    ))  # fmt: skip
    engines = _once(folder / "exported.json", lambda: worker.ask(
        "export", checkpoint=checkpoint, data=case.data, out=folder, size=px,
    ))  # fmt: skip
    answers = {}
    for variant in ("torch", *FILES):
        kept = folder / f"{variant}.npz"
        if not kept.is_file() and variant == "torch":
            worker.ask("predict", checkpoint=checkpoint, folder=case.judged, out=kept)
        elif not kept.is_file():
            worker.ask("infer", variant=variant, file=engines[FILES[variant]], folder=case.judged, out=kept, size=px)
        answers[variant] = _read(kept, case.names())
    return Theirs(checkpoint, {name: Path(file) for name, file in engines.items()}, made, answers)


def _once(kept: Path, make: Any) -> Any:
    if not kept.is_file():
        told = make()
        kept.write_text(json.dumps(told), "utf-8")
    return json.loads(kept.read_text("utf-8"))


def _read(file: Path, names: list[str]) -> Answers:
    with np.load(file, allow_pickle=False) as found:
        place = {str(name): i for i, name in enumerate(found["names"])}
        order = [place[name] for name in names]
        return Answers(found["scores"][order], found["labels"][order])
