"""Build a bundle's TensorRT engines on the device that will run them, from the bundle's own ONNX, and prove them there.

Each engine is built beside the bundle, asked about the golden frames and judged like `edgead verify` does. Only then the new file
goes into the bundle under a name of its own and the manifest is replaced in one step: a crash, a full disk or an engine that
answers otherwise leaves the old one in its place. Neither torch nor onnx is needed, except to make a half precision graph that
the bundle lacks.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import Bundle, EngineRecord, Manifest, file_digest, rewrite_manifest, storage_errors
from edgead.engines._tensorrt import FLAVOURS, load_tensorrt, mismatch
from edgead.engines.cuda import open_cuda
from edgead.engines.verify import Verification, expected, judge, trained_threshold
from edgead.errors import BadInput, BundleError, MissingExtra, ParityFailed
from edgead.export.inspected import describe
from edgead.export.tensorrt import BuildOptions, build_engine, gpu_here
from edgead.parity import ask
from edgead.registry import resolve
from edgead.types import Engine

GRAPHS = {"fp32": ("model.onnx",), "fp16": ("model.fp16.onnx",), "int8": ("model.int8.w8.onnx", "model.int8.onnx")}
"""Files of a bundle that an engine of a precision is built from, the best first (8-bit weights are right on every GPU)."""

Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one engine: `rebuilt`, or left because it matches; `verification` of a rebuilt one."""

    name: str
    rebuilt: bool
    verification: Verification | None = None


def build_on_device(
    path: Path,
    backend: str | None = None,
    wanted: Sequence[str] = (),
    options: BuildOptions | None = None,
    report: Report = lambda stage, fraction: None,
) -> list[Outcome]:
    """Build what does not match this GPU or version, or what is asked for.

    Args:
        path: the bundle.
        backend: ``"tensorrt"`` or ``"tensorrt-rtx"``; None: both.
        wanted: precisions to build whether they match or not; with `backend` also those that the bundle has not. Empty: those
            that it has, where they do not match.
        report: told the stage and the share of it that is done.

    Raises:
        BadInput: the bundle has no such engine and none is asked for.
        BundleError: it lacks the graph.
        MissingExtra, EngineError: no TensorRT, no GPU, or it refuses the graph.
        ParityFailed: a new engine does not answer as the trained model did; the old one stays.
        StorageError: the bundle is not writable; likewise.
    """
    options = options or BuildOptions()
    if options.compute_capabilities:
        raise BadInput("--on-device builds for the GPU that is here", hint="leave --compute-capability out")
    bundle = Bundle.open(path)
    jobs = _jobs(bundle.manifest, backend, wanted)
    for name, precision in jobs:
        load_tensorrt(name, f"Building {name}-{precision}")
    open_cuda().close()  # says what is missing when there is no GPU
    outcomes = []
    for name, precision in jobs:
        own = next((r for r in bundle.manifest.engines if r.backend == name and r.precision == precision), None)
        if own is not None and not wanted and _matches(own):
            outcomes.append(Outcome(own.name, False))
            continue
        report(f"{name}-{precision}", 0.0)
        job = _Job(bundle, name, precision, own, _options(path, name, options))
        bundle, verification = job.run()
        outcomes.append(Outcome(job.name, True, verification))
        report(f"{name}-{precision}", 1.0)
    return outcomes


def _jobs(manifest: Manifest, backend: str | None, wanted: Sequence[str]) -> list[tuple[str, str]]:
    if backend is not None and backend not in FLAVOURS:
        raise BadInput(f"{backend} engines are not built for one device", hint=f"choose {' or '.join(FLAVOURS)}")
    unknown = sorted(set(wanted) - set(GRAPHS))
    if unknown:
        raise BadInput(f"TensorRT has no precision {', '.join(unknown)}", hint=f"choose from {', '.join(GRAPHS)}")
    if backend is not None and wanted:
        return [(backend, precision) for precision in wanted]
    found = [(r.backend, r.precision) for r in manifest.engines if r.backend in FLAVOURS and backend in (None, r.backend)]
    found = [job for job in found if not wanted or job[1] in wanted]
    if not found:
        raise BadInput(
            f"{manifest.name} holds no {backend or 'TensorRT'} engine", hint="add one: --backend tensorrt --precision fp16"
        )
    return found


def _options(path: Path, backend: str, options: BuildOptions) -> BuildOptions:
    if options.timing_cache is not None or backend != "tensorrt":
        return options
    return dataclasses.replace(options, timing_cache=path.absolute().with_suffix(".timing-cache"))


def _matches(record: EngineRecord) -> bool:
    version = load_tensorrt(record.backend).__version__
    device = gpu_here(record.backend)
    return device is not None and not mismatch(record, version, device)


