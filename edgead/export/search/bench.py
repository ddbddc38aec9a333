"""Builds a candidate with the pieces that an export is made of, and measures it: time from picture to verdict, and accuracy."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgead.bundle import file_digest
from edgead.calibration.int8.half import to_half
from edgead.calibration.int8.observe import Ranges
from edgead.calibration.int8.targets import QuantizeOptions
from edgead.calibration.judging.deviation import paired_error
from edgead.calibration.judging.layers import Graphs, layer_errors
from edgead.calibration.pictures.screening import Reference
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.decision import Rule
from edgead.engines.timing import LatencyStats, interleaved
from edgead.export.builds import BUILDS
from edgead.export.graph import write_onnx
from edgead.export.kitchen import Kitchen, Report
from edgead.export.measure import trained_answers
from edgead.export.options import ExportOptions
from edgead.export.search.journal import Accuracy, Latency
from edgead.export.search.space import Choice, Size
from edgead.models.rewrites import Setting
from edgead.parity import Answers
from edgead.trained import CALIBRATION, HELD_OUT, WEIGHTS, load_model, read_card
from edgead.types import Engine, Image

BURST, QUICK_ROUNDS, FULL_ROUNDS = 5, 3, 40
"""Parts timed in a row, the engines taking turns: a first look has 15 parts, a full measurement 200."""

QUICK_S, FULL_S = 2.0, 20.0
DISTURBED, AGAIN = 1.15, 2
"""A measurement in which the reference engine was so many times slower than at its best is made again, so often at most."""

SKETCHED = 4
"""Pictures that rewrites and INT8 of a sketch are fitted on: enough for its time, not for its answers."""

FEWEST_FRAMES = 16
"""Of each kind, however slow the model is."""

SHARE_FOR_FRAMES = 0.1
"""Of the search's time, what the trained model's own answers may take."""


class Bench(Kitchen):
    """A kitchen in which candidates are made beside each other, timed and judged.

    Args:
        model_dir, options, per_class, report: as :class:`~edgead.export.kitchen.Kitchen` takes them; backends, precisions,
            rewrites and threads come from the candidates (per_class: see :func:`affordable_frames`).
        scratch: an empty folder for graphs and engines.
        frame: width and height of the camera's pictures.

    Raises:
        BadInput: no trained model, unusable pictures, or the region of interest does not fit the frame.
    """

    def __init__(
        self, model_dir: Path, options: ExportOptions, scratch: Path, frame: Size, per_class: int, report: Report
    ) -> None:
        int8 = options.calibration is not None or (model_dir / CALIBRATION).is_dir()
        super().__init__(model_dir, options, per_class, report, lossy=True, int8=int8)
        self.scratch = scratch
        self.picture: Image = self.recipe.as_camera(self.frames.held_out[0], *frame)
        self.recipe.apply(self.picture)
        self._graphs: dict[str, Path] = {}
        self._held_out: dict[Path, npt.NDArray[np.float32]] = {}
        self._ranges: dict[Path, Ranges] = {}
        self._quietest_ms = np.inf
        self._sketch: Bench | None = None
        self._is_sketch = False

    def sketch(self) -> Bench:
        """The same bench with so few calibration pictures (`SKETCHED`) that its engines are made fast: good for a look at the
        time, which hardly depends on the numbers in a graph."""
        if self._sketch is None:
            self._sketch = light = copy.copy(self)
            light._is_sketch = True
            light.scratch = self.scratch / "sketch"
            light.scratch.mkdir()
            if self.calibration is not None:
                few = self.calibration
                light.calibration = CalibrationSet.of(few.images[:SKETCHED], few.names[:SKETCHED])
            light._graphs, light._held_out, light._ranges = {}, {}, {}
        return self._sketch

    def ask(self) -> None:
        super().ask()
        self.trained = self.accuracy_of(self.reference)

    def accuracy_of(self, answers: Answers, original: Bench | None = None) -> Accuracy:
        """Against this bench's trained model; AUROC against the original one's when this one was trained again."""
        good, defect = (
            tuple(map(float, answers.scores[part.start : part.stop])) for part in (self.yardstick.good, self.yardstick.defect)
        )
        found = self.yardstick.measure(answers)
        assert found.auroc is not None and found.auroc_change is not None  # there are drawn defects at least
        change = found.auroc_change if original is None else found.auroc - original.trained.auroc
        error = found.auroc_error or 0.0
        if original is not None:
            sides = (np.asarray(original.trained.good, np.float32), np.asarray(original.trained.defect, np.float32))
            error = paired_error(sides, (np.asarray(good, np.float32), np.asarray(defect, np.float32)))
        return Accuracy(found.auroc, change, found.score_deviation, found.label_flips, found.frames, good, defect, error)

    def build(self, choice: Choice) -> Path:
        """The engine's file, made as an export makes it."""
        graph = self.graph(choice)
        folder = graph.parent / str(choice)
        file = folder / "built"
        if file.is_file():
            return Path(file.read_text("utf-8"))
        folder.mkdir(exist_ok=True)
        made = self.built(choice.job, graph, folder)
        file.write_text(str(made), "utf-8")
        return made

    def graph(self, choice: Choice) -> Path:
        """The ONNX graph that the choice's engine is made of."""
        kind = BUILDS[choice.job].graph
        whole = self._float_graph(choice.settings)
        if kind == "float":
            return whole
        if kind == "half":
            half = whole.with_name("model.fp16.onnx")
            if not half.is_file():
                to_half(whole, half, self.calibration)
            return half
        return self._int8_graph(whole, choice)

    def open(self, choice: Choice) -> Engine:
        return self.opened(choice.job, self.build(choice), choice.threads)

    def size_bytes(self, choice: Choice) -> int:
        """Of the engine's files: an IR's weights lie beside it."""
        made = self.build(choice)
        return sum(file.stat().st_size for file in {made, made.with_suffix(".bin")} if file.is_file())

    def digest(self, choice: Choice) -> str:
        return file_digest(self.graph(choice))

    def answers(self, choice: Choice) -> Answers:
        """On all frames.

        Raises:
            EngineError: values that are not finite.
        """
        with closing(self.open(choice)) as engine:
            answers = self.answered(engine, f"{choice}: accuracy")
        self.refuse_not_finite(str(choice), answers.scores)
        return answers

    def verdict(self, engine: Engine) -> Callable[[], object]:
        """From the camera's picture to the verdict, once."""
        recipe, picture, rule = self.recipe, self.picture, Rule(self.rule.trained.value)

        def inspect() -> object:
            return rule.decide(*engine.infer(recipe.apply(picture)))

        return inspect

    def latency(self, engine: Engine, reference: Callable[[], object], full: bool, again: int = AGAIN) -> Latency:
        """Time an engine beside the reference, up to so many times again when the machine was busy with something else meanwhile;
        the measurement in which the reference was fastest counts."""
        rounds, max_s = (FULL_ROUNDS, FULL_S) if full else (QUICK_ROUNDS, QUICK_S)
        calls = {"reference": reference, "candidate": self.verdict(engine)}
        burst = {"reference": 1, "candidate": BURST}
        best: dict[str, LatencyStats] = {}
        for _ in range(1 + again):
            found = interleaved(calls, rounds=rounds, max_s=max_s, burst=burst)
            if not best or found["reference"].p50_ms < best["reference"].p50_ms:
                best = found
            self._quietest_ms = min(self._quietest_ms, best["reference"].p50_ms)
            disturbed = best["reference"].p50_ms > DISTURBED * self._quietest_ms
            if not disturbed:
                break
        took = best["candidate"]
        return Latency(took.p50_ms, took.p99_ms, took.n, best["reference"].p50_ms, full, disturbed)

    def worst_layers(self, choice: Choice) -> list[tuple[str, ...]]:
        """Names of the nodes of each group of layers, the one first that INT8 loses most in."""
        plain = replace(choice, keep_float=())
        graphs = Graphs(self._float_graph(plain.settings), self.graph(plain))
        errors = layer_errors(
            graphs, self.yardstick.images, self.reference, max_s=self.options.guard.sensitivity_s, threads=self.options.threads,
            report=self.told("error of each layer"),
        )  # fmt: skip
        return [tuple(graphs.names(error.layer.nodes)) for error in errors]

    def frames_digest(self) -> str:
        """SHA-256 of all frames and the calibration pictures."""
        sha = hashlib.sha256()
        for image in self.frames.all:
            sha.update(repr(image.shape).encode() + image.tobytes())
        if self.calibration is not None:
            sha.update(self.calibration.digest.encode())
        return sha.hexdigest()

    def _float_graph(self, settings: Mapping[str, Setting]) -> Path:
        key = repr(sorted(settings.items()))
        if key not in self._graphs:
            self.report("ONNX", 0.0)
            folder = self.scratch / str(len(self._graphs))
            folder.mkdir()
            detector, _ = self.rewritten(settings)
            graph = folder / "model.onnx"
            write_onnx(detector, graph)
            self._graphs[key] = graph
            if not self._is_sketch:
                self._held_out[graph] = self.frames.held_out_scores(self.reference)
                if settings or self.options.rewrites:  # scores of its own
                    self._held_out[graph] = trained_answers(detector, self.frames.held_out, lambda done: None).scores
        return self._graphs[key]

    def _int8_graph(self, whole: Path, choice: Choice) -> Path:
        target = self.target(choice.backend)
        folder = whole.parent / _int8_name(target.options, choice.keep_float)
        graph = folder / ("openvino/int8.xml" if self.options.tool == "nncf" else "model.int8.onnx")
        if not graph.is_file():
            if whole not in self._ranges:
                known = None if self._is_sketch else Reference(self.frames.held_out, self._held_out[whole])
                unsafe = self._is_sketch or self.options.allow_unsafe
                self._ranges[whole] = self.ranges(whole, known, allow_unsafe=unsafe)
            graph.parent.mkdir(parents=True, exist_ok=True)
            self.quantize(whole, graph, target, choice.keep_float, self._ranges[whole])
        return graph


