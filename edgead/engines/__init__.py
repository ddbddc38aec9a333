"""Running a built engine: one adapter file a backend, and the one place that opens what a bundle holds."""

from __future__ import annotations

import dataclasses
import importlib.util
import platform
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from edgead import machine
from edgead.bundle import Bundle, EngineRecord
from edgead.engines.cache import Kept
from edgead.engines.coarse import SUFFIX, CoarseToFineEngine
from edgead.errors import BadInput, BundleMismatch, EngineError, MissingExtra
from edgead.registry import resolve
from edgead.types import AnomalyMap, Engine, Image


def open_engine(
    bundle: Bundle,
    name: str | None = None,
    threads: int | None = None,
    *,
    unverified: bool = False,
    streams: int = 1,
    keep: bool = True,
) -> Engine:
    """Load one engine of a bundle on this device; there is no fallback to another one.

    Args:
        bundle: an opened bundle (its digests are checked).
        name: the engine's name in the bundle, e.g. ``"openvino-int8"``; None takes the bundle's default.
        threads: CPU threads for one inference; None takes what a search for a budget chose for this bundle, and without one the
            backend's choice (all cores).
        unverified: open also an engine that was built ahead of time and never measured; `edgead verify` does it.
        streams: pictures that `infer_many` works on at once, for backends that can (OpenVINO); one picture alone is then slower.
        keep: take the compiled form from the user's cache, and put it there (:mod:`edgead.engines.cache`; OpenVINO).

    Raises:
        BadInput: the bundle holds no engine of that name, or nobody knows its backend.
        BundleMismatch: it does not suit this device, or was never measured; the message names what differs.
        MissingExtra: the backend's package is not installed.
        EngineError: the backend cannot load the file.
    """
    if threads is not None and threads < 1:
        raise BadInput(f"{threads} threads are not usable", hint="give a number from 1 on")
    record = bundle.manifest.engine(name)
    threads = threads or searched_threads(bundle)
    factory = resolve("engine", record.backend)
    try:
        if hasattr(factory, "check_record"):  # built for one kind of GPU and one version
            factory.check_record(record, bundle.path)
        else:
            check_device(record)
        if record.parity is None and not unverified:
            raise BundleMismatch(
                f"engine {record.name} was built ahead of time and has never been measured",
                hint=f"edgead verify {bundle.path} --engine {record.name}   (once, on the device that runs it)",
            )

        def load(file: Path) -> Engine:
            part = dataclasses.replace(record, file=file.relative_to(bundle.path).as_posix())
            if part.file not in bundle.manifest.files:  # nobody has checked its digest
                raise EngineError(f"the bundle has no file {part.file}", hint="export it again")
            options: dict[str, Any] = {"streams": streams, "kept": Kept.of(bundle, part) if keep else None}
            taken = {option: value for option, value in options.items() if option in getattr(factory, "takes", ())}
            made: Engine = factory(file, threads=threads, **taken)
            return made

        engine = open_file(bundle.path / record.file, load)
    except MissingExtra as error:
        raise MissingExtra(str(error), hint=f"{error.hint}{_other_engines(bundle, record)}") from error
    except EngineError as error:
        raise _explained(record, error) from error
    machine.return_memory()  # compiling leaves tens of megabytes behind
    if engine.inputs != bundle.manifest.inputs or engine.outputs != bundle.manifest.outputs:
        engine.close()
        raise BundleMismatch(
            f"engine {record.name} does not have the inputs and outputs that the manifest states", hint="export the bundle again"
        )
    return engine


def infer_many(engine: Engine, images: Iterable[Image]) -> Iterator[tuple[float, AnomalyMap]]:
    """The engine's answers in the pictures' order: several at once where it can (see `streams` of :func:`open_engine`).

    A picture must stay as it is until its answer is there, and nothing else may ask the engine before the iterator is used up.

    Args:
        images: H x W x 3 uint8 BGR at model size; they are fetched while earlier ones are worked on.

    Raises:
        BadInput, EngineError: as `infer`.
    """
    many: Callable[[Iterable[Image]], Iterator[tuple[float, AnomalyMap]]] | None = getattr(engine, "infer_many", None)
    return many(images) if many is not None else (engine.infer(image) for image in images)


def searched_threads(bundle: Bundle) -> int | None:
    """The number of threads that a search for a budget chose (`edgead export --budget-ms`), no more than there are cores here."""
    chosen = bundle.manifest.measured.search.chosen
    return min(chosen.threads, machine.usable_cores()) if chosen and chosen.threads else None


def open_file(file: Path, load: Callable[[Path], Engine]) -> Engine:
    """The engine of a file; one of a coarse-to-fine engine names two (:mod:`edgead.engines.coarse`).

    Args:
        load: a backend's way to open one of its files.
    """
    return CoarseToFineEngine.open(file, load) if file.suffix == SUFFIX else load(file)


def check_device(record: EngineRecord) -> None:
    """Refuse an engine that would answer wrongly on this CPU.

    8-bit weights saturate in the INT8 kernels of x86 CPUs without VNNI (pairs of products are summed in 16 bits), silently.

    Raises:
        BundleMismatch: naming the CPU feature.
    """
    x86 = platform.machine().lower() in {"x86_64", "amd64", "i686", "i386"}
    if record.built_with.get("weight_bits") == "8" and x86 and not machine.has_int8_dot(machine.cpu_flags()):
        raise BundleMismatch(
            f"engine {record.name} has 8-bit weights, which give wrong scores on this CPU: it has no VNNI",
            hint="export with --weight-bits 7, or use an fp32 engine (--engine)",
        )


def _other_engines(bundle: Bundle, record: EngineRecord) -> str:
    """The bundle's engines whose backend is installed here, as the end of a hint; edgead never takes one by itself."""
    others = [other.name for other in bundle.manifest.engines if other.backend != record.backend]
    usable = [name for name in others if importlib.util.find_spec(bundle.manifest.engine(name).backend) is not None]
    return f", or choose --engine {' or '.join(usable)}" if usable else ""


def _explained(record: EngineRecord, error: EngineError) -> EngineError | BundleMismatch:
    """A file that does not load with another version of the backend is a mismatch of versions, most likely."""
    built = record.built_with.get(record.backend, "")
    here = machine.packages([record.backend]).get(record.backend, "")
    if not built or not here or built == here:
        return error
    return BundleMismatch(
        f"engine {record.name} was built with {record.backend} {built} and does not load with {here} here: {error}",
        hint=f"pip install '{record.backend}=={built}', or export the bundle with {here}",
    )
