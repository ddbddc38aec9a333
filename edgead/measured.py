"""What an export measured, as its manifest tells it: typed where anybody reads it again, the rest kept as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from edgead.parity import ParityReport
from edgead.typed import Always, Between, Count, FileName, Lenient, NotNegative, Rest, Share, Single

Change = Annotated[float, Between(-1.0, 1.0)]
"""Of an AUROC."""


@dataclass(frozen=True, slots=True)
class TrainedThreshold:
    """The trained model's own threshold, which the golden labels are read with."""

    value: Single
    method: str | None = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rewrite that was tried."""

    name: str
    setting: Any
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deviated:
    """How far an engine is from the trained model (:class:`edgead.calibration.judging.deviation.Deviation`)."""

    frames: Count
    score_deviation: float
    label_flips: Count
    auroc: Annotated[Share | None, Always()] = None
    auroc_change: Annotated[Change | None, Always()] = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """A layer that the guard returned to float: its error alone, its cost, and the score deviation and labels that flip of the
    engine that it was judged by, before and after."""

    layer: str
    alone: NotNegative
    cost_ms: float
    engine: str
    before: NotNegative
    after: NotNegative
    kept: bool
    flips_before: Count = 0
    flips_after: Count = 0
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the accuracy guard did to the INT8 graph (:class:`edgead.calibration.judging.guarded.GuardReport`)."""

    engines: dict[str, Deviated]
    keep_float: tuple[str, ...]
    steps: tuple[Step, ...]
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchAccuracy:
    """What a search measured of a candidate; `noise` is one standard error of the change of AUROC."""

    auroc: Share
    auroc_change: Change
    score_deviation: float = 0.0
    label_flips: Count = 0
    frames: Count = 0
    noise: float = 0.0
    within_loss: bool = True
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timed:
    """Time from the camera's picture to the verdict; `full`: from enough parts for a p99."""

    p50_ms: NotNegative
    p99_ms: NotNegative
    full: bool = True
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine that a search looked at.

    Attributes:
        front: no other is both faster and more accurate.
        failed: why it cannot be built or run; "" when it can.
        bytes, graph: of its files, and SHA-256 of the graph that it is made of.
        keep_float: nodes left float.
        accuracy, latency: None where it was not asked or timed.
    """

    name: str
    chosen: bool
    accuracy: SearchAccuracy | None
    latency: Annotated[Timed | None, Always()] = None
    backend: str = ""
    front: bool = False
    failed: str = ""
    bytes: int = 0
    graph: str = ""
    keep_float: tuple[str, ...] = ()
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)

    @property
    def p99_ms(self) -> float:
        """Infinite when it was not timed."""
        return self.latency.p99_ms if self.latency else float("inf")


@dataclass(frozen=True, slots=True)
class SearchChoice:
    """The engine that a search chose: with which threads (None: the engine's choice), lossy rewrites, nodes left float, and input
    size (width, height; None: the model's own)."""

    name: str
    backend: str = ""
    precision: str = ""
    rewrites: dict[str, Any] = field(default_factory=dict)
    threads: Annotated[Count | None, Always()] = None
    keep_float: tuple[str, ...] = ()
    size: Annotated[tuple[int, int] | None, Always()] = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchTrained:
    """The trained model on a search's frames; `drawn`: there were no labelled defects."""

    auroc: Share
    drawn: bool
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Search:
    """The search for a budget; nothing is said of one that there was not.

    Attributes:
        budget_ms: from the camera's picture to the verdict, at p99.
        chosen: None where nothing keeps the budget.
        built: the finished bundle's time.
        candidates: everything that was looked at.
        trained, limits, frame: what they were compared with, what may be lost, width and height of the camera's pictures.
        frames_per_class, calibration, calibration_count, labelled: how it was measured, for the same export once more.
        notes: what the user was told.
    """

    budget_ms: NotNegative | None = None
    chosen: Annotated[SearchChoice | None, Always()] = None
    built: Timed | None = None
    candidates: tuple[Candidate, ...] | None = None
    trained: SearchTrained | None = None
    limits: dict[str, float] | None = None
    frame: tuple[int, int] | None = None
    frames_per_class: Count | None = None
    calibration: Annotated[FileName | None, Always()] = None
    calibration_count: Count | None = None
    labelled: Annotated[FileName | None, Always()] = None
    notes: tuple[FileName, ...] | None = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)

    @property
    def taken(self) -> Candidate | None:
        """The chosen candidate."""
        return next((row for row in self.candidates or () if row.chosen), None)


@dataclass(frozen=True, slots=True)
class Choice:
    """By what and where the default engine was chosen: facts of the machine, and the least milliseconds of each engine."""

    machine: dict[str, Any] | None = None
    least_ms: dict[str, NotNegative] | None = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Noticed:
    """What training or export must say of the model (:class:`edgead.calibration.findings.Finding`)."""

    severity: str
    where: str
    message: str
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """An engine that the export left out, since it does not answer as the trained model did."""

    engine: str
    why: str
    hint: str
    figures: Annotated[Deviated | None, Always()] = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What an export measured.

    Attributes:
        threshold: the trained model's; None in bundles that do not state it.
        auroc: of the trained model on labelled frames; None without.
        frames: how many were compared, by kind.
        limits: what was tolerated.
        rewrites: those that were tried.
        search: for a budget.
        deviations, latency_ms: by engine.
        doubts: by engine, what is over a limit and tolerated, since the frames cannot tell it from nothing.
        refused: engines that were left out.
        guard: of each INT8 graph.
        literal: of engines built ahead of time, what their graphs answer when executed literally.
        choice: of the default engine.
        threads: of one inference.
        training: what training measured.
        labels: what was taken for good and for defects, in lines.
        judgement: what must be said of the model.
        carried: engine -> "" or why what the line had tuned is not carried over; None: nothing was tuned.
        rest: keys of other tools and newer edgeads, and what nobody reads again.
    """

    threshold: TrainedThreshold | None = None
    auroc: Annotated[Share | None, Always()] = None
    frames: dict[str, Count] = field(default_factory=dict)
    limits: dict[str, NotNegative] = field(default_factory=dict)
    rewrites: tuple[Rewritten, ...] = ()
    search: Search = field(default_factory=Search)
    deviations: dict[str, Deviated] = field(default_factory=dict)
    doubts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()
    guard: tuple[Guarded, ...] = ()
    literal: dict[str, Annotated[ParityReport, Lenient()]] = field(default_factory=dict)
    latency_ms: dict[str, NotNegative] = field(default_factory=dict)
    choice: Choice = field(default_factory=Choice)
    threads: Annotated[int, Between(1, 4096)] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    judgement: tuple[Noticed, ...] = ()
    carried: dict[str, str] | None = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)
