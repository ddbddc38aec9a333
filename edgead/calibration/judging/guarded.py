"""What the accuracy guard (:mod:`edgead.calibration.judging.guard`) is given, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgead.calibration.judging.deviation import Deviation
from edgead.calibration.judging.layers import LayerError
from edgead.errors import ParityFailed
from edgead.parity import Answers
from edgead.types import Engine


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
        max_layers: at most so many are tried one at a time.
        max_float: share of the layers that may be float when further ones go back in groups: with more, there is little left to
            be faster than the float engine.
        max_s: no further one is tried after so many seconds.
        sensitivity_s: about how long the error of all layers together may take to measure.
        always_blame: measure the error of each layer even when all limits hold (for the report).
        threads: CPU threads of the literal graph; None takes all cores.
    """

    max_layers: int = 8
    max_float: float = 0.75
    max_s: float = 900.0
    sensitivity_s: float = 60.0
    always_blame: bool = False
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One layer that was tried in float, or several that were together.

    Attributes:
        layer: its name; of several, their number and the first one's.
        nodes: how many nodes that is.
        alone: score deviation that INT8 in this layer alone causes; of several, the largest.
        cost_ms: what it costs in float: difference of the medians of an interleaved measurement, not below 0.
        engine: that was timed, the one farthest from the trained model.
        before, after: that engine's score deviation without and with this layer in float.
        kept: it stayed float; False: it did not help, or not beside the others, and went back to INT8.
        flips_before, flips_after: the engine's labels that differ without and with it.
        layers: how many layers that is.
    """

    layer: str
    nodes: int
    alone: float
    cost_ms: float
    engine: str
    before: float
    after: float
    kept: bool
    flips_before: int = 0
    flips_after: int = 0
    layers: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """An engine that does not answer as the trained model did.

    Attributes:
        engine: its name.
        why: the limits that it breaks with the figures, and what was tried.
        hint: what to do about it.
    """

    engine: str
    why: str
    hint: str

    def __str__(self) -> str:
        return self.why if self.why.startswith(f"{self.engine} ") else f"{self.engine}: {self.why}"

    def to_json(self) -> dict[str, str]:
        return asdict(self)


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
        refused: engines that are over the limits in the end; the others are in force.
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
    refused: tuple[Refusal, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All but the answers."""
        engines = {n: d.to_json() | {"from_literal": self.from_literal.get(n)} for n, d in self.deviations.items()}
        return {
            "engines": engines,
            "refused": [refusal.engine for refusal in self.refused],
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

    def __init__(self, report: GuardReport) -> None:
        super().__init__("; ".join(map(str, report.refused)), hint=report.refused[0].hint)
        self.report = report
