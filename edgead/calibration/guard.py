"""The accuracy guard: is the INT8 engine still the trained model, and if not, which layers are to blame? (docs/guard.md)

What runs is the built engine itself, not a simulation, on held-out good frames and on defects. Beside it, on a few of the frames,
runs the literal float execution of the engine's own Q/DQ graph (ONNX Runtime without optimisation). It tells two faults apart:

- the literal graph is off as well: rounding to 8 bits loses too much in some layer. The guard measures every layer alone, times
  what the worst ones cost in float, and returns them one at a time, cheapest first, asking the engine again each time. Errors of
  layers are about independent and add in squares, so what a layer wins is its squared deviation, over the milliseconds it costs.
- the engine is off and the literal graph is not: its kernels compute something else than the graph says (usually saturation of
  8-bit weights on CPUs without VNNI). Unless that happens in one or two layers only, none is to blame, and the guard says so
  instead of searching.

The search is bounded in layers and in time; when nothing meets the limits, it says what was measured and there is no engine.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgead.calibration.deviation import Deviation, Limits, Yardstick
from edgead.calibration.layers import Graphs, LayerError, frames_within, layer_errors
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.timing import interleaved_ms
from edgead.errors import EngineError, ParityFailed
from edgead.parity import Answers, ask
from edgead.types import Engine, Image

KERNEL_FAULT = 0.1
"""Score deviation of an engine from its own literal graph from which its kernels may be at fault. Measured: up to 0.03 when only
roundings differ, 0.07 where OpenVINO moved a pair in front of a concatenation (SimpleNet on elpv)."""

FEW_LAYERS, MOST_OF_IT = 2, 0.8
"""Kernels are at fault in single layers, which may then be returned to float, when so many layers make so large a share of the
summed squares of the layers' kernel errors."""

SMALLEST_COST = 0.02
"""Share of the engine's latency that returning a layer is taken to cost at least: what timing cannot tell from nothing."""

HELPS = 0.98
"""A layer stays float when the engine's score deviation falls at least to this share."""

ROUNDS, FEW_ROUNDS, SLOW_MS = 9, 3, 100.0
"""Rounds in which a layer's cost is timed, fewer for engines slower than that."""

LIMIT_OPTIONS = {"score deviation": "--max-score-deviation", "labels flip": "--max-flips", "AUROC": "--max-auroc-drop"}

Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine that is made of the INT8 graph.

    Attributes:
        name: as it will stand in the bundle.
        build: INT8 graph (.onnx) -> the file that `open` takes: a new one in the graph's folder, or the graph itself.
        open: that file -> an engine. None: it does not run on this machine, so the literal graph stands in for it.
    """

    name: str
    build: Callable[[Path], Path]
    open: Callable[[Path], Engine] | None


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """How long the guard may look for layers to blame.

    Attributes:
        max_layers: at most so many are tried.
        max_s: no further one is tried after so many seconds.
        sensitivity_s: about how long the error of all layers together may take to measure.
        always_blame: measure the error of each layer even when all limits hold (for the report).
        threads: CPU threads of the literal graph; None takes all cores.
    """

    max_layers: int = 8
    max_s: float = 900.0
    sensitivity_s: float = 60.0
    always_blame: bool = False
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One layer that was tried in float.

    Attributes:
        layer: its name.
        nodes: how many nodes that is.
        alone: score deviation that INT8 in this layer alone causes.
        cost_ms: what it costs in float: difference of the medians of an interleaved measurement, not below 0.
        engine: that was timed, the one farthest from the trained model.
        before, after: that engine's score deviation without and with this layer in float.
        kept: it stayed float; False: it did not help, or not beside the others, and went back to INT8.
    """

    layer: str
    nodes: int
    alone: float
    cost_ms: float
    engine: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True, slots=True)
