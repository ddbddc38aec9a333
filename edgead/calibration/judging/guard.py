"""The accuracy guard: is the INT8 engine still the trained model, and if not, which layers are to blame? (docs/guard.md)

What runs is the built engine itself, not a simulation, on held-out good frames and on defects. Beside it, on a few of the frames,
runs the literal float execution of the engine's own Q/DQ graph (ONNX Runtime without optimisation). It tells two faults apart:

- the literal graph is off as well: rounding to 8 bits loses too much in some layer. The guard measures every layer alone, times
  what the worst ones cost in float, and returns them one at a time, cheapest first, asking the engine again each time. Errors of
  layers are about independent and add in squares, so what a layer wins is its squared deviation, over the milliseconds it costs.
- the engine is off and the literal graph is not: its kernels compute something else than the graph says (usually saturation of
  8-bit weights on CPUs without VNNI). Unless that happens in one or two layers only, none is to blame, and the guard says so
  instead of searching.

When single layers are not enough, the next worst go back together, in ever larger groups, as long as the rest may still be good
enough. The search is bounded in layers and in time. What meets the limits then is kept, what does not is refused, each engine by
name and figures; of several engines of one graph, those that were within the limits keep theirs.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgead.calibration.judging.deviation import Deviation, Limits, Yardstick
from edgead.calibration.judging.guarded import Candidate, GuardFailed, GuardOptions, GuardReport, Refusal, Step
from edgead.calibration.judging.layers import Graphs, Layer, LayerError, frames_within, layer_errors
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.timing import interleaved_ms
from edgead.errors import EngineError
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
"""A layer stays float when the engine's score deviation falls at least to this share, or does not grow and fewer labels flip."""

PREDICTED = 2.0
"""Groups of layers are tried unless the rest alone is expected to be so many times farther off than is tolerated."""

ROUNDS, FEW_ROUNDS, SLOW_MS = 9, 3, 100.0
"""Rounds in which a layer's cost is timed, fewer for engines slower than that."""

LIMIT_OPTIONS = {"score deviation": "--max-score-deviation", "labels flip": "--max-flips", "AUROC": "--max-auroc-drop"}

Report = Callable[[str, float], None]