def _int8_name(options: QuantizeOptions, keep_float: tuple[str, ...]) -> str:
    kept = hashlib.sha256("\n".join(keep_float).encode()).hexdigest()[:8]
    return f"int8-w{options.weight_bits}-{kept}"


def affordable_frames(model_dir: Path, wanted: int, search_s: float) -> int:
    """Frames of each kind that the trained model can answer in `SHARE_FOR_FRAMES` of the time, `FEWEST_FRAMES` at least."""
    detector, _ = load_model(model_dir)
    height, width = detector.image_size
    picture = torch.zeros((1, height, width, 3), dtype=torch.uint8)
    with torch.inference_mode():
        detector(picture)
        began = time.perf_counter()
        detector(picture)
    each_s = max(time.perf_counter() - began, 1e-6)
    return min(wanted, max(FEWEST_FRAMES, int(SHARE_FOR_FRAMES * search_s / (3 * each_s))))


def model_digest(model_dir: Path) -> str:
    """SHA-256 of everything in a trained model's folder that an export looks at, but for the time at which it was made: other
    tools' files are imported anew each time."""
    card = read_card(model_dir)
    told = replace(card, origin=replace(card.origin, created_at="")).to_json()
    sha = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for file in sorted(p for p in model_dir.rglob("*") if p.is_file()):
        if file.name == WEIGHTS or file.parent.name in (HELD_OUT, CALIBRATION):
            sha.update(file.relative_to(model_dir).as_posix().encode() + b"\0" + file_digest(file).encode())
    return sha.hexdigest()


def facts_of(options: ExportOptions, frame: Size) -> dict[str, Any]:
    """What of the options changes any figure, JSON-able."""
    return {
        "frame": list(frame),
        "weight_bits": options.weight_bits,
        "observer": options.observer,
        "tool": options.tool,
        "calibration_count": options.calibration_count,
        "max_false_reject": options.max_false_reject,
        "rewrites": dict(options.rewrites),
        "left_out": list(options.left_out),
        "tensorrt": repr(options.tensorrt),
    }