class GuardReport:
    """What the guard measured and did.

    Attributes:
        deviations: by engine, of what is left in the end.
        from_literal: by engine, score deviation from the literal execution of its own graph, on a few frames.
        literal: score deviation of that execution from the trained model on the same frames; None when there was none.
        broken: by engine, words for the limits that the graph as calibrated broke; empty when it passed at once.
        layers: error of each layer alone, largest first; empty when nobody needed it.
        layer_engine: the engine that was asked for it; "" without `layers`.
        steps: layers tried in float, in order.
        keep_float: names of the nodes that stayed float.
        simulated: engines that do not run here: the literal graph answered for them.
        answers: by engine, what it answered in the end, on the yardstick's frames.
        seconds: how long it took.
    """

    deviations: Mapping[str, Deviation]
    from_literal: Mapping[str, float]
    literal: float | None
    broken: Mapping[str, tuple[str, ...]]
    layers: tuple[LayerError, ...]
    layer_engine: str
    steps: tuple[Step, ...]
    keep_float: tuple[str, ...]
    simulated: tuple[str, ...]
    answers: Mapping[str, Answers] = field(repr=False)
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All but the answers."""
        engines = {n: d.to_json() | {"from_literal": self.from_literal.get(n)} for n, d in self.deviations.items()}
        return {
            "engines": engines,
            "simulated": list(self.simulated),
            "literal": self.literal,
            "broken_at_first": {name: list(words) for name, words in self.broken.items()},
            "layer_engine": self.layer_engine,
            "layers": [error.to_json() for error in self.layers],
            "steps": [asdict(step) for step in self.steps],
            "keep_float": list(self.keep_float),
            "seconds": round(self.seconds, 1),
        }


class GuardFailed(ParityFailed):
    """No INT8 engine within the limits; `report` holds what was measured."""

    def __init__(self, message: str, *, hint: str, report: GuardReport) -> None:
        super().__init__(message, hint=hint)
        self.report = report


def guard(
    float_graph: Path,
    int8_graph: Path,
    candidates: Sequence[Candidate],
    yardstick: Yardstick,
    limits: Limits,
    options: GuardOptions | None = None,
    report: Report = lambda stage, fraction: None,
) -> GuardReport:
    """Build the engines of an INT8 graph, measure them, and return layers to float until all are within the limits.

    Args:
        float_graph: ONNX.
        int8_graph: ONNX with Q/DQ pairs. Its folder gets the built engines, and it is overwritten when layers are returned to
            float, so that graph and engines are those that were measured. Another format is measured only, as it is.
        candidates: engines made of that graph.
        report: told the stage and the share of it that is done.

    Raises:
        GuardFailed: nothing meets the limits, or an engine's kernels do not compute what the graph says.
        EngineError: an engine does not build or run, or answers with values that are not finite.
    """
    with tempfile.TemporaryDirectory(prefix="edgead-guard-") as scratch:
        run = _Guard(int8_graph, candidates, yardstick, limits, options or GuardOptions(), report, Path(scratch))
        return run(float_graph)


@dataclass(frozen=True, slots=True)
class _State:
    """An INT8 graph with the nodes in `keep` float, and what its engines answered."""

    graph: Path
    keep: tuple[str, ...]
    answers: dict[str, Answers]
    found: dict[str, Deviation]
    broken: dict[str, tuple[str, ...]]


class _Guard:
    """One run; graphs that are tried go to numbered folders below `scratch`."""

    def __init__(
        self,
        int8_graph: Path,
        candidates: Sequence[Candidate],
        yardstick: Yardstick,
        limits: Limits,
        options: GuardOptions,
        report: Report,
        scratch: Path,
    ) -> None:
        self.target, self.candidates, self.yardstick, self.limits = int8_graph, candidates, yardstick, limits
        self.options, self.report, self.scratch = options, report, scratch
        self.began, self.tried = time.monotonic(), 0
        self.graphs: Graphs | None = None
        self.first: dict[str, tuple[str, ...]] = {}
        self.from_literal: dict[str, float] = {}
        self.literal: float | None = None
        self.layers: list[LayerError] = []
        self.layer_engine = ""
        self.steps: list[Step] = []

    def __call__(self, float_graph: Path) -> GuardReport:
        state = self._measure(self.target, ())
        self.first = state.broken
        if self.target.suffix != ".onnx":
            if state.broken:
                raise self._failed(state)
            return self._told(state)
        self.graphs = Graphs(float_graph, self.target)
        self._compare_with_literal(state)
        if (state.broken or self.options.always_blame) and self.graphs.nodes:
            self.layer_engine = self._worst(state).name
            self.layers = self._errors(self.graphs, self._worst(state))
        self._refuse_kernel_faults(state)
        state = self._search(state) if state.broken else state
        for candidate in self.candidates:
            if candidate.open is None:  # not needed until now
                candidate.build(self.target)
        return self._told(state)

    def _worst(self, state: _State) -> Candidate:
        """The engine farthest from the trained model, of those over a limit if there are any."""
        names = state.broken or state.found
        return max((c for c in self.candidates if c.name in names), key=lambda c: state.found[c.name].score_deviation)

    def _errors(self, graphs: Graphs, candidate: Candidate) -> list[LayerError]:
        return layer_errors(
            graphs,
            self.yardstick.images,
            self.yardstick.reference,
            open_engine=None if candidate.open is None else lambda graph: self._open(candidate, graph),
            max_s=self.options.sensitivity_s,
            threads=self.options.threads,
            report=lambda done: self.report("error of each layer", done),
        )

    def _measure(self, graph: Path, keep: tuple[str, ...]) -> _State:
        answers = {candidate.name: self._ask(candidate, graph) for candidate in self.candidates}
        found = {name: self.yardstick.measure(told) for name, told in answers.items()}
        words = {name: self.limits.broken(deviation, self.yardstick.pairs) for name, deviation in found.items()}
        return _State(graph, keep, answers, found, {name: told for name, told in words.items() if told})

    def _ask(self, candidate: Candidate, graph: Path) -> Answers:
        engine, images = self._open(candidate, graph), self.yardstick.images
        stage = candidate.name if graph == self.target else f"{candidate.name} with layers in float"

        def told() -> Iterator[Image]:
            for i, image in enumerate(images):
                yield image
                self.report(stage, (i + 1) / len(images))

        try:
            answers = ask(engine, told())
        finally:
            engine.close()
        if not (np.isfinite(answers.scores).all() and np.isfinite(answers.maps).all()):
            raise EngineError(f"{candidate.name} gives values that are not finite", hint="please report it")
        return answers

    def _open(self, candidate: Candidate, graph: Path) -> Engine:
        return self._literal_engine(graph) if candidate.open is None else candidate.open(candidate.build(graph))

    def _literal_engine(self, graph: Path) -> Engine:
        return OnnxRuntimeEngine(graph, threads=self.options.threads, literal=True)

    def _compare_with_literal(self, state: _State) -> None:
        """Literal execution on a few frames, against the trained model and against every engine."""
        engine, yardstick = self._literal_engine(state.graph), self.yardstick
        try:
            frames = frames_within(engine, yardstick.images, yardstick.reference, self.options.sensitivity_s / 2)
            literal = ask(engine, [yardstick.images[i] for i in frames])
        finally:
            engine.close()

        def off(answers: Answers) -> float:
            return yardstick.score_deviation(literal, Answers(answers.scores[frames], answers.maps[frames]))

        self.literal = off(yardstick.reference)
        self.from_literal = {name: off(answers) for name, answers in state.answers.items()}

    def _refuse_kernel_faults(self, state: _State) -> None:
        """Raises GuardFailed unless the kernels err in a few layers only, which can be returned to float."""
        assert self.literal is not None
        squares = sorted((error.kernel**2 for error in self.layers), reverse=True)
        single = sum(squares[:FEW_LAYERS]) >= MOST_OF_IT * sum(squares) and len(squares) > FEW_LAYERS and not self.steps
        for name, words in state.broken.items():
            off = self.from_literal[name]
            if off <= KERNEL_FAULT or off <= self.literal or (single and name == self._worst(state).name):
                continue
            raise GuardFailed(
                f"{name}: {', '.join(words)}; INT8 itself is not to blame but the kernels on this machine: the engine is "
                f"{off:.2g} score deviations away from its own graph, the graph {self.literal:.2g} from the trained model; "
                "no bundle written",
                hint="use 7-bit weights (--weight-bits 7), another --backend, or --precision fp32",
                report=self._told(state),
            )

    def _search(self, state: _State) -> _State:
        """Return layers to float, the best trade first, until all limits hold."""
        candidate = self._worst(state)
        worst = candidate.name
        costs, floor_ms = self._costs(candidate)
        for i in sorted(costs, key=lambda i: -(self.layers[i].score_deviation ** 2) / max(costs[i], floor_ms)):
            if time.monotonic() - self.began > self.options.max_s:
                break
            error = self.layers[i]
            keep = (*state.keep, *error.layer.nodes)
            tried = self._measure(self._variant(keep), keep)
            before, after = (s.found[worst].score_deviation for s in (state, tried))
            kept = after < HELPS * before
            self.steps.append(
                Step(error.layer.name, len(error.layer.nodes), error.score_deviation, costs[i], worst, before, after, kept)
            )
            state = tried if kept else state
            if not state.broken:
                state = self._without_the_needless(state)
                shutil.copytree(state.graph.parent, self.target.parent, dirs_exist_ok=True)
                self._compare_with_literal(state)
                return state
        self._compare_with_literal(state)
        self._refuse_kernel_faults(state)
        raise self._failed(state)

    def _without_the_needless(self, state: _State) -> _State:
        """Put layers back that turn out not to be needed beside those returned after them, the least helpful first."""
        kept = [i for i, step in enumerate(self.steps) if step.kept][:-1]
        for i in sorted(kept, key=lambda i: self.steps[i].before - self.steps[i].after):
            if time.monotonic() - self.began > self.options.max_s:
                break
            layer = next(error.layer for error in self.layers if error.layer.name == self.steps[i].layer)
            keep = tuple(node for node in state.keep if node not in layer.nodes)
            tried = self._measure(self._variant(keep), keep)
            if not tried.broken:
                state, self.steps[i] = tried, replace(self.steps[i], kept=False)
        return state

    def _costs(self, candidate: Candidate) -> tuple[dict[int, float], float]:
        """Milliseconds that each of the worst layers costs in float, by its place in `layers`, and what counts as nothing."""
        assert self.graphs is not None
        worst = self.layers[: self.options.max_layers]
        if candidate.open is None:
            return dict.fromkeys(range(len(worst)), 0.0), 1.0
        costs: dict[int, float] = {}
        image, base_ms = self.yardstick.images[0], 0.0
        int8 = self._open(candidate, self.target)
        try:
            rounds = FEW_ROUNDS if interleaved_ms({"": int8}, image, 1)[""] > SLOW_MS else ROUNDS
            for i, error in enumerate(worst):
                engine = self._open(candidate, self._variant(error.layer.nodes))
                try:
                    ms = interleaved_ms({"int8": int8, "float": engine}, image, rounds)
                finally:
                    engine.close()
                base_ms, costs[i] = ms["int8"], max(0.0, ms["float"] - ms["int8"])
                self.report("cost of layers", (i + 1) / len(worst))
        finally:
            int8.close()
        return costs, SMALLEST_COST * base_ms

    def _variant(self, keep: Sequence[str]) -> Path:
        assert self.graphs is not None
        self.tried += 1
        folder = self.scratch / str(self.tried)
        folder.mkdir()
        self.graphs.write(folder / self.target.name, keep)
        return folder / self.target.name

    def _failed(self, state: _State) -> GuardFailed:
        told = "; ".join(f"{name}: {', '.join(words)}" for name, words in state.broken.items())
        kept = sum(step.kept for step in self.steps)
        if self.layers:
            worst = self.layers[0]
            told += f"; {len(self.steps)} of {len(self.layers)} layers tried in float, {kept} helped"
            told += f" (worst: {worst.layer.name}, {worst.score_deviation:.2g} alone)"
        options = [option for word, option in LIMIT_OPTIONS.items() if word in told]
        return GuardFailed(
            f"{told}; no bundle written",
            hint=f"try --precision fp32, more varied --calibration pictures, or a wider {' and '.join(options)}",
            report=self._told(state),
        )

    def _told(self, state: _State) -> GuardReport:
        return GuardReport(
            deviations=state.found,
            from_literal=self.from_literal,
            literal=self.literal,
            broken=self.first,
            layers=tuple(self.layers),
            layer_engine=self.layer_engine,
            steps=tuple(self.steps),
            keep_float=tuple(self.graphs.names(state.keep)) if self.graphs else (),
            simulated=tuple(candidate.name for candidate in self.candidates if candidate.open is None),
            answers=state.answers,
            seconds=time.monotonic() - self.began,
        )
