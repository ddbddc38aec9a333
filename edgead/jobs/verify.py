"""Does a bundle answer on this device as the trained model did? What is found for the first time is noted in it, and the default
engine is chosen for this kind of machine. Needs neither torch nor onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgead.bundle import Bundle, EngineRecord
from edgead.engines import choice
from edgead.engines.cuda import NoGpu
from edgead.engines.verify import Verification, note, verify_engine
from edgead.errors import BadInput, EngineError, MissingExtra, ParityFailed, StorageError
from edgead.jobs.progress import LeftOut, Progress, Ticking, silent
from edgead.signing import read_trusted


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What to check.

    Attributes:
        bundle: its folder.
        engine: one of its engines; None: all whose backend is installed.
        trusted: files of public keys, one of which must have signed it; empty: no signature is asked for.
        threads: CPU threads of one inference; None: the engine's choice.
        keep_default: do not choose the default engine anew for this machine.
    """

    bundle: Path
    engine: str | None = None
    trusted: tuple[Path, ...] = ()
    threads: int | None = None
    keep_default: bool = False

    def __post_init__(self) -> None:
        if self.keep_default and self.engine is not None:
            raise BadInput("--keep-default does not go with --engine", hint="with --engine no default is chosen")


@dataclass(frozen=True, slots=True)
class DefaultEngine:
    """How the default engine was looked at again, the bundle coming from another machine.

    Attributes:
        before, now: its name.
        least_ms: the shortest time of each engine that was timed, by its name.
        kept: why the one before stays without a choice: "" when there was one.
    """

    before: str
    now: str
    least_ms: Mapping[str, float] = field(default_factory=dict)
    kept: str = ""


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found.

    Attributes:
        bundle: its folder.
        sha256: of it now; `changed` when it was another one before.
        changed: whether anything was noted in the bundle.
        golden, camera: frames that were asked about, and how many of them are there as the camera gave them.
        engines: what each that opens here answers.
        failed: names of those that do not answer as the trained model did.
        blind: engine -> why its threshold must not decide.
        left_out: engines that do not open here.
        noted: names of engines that were measured for the first time.
        not_noted: why that could not be written; "" when it could, or there was nothing to write.
        unsigned: the bundle was signed, and is not any more.
        default: how the default engine was looked at again; null: there was no reason to.
    """

    bundle: str
    sha256: str
    changed: bool
    golden: int
    camera: int
    engines: tuple[Verification, ...]
    failed: tuple[str, ...]
    blind: Mapping[str, str]
    left_out: tuple[LeftOut, ...]
    noted: tuple[str, ...]
    not_noted: str
    unsigned: bool
    default: DefaultEngine | None

    @property
    def passed(self) -> bool:
        """Whether every engine that opens here answers as the trained model did, by a rule that can say NG."""
        return not self.failed and not self.blind

    def check(self) -> None:
        """Raises ParityFailed when it has not passed, and StorageError when what was found could not be noted."""
        if self.failed:
            raise ParityFailed(
                f"{', '.join(self.failed)} of {self.bundle} does not answer as the trained model did",
                hint="do not run it here; use another --engine, or export on this device",
            )
        if self.blind:
            name, fault = next(iter(self.blind.items()))
            raise ParityFailed(
                f"{name} of {self.bundle}: {fault}",
                hint=f"edgead threshold {self.bundle} --history shows how it came about; --undo takes the last change back",
            )
        if self.not_noted:
            raise StorageError(
                self.not_noted, hint=f"{self.bundle} must be writable: its engines were measured for the first time"
            )


def verify(request: VerifyRequest, progress: Progress = silent) -> VerifyResult:
    """Ask the engines again about the golden frames; :meth:`VerifyResult.check` raises what is wrong.

    Raises:
        BadInput: no engine of that name.
        BundleError, BundleMismatch: no bundle, damaged, or not for this device.
        MissingExtra, EngineError: nothing opens here.
        ParityFailed: the recipe does not make of a camera's picture what it made at export.
    """
    bundle = Bundle.open(request.bundle, trusted=read_trusted(request.trusted))
    opened = bundle
    records = bundle.manifest.engines if request.engine is None else (bundle.manifest.engine(request.engine),)
    results, left_out = ask_engines(bundle, records, request.threads, progress)
    blind = {found.name: found.reach.fault for found in results if found.reach is not None and found.reach.fault}
    noted = tuple(found.name for found in results if found.passed and bundle.manifest.engine(found.name).parity is None)
    not_noted = ""
    if noted:
        try:
            bundle = note(bundle, results)
        except StorageError as error:
            not_noted = str(error)
    default = None
    if request.engine is None and not request.keep_default and not not_noted:
        bundle, default = _choose(bundle, [found.name for found in results if found.passed], request.threads)
    return VerifyResult(
        bundle=str(request.bundle),
        sha256=bundle.digest,
        changed=bundle.digest != opened.digest,
        golden=bundle.manifest.golden,
        camera=len(bundle.manifest.golden_camera),
        engines=tuple(results),
        failed=tuple(found.name for found in results if not found.passed),
        blind=blind,
        left_out=tuple(left_out),
        noted=() if not_noted else noted,
        not_noted=not_noted,
        unsigned=opened.is_signed and bundle.digest != opened.digest,
        default=default,
    )


def ask_engines(
    bundle: Bundle, records: Sequence[EngineRecord], threads: int | None = None, progress: Progress = silent
) -> tuple[list[Verification], list[LeftOut]]:
    """What those engines of a bundle answer that open here, and those that do not.

    Raises:
        MissingExtra, EngineError: nothing opens here.
        ParityFailed: the recipe does not make of a camera's picture what it made at export.
    """
    results: list[Verification] = []
    left_out: list[LeftOut] = []
    first: MissingExtra | EngineError | None = None
    tick = Ticking(progress, "asking the engines", len(records))
    for record in records:
        try:
            results.append(verify_engine(bundle, record.name, threads))
        except (MissingExtra, NoGpu) as error:
            first = first or error
            left_out.append(LeftOut(str(bundle.path), record.name, record.backend, str(error), error.hint))
        tick()
    if not results and first is not None:
        raise first
    return results, left_out


def _choose(bundle: Bundle, names: list[str], threads: int | None) -> tuple[Bundle, DefaultEngine | None]:
    """The default engine for this machine, when it was chosen on another and the bundle is not signed as it is."""
    before = bundle.manifest.default_engine
    if len(names) < 2 or not choice.chosen_elsewhere(bundle):
        return bundle, None
    if bundle.is_signed:
        return bundle, DefaultEngine(before, before, kept="the bundle is signed")
    stats = choice.measure(bundle, names, threads)
    try:
        bundle = choice.choose(bundle, stats)
    except StorageError as error:
        return bundle, DefaultEngine(before, before, kept=str(error))
    return bundle, DefaultEngine(before, bundle.manifest.default_engine, {name: found.min_ms for name, found in stats.items()})
