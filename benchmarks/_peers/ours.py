"""edgead's side of one case, made by its own commands: its own training and export, and an export of anomalib's checkpoint."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import edgead
from benchmarks._peers.case import Case
from benchmarks._peers.theirs import SHARE, Answers, Theirs
from edgead.budget import LatencyBudget
from edgead.bundle import Bundle
from edgead.clock import MonotonicClock
from edgead.engines import open_engine
from edgead.runtime.loop.inspector import Inspector
from edgead.trained import load_model
from edgead.training.evaluate import answers
from edgead.types import Frame, Image, Verdict

ENGINES = ("openvino-fp32", "openvino-int8")
REFUSED = 4
"""Exit code of an export that refused an engine."""


@dataclass(slots=True)
class Line:
    """One engine of a bundle behind the station's own inspector: from the camera's picture to a verdict."""

    inspector: Inspector
    engine: Any

    @classmethod
    def open(cls, bundle: Bundle, name: str, threads: int) -> Line:
        engine = open_engine(bundle, name, threads)
        rule = replace(bundle.manifest.engine(name).threshold.rule, unknown_band=None)
        return cls(Inspector(engine, bundle.manifest.preprocess, rule, LatencyBudget(None), MonotonicClock()), engine)

    def __call__(self, frame: Image) -> tuple[float, bool]:
        """Score, and whether the part is NG."""
        told = self.inspector.inspect(1, Frame(frame, "camera", 1, time.monotonic_ns()))
        if told.verdict is Verdict.UNKNOWN:
            raise RuntimeError(f"edgead did not answer: {told.cause}")
        return told.score, told.verdict is Verdict.NG

    def close(self) -> None:
        self.engine.close()


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle, and what its export refused ("" for nothing)."""

    bundle: Bundle
    refused: str
    source: str

    def engines(self) -> list[str]:
        return [record.name for record in self.bundle.manifest.engines if record.name in ENGINES]

    def answers(self, case: Case, engine: str) -> Answers:
        """Of the judged pictures, asked once and kept beside the bundle."""
        return kept_answers(self.bundle.path.with_name(f"{engine}.npz"), lambda: self._ask(case, engine))

    def _ask(self, case: Case, engine: str) -> Answers:
        line = Line.open(self.bundle, engine, os.cpu_count() or 1)
        try:
            return _answers(line, case)
        finally:
            line.close()


def trained(case: Case, size: int, keep: bool) -> tuple[Path, Made]:
    """`edgead train patchcore` with anomalib's number of rows and input size, and `edgead export`: model folder and bundle."""
    folder = case.folder / "edgead"
    made = _fresh(folder, keep)
    if not (folder / "model/model.json").is_file():
        rows = str(case.rows(SHARE, size))
        same = ("--coreset", rows, "--size", str(size), "--keep-aspect", "no", "--seed", str(case.seed))
        _edgead("train", "patchcore", case.data, "-o", folder / "model", *same)
    return folder / "model", _exported(folder, made, folder / "model")


def imported(case: Case, theirs: Theirs, keep: bool, exact: bool = False) -> Made:
    """`edgead export model.ckpt`: anomalib's weights, preprocessing and threshold in edgead's engines.

    Args:
        exact: with `--exact-resize`: the graph resizes in float, as in training, in place of a picture of 8 bits; the case's
            pictures must all have one size.
    """
    folder = case.folder / ("imported-exact" if exact else "imported-patchcore")
    made, how = _fresh(folder, keep), ["--exact-resize", case.one_size()] if exact else []
    return _exported(folder, made, theirs.checkpoint, "--images", case.data, *how)


def reference(case: Case, model: Path) -> tuple[Answers, float]:
    """What edgead's trained torch model answers, and its own threshold, which the labels are by."""
    detector, card = load_model(model)
    recipe, threshold = card.preprocess, card.threshold.value

    def ask(frame: Image) -> tuple[float, bool]:
        score = answers(detector, recipe.apply(frame))[0]
        return score, score >= threshold

    return kept_answers(model.with_name("torch.npz"), lambda: _answers(ask, case)), threshold


def kept_answers(file: Path, ask: Callable[[], Answers]) -> Answers:
    """What the file holds; what it lacks is asked."""
    if not file.is_file():
        told = ask()
        np.savez(file, scores=told.scores, labels=told.labels)
    with np.load(file, allow_pickle=False) as found:
        return Answers(found["scores"], found["labels"])


def source_digest() -> str:
    """Of edgead's own code: what was made by another is made again."""
    root = Path(edgead.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _fresh(folder: Path, keep: bool) -> str:
    """The digest of the code that makes, or made, what is in the folder; what other code made is deleted unless it is kept."""
    stamp, now = folder / "source", source_digest()
    if stamp.is_file() and (keep or stamp.read_text("utf-8") == now):
        return stamp.read_text("utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    stamp.write_text(now, "utf-8")
    return now


def _exported(folder: Path, source: str, model: Path, *arguments: str | Path) -> Made:
    """Export for OpenVINO with default limits; where INT8 is refused and nothing was left, FP32 alone."""
    target, told = folder / "bundle.edgead", folder / "refused"
    if not told.is_file():
        refused = _edgead("export", model, "-o", target, "--backend", "openvino", *arguments, refusable=True)
        if not target.is_dir():
            _edgead("export", model, "-o", target, "--backend", "openvino", "--precision", "fp32", *arguments)
        told.write_text(refused, "utf-8")
    return Made(Bundle.open(target), told.read_text("utf-8"), source)


def _edgead(*arguments: str | Path, refusable: bool = False) -> str:
    """Run one command of edgead; what it refused, in its own words.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    command = [sys.executable, "-m", "edgead.cli.main", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        return ""
    if refusable and ran.returncode == REFUSED:
        return next((line for line in ran.stderr.splitlines() if line.startswith("error")), "refused").strip()
    raise RuntimeError(f"{' '.join(command)} ended with {ran.returncode}: {ran.stderr.strip()[-800:]}")


def _answers(ask: Callable[[Image], tuple[float, bool]], case: Case) -> Answers:
    told = [ask(picture) for picture in case.judged_pictures()]
    return Answers(np.array([score for score, _ in told], np.float64), np.array([ng for _, ng in told], np.bool_))
