"""What an export is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgead.calibration.int8.targets import QuantizeOptions
from edgead.calibration.judging.deviation import Limits
from edgead.calibration.judging.guarded import GuardOptions
from edgead.errors import BadInput
from edgead.export.builds import BACKENDS, BUILDS, PRECISIONS
from edgead.export.tensorrt import BuildOptions
from edgead.measured import Search
from edgead.models.rewrites import Setting

Job = tuple[str, str]
"""(backend, precision) of an engine."""


def name_of(job: Job) -> str:
    """The engine's name in the bundle."""
    return f"{job[0]}-{job[1]}"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to build and what to accept.

    Attributes:
        backends: of `BACKENDS`; None takes those that are installed.
        precisions: of `PRECISIONS`; a backend is built in those that it has. None: FP32 and INT8.
        weight_bits: of INT8, 7 or 8; None lets each target decide.
        observer: how INT8 activation ranges are chosen, ``"minmax"``, ``"mse"`` or ``"percentile"``.
        tool: ``"edgead"`` or ``"nncf"`` makes the INT8 graph.
        calibration: folder of good pictures for INT8; None takes those that training set aside.
        calibration_count: at most so many of them are used.
        allow_unsafe: go on with calibration pictures that look wrong (too few, odd ones); findings stay in the bundle.
        labelled: MVTec-style folder with labelled test pictures; None takes the one known from training, if it is still there.
        frames_per_class: at most so many frames of each kind (held out, good, defect) are compared.
        golden_count: frames stored in the bundle for `edgead verify`.
        limits: what is tolerated of an INT8 or FP16 engine.
        guard: how long the guard may look for layers to blame.
        rewrites: those asked for (:mod:`edgead.models.rewrites`) with their settings; what is on by default needs no mention.
        left_out: rewrites not to apply.
        keep_float: nodes of the float graph that INT8 leaves in float from the start.
        search: what a search for these options found, for the manifest.
        max_false_reject: choose thresholds by this share of good parts; None keeps what training chose.
        report: also write what was measured to this .html or .md file, even when the export fails over it.
        tensorrt: how TensorRT builds; other backends take no notice.
        threads: CPU threads; None takes all cores.
    """

    backends: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    weight_bits: int | None = None
    observer: str = "minmax"
    tool: str = "edgead"
    calibration: Path | None = None
    calibration_count: int = 64
    allow_unsafe: bool = False
    labelled: Path | None = None
    frames_per_class: int = 100
    golden_count: int = 8
    limits: Limits = field(default_factory=Limits)
    guard: GuardOptions = field(default_factory=GuardOptions)
    rewrites: Mapping[str, Setting] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    keep_float: tuple[str, ...] = ()
    search: Search = field(default_factory=Search)
    max_false_reject: float | None = None
    report: Path | None = None
    tensorrt: BuildOptions = field(default_factory=BuildOptions)
    threads: int | None = None

    def __post_init__(self) -> None:
        for given, known in ((self.backends, tuple(BACKENDS)), (self.precisions, PRECISIONS)):
            unknown = sorted(set(given or ()) - set(known))
            if unknown or given == ():
                raise BadInput(f"cannot export for {', '.join(unknown) or 'nothing'}", hint=f"choose from {', '.join(known)}")
        if min(self.calibration_count, self.golden_count) < 1 or self.frames_per_class < 2:
            raise BadInput("a count of frames is too small", hint="at least 1 golden and calibration frame, 2 frames per class")
        if self.max_false_reject is not None and not 0.0 < self.max_false_reject < 1.0:
            raise BadInput(f"a false reject share of {self.max_false_reject} is not usable", hint="give a number between 0 and 1")
        QuantizeOptions(self.weight_bits or 7, self.observer, tool=self.tool)

    def jobs(self, backends: Sequence[str]) -> tuple[Job, ...]:
        """Every engine to build, precision by precision.

        Raises:
            BadInput: no backend has one of the precisions.
        """
        wanted = self.precisions or ("fp32", "int8")
        found = tuple((b, p) for p in wanted for b in backends if (b, p) in BUILDS)
        for missing in set(wanted) - {precision for _, precision in found}:
            has = sorted({precision for backend, precision in BUILDS if backend in backends})
            raise BadInput(f"{', '.join(backends)} cannot be built in {missing}", hint=f"choose from {', '.join(has)}")
        return found