class _Job:
    """One engine."""

    def __init__(self, bundle: Bundle, backend: str, precision: str, own: EngineRecord | None, options: BuildOptions) -> None:
        self.bundle, self.backend, self.precision, self.own, self.options = bundle, backend, precision, own, options
        self.name = own.name if own is not None else f"{backend}-{precision}"

    def run(self) -> tuple[Bundle, Verification]:
        """The bundle with the new engine, and how it was judged."""
        with storage_errors(self.bundle.path, hint="free space, or make the bundle's folder writable"):
            work = Path(tempfile.mkdtemp(prefix=f".{self.bundle.path.name}.", dir=self.bundle.path.absolute().parent))
        try:
            plan = work / f"{self.precision}.engine"
            built = build_engine(self._graph(work), plan, self.backend, self.precision, self.options)
            record = self._record(built.built_with)
            engine: Engine = resolve("engine", self.backend)(plan)
            try:
                verification = self._judge(record, engine)
                if hasattr(engine, "information"):
                    record.built_with["layers"] = describe(engine.information(), plan)
            finally:
                engine.close()
            return self._install(work, dataclasses.replace(record, parity=verification.parity)), verification
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _graph(self, work: Path) -> Path:
        names = GRAPHS[self.precision]
        for name in names:
            if name in self.bundle.manifest.files:
                return self.bundle.path / name
        if self.precision != "fp16" or "model.onnx" not in self.bundle.manifest.files:
            raise BundleError(
                f"{self.bundle.path} holds no {names[-1]} to build from", hint="export it again with this precision"
            )
        from edgead.calibration.int8.half import to_half

        try:
            to_half(self.bundle.path / "model.onnx", work / names[0])
        except MissingExtra as error:
            hint = "pip install onnx, or export the bundle with --precision fp16, so that it holds the graph"
            raise MissingExtra(str(error), hint=hint) from error
        return work / names[0]

    def _record(self, built_with: dict[str, str]) -> EngineRecord:
        """The old record with a new engine: its threshold and its history are the line's, and stay."""
        if self.own is not None:
            return dataclasses.replace(self.own, parity=None, built_with=built_with)
        donor = _donor(self.bundle.manifest, self.precision)
        threshold = dataclasses.replace(donor.at_export, method=f"that of {donor.name}: {donor.at_export.method}")
        return EngineRecord(self.name, self.backend, self.precision, "", threshold, None, None, built_with)

    def _judge(self, record: EngineRecord, engine: Engine) -> Verification:
        golden = self.bundle.golden()
        judged = judge(expected(self.bundle, record), golden, ask(engine, golden.images), trained_threshold(self.bundle))
        if not judged.passed:
            worst = max(judged.parity.score_error, judged.parity.map_error)
            raise ParityFailed(
                f"the new engine {self.name} does not answer as the trained model did (off by {worst:.2g} of its map range)",
                hint="the bundle is as it was; try another --precision, and report it with what edgead doctor shows",
            )
        return judged

    def _install(self, work: Path, record: EngineRecord) -> Bundle:
        """Move the files in under names that nothing has, then replace the manifest, then drop the old ones."""
        bundle, manifest = self.bundle, self.bundle.manifest
        plan = work / f"{self.precision}.engine"
        stem = f"{self.backend}/{self.precision}-{file_digest(plan)[:8]}"
        new = {
            f"{stem}{''.join(file.suffixes)}": file for file in sorted(work.glob(f"{self.precision}.*")) if file.suffix != ".onnx"
        }
        record = dataclasses.replace(record, file=f"{stem}.engine")
        old = _files_of(manifest, self.own)
        files = {name: digest for name, digest in manifest.files.items() if name not in old}
        files |= {name: file_digest(file) for name, file in new.items()}
        changed = dataclasses.replace(manifest.with_engine(record), files=files)
        if self.own is None:
            changed = dataclasses.replace(changed, engines=(*manifest.engines, record))
        with storage_errors(bundle.path, hint="free space, or make the bundle's folder writable"):
            (bundle.path / self.backend).mkdir(exist_ok=True)
            for name, file in new.items():
                os.replace(file, bundle.path / name)
        try:
            bundle = rewrite_manifest(bundle, changed)
        except BaseException:
            for name in new.keys() - manifest.files.keys():
                (bundle.path / name).unlink(missing_ok=True)
            raise
        for name in old - new.keys():
            (bundle.path / name).unlink(missing_ok=True)
        return bundle


def _files_of(manifest: Manifest, record: EngineRecord | None) -> set[str]:
    """The files that belong to this engine alone."""
    if record is None or any(other.file == record.file for other in manifest.engines if other.name != record.name):
        return set()
    stem = record.file.removesuffix(".engine")
    return {name for name in manifest.files if name in (record.file, f"{stem}.layers.json")}


def _donor(manifest: Manifest, precision: str) -> EngineRecord:
    """Whose threshold a new engine takes over: the same precision's, else the float engine's, else the first."""
    ranked = sorted(manifest.engines, key=lambda r: (r.precision != precision, r.precision != "fp32"))
    return ranked[0]