__all__ = ["Candidate", "GuardFailed", "GuardOptions", "GuardReport", "Refusal", "Step", "guard"]


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

    Engines that stay over them are in the report's `refused`; their files are still there, and the caller's to remove.

    Args:
        float_graph: ONNX.
        int8_graph: ONNX with Q/DQ pairs. Its folder gets the built engines, and it is overwritten when layers are returned to
            float, so that graph and engines are those that were measured. Another format is measured only, as it is.
        candidates: engines made of that graph.
        report: told the stage and the share of it that is done.

    Raises:
        GuardFailed: no engine meets the limits.
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
        self.target, self.candidates, self.yardstick, self.limits = int8_graph, list(candidates), yardstick, limits
        self.options, self.report, self.scratch = options, report, scratch
        self.began, self.tried = time.monotonic(), 0
        self.graphs: Graphs | None = None
        self.first: dict[str, tuple[str, ...]] = {}
        self.from_literal: dict[str, float] = {}
        self.literal: float | None = None
        self.layers: list[LayerError] = []
        self.layer_engine = ""
        self.steps: list[Step] = []
        self.refused: dict[str, Refusal] = {}
        self.out: dict[str, tuple[Answers, Deviation]] = {}  # of refused engines, what they answered

    def __call__(self, float_graph: Path) -> GuardReport:
        first = last = self._measure(self.target, ())
        self.first = first.broken
        if self.target.suffix == ".onnx":
            self.graphs = Graphs(float_graph, self.target)
            self._compare_with_literal(first)
            if (first.broken or self.options.always_blame) and self.graphs.nodes:
                self.layer_engine = self._worst(first).name
                self.layers = self._errors(self.graphs, self._worst(first))
            self._refuse_kernel_faults(first)
            first = last = self._of_the_rest(first)
            if first.broken:
                last = self._of_the_rest(self._search(first))
            if len(last.broken) > 1:
                last = self._one_by_one(self._of_the_rest(first), last)
        return self._told(self._settled(first, last))

    def _of_the_rest(self, state: _State) -> _State:
        """The state without engines that were refused meanwhile, which are not asked again."""
        self.candidates = [candidate for candidate in self.candidates if candidate.name not in self.refused]
        names = [candidate.name for candidate in self.candidates]
        return replace(
            state,
            answers={name: state.answers[name] for name in names},
            found={name: state.found[name] for name in names},
            broken={name: state.broken[name] for name in names if name in state.broken},
        )

    def _settled(self, first: _State, last: _State) -> _State:
        """Refuse what is over the limits, and make the graph in force that of the others: the one as calibrated, unless more
        engines keep the limits with layers in float. Raises GuardFailed."""
        first = self._of_the_rest(first)
        state = last if len(last.broken) < len(first.broken) else first
        for name in state.broken:
            off = last if name in last.broken else state
            self._refuse(off, name, *self._why(off, name))
        state = self._of_the_rest(state)
        if not self.candidates:
            raise GuardFailed(self._told(state))
        if state.graph != self.target:
            shutil.copytree(state.graph.parent, self.target.parent, dirs_exist_ok=True)
        if self.steps:
            self._compare_with_literal(state)
        for candidate in self.candidates:
            if candidate.open is None:  # not needed until now
                candidate.build(self.target)
        return state

    def _refuse(self, state: _State, name: str, why: str, hint: str) -> None:
        self.refused[name] = Refusal(name, why, hint)
        self.out[name] = state.answers[name], state.found[name]

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
        self.from_literal |= {name: off(answers) for name, answers in state.answers.items()}

    def _refuse_kernel_faults(self, state: _State) -> None:
        """Refuse engines whose kernels err, unless they do in a few layers only, which can be returned to float."""
        assert self.literal is not None
        squares = sorted((error.kernel**2 for error in self.layers), reverse=True)
        single = sum(squares[:FEW_LAYERS]) >= MOST_OF_IT * sum(squares) and len(squares) > FEW_LAYERS and not self.steps
        worst = self._worst(state).name
        for name, words in state.broken.items():
            off = self.from_literal[name]
            if off <= KERNEL_FAULT or off <= self.literal or (single and name == worst):
                continue
            why = (
                f"{', '.join(words)}; INT8 itself is not to blame but the kernels on this machine: the engine is {off:.2g} score "
                f"deviations away from its own graph, the graph {self.literal:.2g} from the trained model"
            )
            self._refuse(state, name, why, "use 7-bit weights (--weight-bits 7), another --backend, or --precision fp32")

    def _search(self, state: _State) -> _State:
        """Return layers to float until all limits hold: one at a time, the best trade first, then in groups."""
        candidate = self._worst(state)
        costs, floor_ms = self._costs(candidate)
        for i in sorted(costs, key=lambda i: -(self.layers[i].score_deviation ** 2) / max(costs[i], floor_ms)):
            if self._late() or not state.broken:
                break
            state = self._try(state, candidate.name, self.layers[i], costs[i])
        state = self._groups(state, candidate.name) if state.broken else self._without_the_needless(state)
        if state.broken:
            self._compare_with_literal(state)
            self._refuse_kernel_faults(state)
        return state

    def _one_by_one(self, first: _State, last: _State) -> _State:
        """No graph was found that serves all engines: one that serves one of them, the nearest to the trained model first, and
        whoever else it serves."""
        everyone = self.candidates
        for name in sorted(last.broken, key=lambda name: last.found[name].score_deviation):
            self.candidates = [candidate for candidate in everyone if candidate.name == name or candidate.name not in last.broken]
            self.steps = [replace(step, kept=False) for step in self.steps]
            state = self._search(self._of_the_rest(first))
            self.candidates = everyone
            if not state.broken:
                return self._of_the_rest(self._measure(state.graph, state.keep))
            if self._late():
                break
        return self._of_the_rest(last)

    def _try(self, state: _State, worst: str, error: LayerError, cost_ms: float) -> _State:
        """The state with this layer in float as well, when that helps."""
        nodes = error.layer.nodes
        keep = (*state.keep, *nodes)
        tried = self._measure(self._variant(keep), keep)
        before, after = state.found[worst], tried.found[worst]
        fewer = after.label_flips < before.label_flips and after.score_deviation <= before.score_deviation
        kept = not tried.broken or after.score_deviation < HELPS * before.score_deviation or fewer
        self.steps.append(
            Step(
                error.layer.name, len(nodes), error.score_deviation, cost_ms, worst, before.score_deviation,
                after.score_deviation, kept, before.label_flips, after.label_flips,
            )
        )  # fmt: skip
        return tried if kept else state

    def _groups(self, state: _State, worst: str) -> _State:
        """The layers that are left, worst first: as many as are float already, then twice as many, and so on; of the group that
        is enough, as few as are. The state as it was when none is enough."""
        left = [error for error in self.layers if not set(error.layer.nodes) <= set(state.keep)]
        room = int(self.options.max_float * len(self.layers)) - (len(self.layers) - len(left))
        size = max(2, len(self.layers) - len(left))
        while not self._late() and room > 1 and not self._hopeless(left[min(size, room) :], state):
            count = min(size, room)
            tried = self._try(state, worst, _together(left[:count]), self._cost(left[:count], worst))
            if not tried.broken:
                return self._fewest(state, tried, left[:count])
            self.steps[-1] = replace(self.steps[-1], kept=False, layers=count)
            if count == room:
                break
            size *= 2
        return state

    def _hopeless(self, rest: Sequence[LayerError], state: _State) -> bool:
        """Whether what these layers err in INT8 (their errors add in squares) is far more than is tolerated."""
        alone = float(np.sqrt(sum(error.score_deviation**2 for error in rest)))
        over = any(d.score_deviation > self.limits.max_score_deviation for d in state.found.values())
        return over and alone > PREDICTED * self.limits.max_score_deviation

    def _fewest(self, before: _State, enough: _State, group: Sequence[LayerError]) -> _State:
        """By halves: the fewest of the group, worst first, with which all limits hold."""
        low, high = 0, len(group)
        while high - low > 1 and not self._late():
            middle = (low + high) // 2
            keep = (*before.keep, *(node for error in group[:middle] for node in error.layer.nodes))
            tried = self._measure(self._variant(keep), keep)
            low, high, enough = (low, middle, tried) if not tried.broken else (middle, high, enough)
        step, told = self.steps[-1], _together(group[:high])
        after = enough.found[step.engine]
        cost = step.cost_ms if high == len(group) else self._cost(group[:high], step.engine)
        self.steps[-1] = replace(
            step, layer=told.layer.name, nodes=len(told.layer.nodes), cost_ms=cost, after=after.score_deviation,
            flips_after=after.label_flips, layers=high,
        )  # fmt: skip
        return enough

    def _late(self) -> bool:
        return time.monotonic() - self.began > self.options.max_s

    def _without_the_needless(self, state: _State) -> _State:
        """Put layers back that turn out not to be needed beside those returned after them, the least helpful first."""
        kept = [i for i, step in enumerate(self.steps) if step.kept][:-1]
        for i in sorted(kept, key=lambda i: self.steps[i].before - self.steps[i].after):
            if self._late():
                break
            layer = next(error.layer for error in self.layers if error.layer.name == self.steps[i].layer)
            keep = tuple(node for node in state.keep if node not in layer.nodes)
            tried = self._measure(self._variant(keep), keep)
            if not tried.broken:
                state, self.steps[i] = tried, replace(self.steps[i], kept=False)
        return state

    def _costs(self, candidate: Candidate) -> tuple[dict[int, float], float]:
        """Milliseconds that each of the worst layers costs in float, by its place in `layers`, and what counts as nothing."""
        worst = self.layers[: self.options.max_layers]
        if candidate.open is None:
            return dict.fromkeys(range(len(worst)), 0.0), 1.0
        costs, base_ms = self._timed(candidate, [error.layer.nodes for error in worst])
        return dict(enumerate(costs)), SMALLEST_COST * base_ms

    def _cost(self, errors: Sequence[LayerError], name: str) -> float:
        """What several layers cost together."""
        candidate = next(candidate for candidate in self.candidates if candidate.name == name)
        return 0.0 if candidate.open is None else self._timed(candidate, [_together(errors).layer.nodes])[0][0]

    def _timed(self, candidate: Candidate, sets: Sequence[Sequence[str]]) -> tuple[list[float], float]:
        """Milliseconds that each of these sets of nodes costs in float, and that the INT8 engine as calibrated takes."""
        image, base_ms = self.yardstick.images[0], 0.0
        costs: list[float] = []
        with closing(self._open(candidate, self.target)) as int8:
            rounds = FEW_ROUNDS if interleaved_ms({"": int8}, image, 1)[""] > SLOW_MS else ROUNDS
            for i, nodes in enumerate(sets):
                with closing(self._open(candidate, self._variant(nodes))) as engine:
                    ms = interleaved_ms({"int8": int8, "float": engine}, image, rounds)
                base_ms = ms["int8"]
                costs.append(max(0.0, ms["float"] - ms["int8"]))
                self.report("cost of layers", (i + 1) / len(sets))
        return costs, base_ms

    def _variant(self, keep: Sequence[str]) -> Path:
        assert self.graphs is not None
        self.tried += 1
        folder = self.scratch / str(self.tried)
        folder.mkdir()
        self.graphs.write(folder / self.target.name, keep)
        return folder / self.target.name

    def _why(self, state: _State, name: str) -> tuple[str, str]:
        """Why an engine is refused, and what to do about it."""
        told = ", ".join(state.broken[name])
        options = [option for word, option in LIMIT_OPTIONS.items() if word in told]
        if self.layers:
            worst, kept = self.layers[0], sum(step.kept for step in self.steps)
            tried = len({step.layer for step in self.steps if step.layers == 1})
            told += f"; {tried} of {len(self.layers)} layers tried in float, {kept} helped"
            if groups := dict.fromkeys(step.layer for step in self.steps if step.layers > 1 and not step.kept):
                told += f", nor did {' or '.join(groups)}"
            told += f" (worst: {worst.layer.name}, {worst.score_deviation:.2g} alone)"
        return told, f"try --precision fp32, more varied --calibration pictures, or a wider {' and '.join(options)}"

    def _told(self, state: _State) -> GuardReport:
        answers = {name: told for name, (told, _) in self.out.items()}
        found = {name: deviation for name, (_, deviation) in self.out.items()}
        return GuardReport(
            deviations=state.found | found,
            from_literal=self.from_literal,
            literal=self.literal,
            broken=self.first,
            layers=tuple(self.layers),
            layer_engine=self.layer_engine,
            steps=tuple(self.steps),
            keep_float=tuple(self.graphs.names(state.keep)) if self.graphs else (),
            simulated=tuple(candidate.name for candidate in self.candidates if candidate.open is None),
            answers=state.answers | answers,
            seconds=time.monotonic() - self.began,
            refused=tuple(self.refused.values()),
        )


def _together(errors: Sequence[LayerError]) -> LayerError:
    """Several layers as one."""
    first, nodes = errors[0], tuple(node for error in errors for node in error.layer.nodes)
    return replace(first, layer=Layer(f"{len(errors)} layers from {first.layer.name} on", nodes))
