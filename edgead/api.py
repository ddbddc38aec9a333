"""edgead from Python: what ``import edgead`` gives, each name imported when it is used (docs/python.md).

    import edgead

    edgead.train("patchcore", "good", "model", size=256)
    edgead.export("model", "part.edgead")
    edgead.verify("part.edgead")
    with edgead.open("part.edgead") as judge:
        print(judge("picture.png").verdict)
    with edgead.Station.from_file("station.yaml") as station:
        station.run()

These are the jobs of the command line (`edgead.jobs`) and its stations (`edgead.line`); nothing is printed here. Whatever goes
wrong is an :class:`edgead.errors.EdgeadError` whose text is one clear line and whose `hint` says how to fix it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgead.jobs.progress import Progress, silent
from edgead.line.service import Station

if TYPE_CHECKING:
    from edgead.jobs.export import ExportResult
    from edgead.jobs.importing import Foreign
    from edgead.jobs.score import Judge
    from edgead.jobs.train import Trained
    from edgead.jobs.verify import VerifyResult

_log = logging.getLogger(__name__)

__all__ = ["Station", "export", "open", "train", "verify"]


def train(
    family: str,
    good_dir: Path | str,
    out: Path | str,
    *,
    name: str = "",
    heldout: float = 0.15,
    seed: int = 0,
    leave_out: Sequence[str] = (),
    defects: Sequence[Path | str] = (),
    preset: Literal["lite", "paper"] | None = None,
    device: str = "cpu",
    checkpoint: Path | str | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Trained:
    """Train a model on a folder of good pictures and write its folder.

    Args:
        family: ``"patchcore"``, ...: a name of :func:`edgead.families.methods`.
        good_dir: folder of good pictures, or a folder in MVTec layout.
        out: folder for the model; an older one there is kept beside it.
        name: of the part; "" takes the folder's.
        heldout: share of the good pictures that is held out, for the threshold and for checking exports.
        seed: of everything that is random.
        leave_out: good pictures that are none, by their paths below the folder.
        defects: folders of pictures of defects, for families that learn from such too.
        preset: ``"lite"``: trained in minutes on two cores; ``"paper"``: as its paper says. None: lite on a CPU.
        device: torch device that trains.
        checkpoint: file that a long training goes on from when it is started again.
        progress: called with the name of a stage and the share of it that is done.
        options: attributes of :class:`edgead.jobs.train.Looked` (``size=256``, ``roi=(0, 0, 640, 480)``, ``tiles=256``, ...) and
            options of the family (``coreset=0.01``; `edgead train --help` lists them).

    Returns:
        The request, what came out (model, threshold, figures), and where the model that was there before is now.

    Raises:
        BadInput: unusable pictures, options or target.
        MissingExtra: pip install 'edgead[train]'.
        StorageError: the folder cannot be written.
    """
    from edgead.jobs.train import Looked, train_request
    from edgead.jobs.train import train as run

    mine = {field.name for field in dataclasses.fields(Looked)} & set(options)
    looked = {attribute: options.pop(attribute) for attribute in mine}
    for attribute in {"size", "tiles"} & mine:
        if isinstance(side := looked[attribute], int):
            looked[attribute] = (side, side)
    request = train_request(
        family, Path(good_dir), Path(out), Looked(**looked), options, name=name, heldout=heldout, seed=seed, left_out=leave_out,
        defects=tuple(map(Path, defects)),
        preset=preset, device=device, checkpoint=None if checkpoint is None else Path(checkpoint),
    )  # fmt: skip
    return run(request, progress)


def export(
    model: Path | str,
    bundle: Path | str | None = None,
    *,
    budget_ms: float | None = None,
    search: Mapping[str, Any] | None = None,
    foreign: Foreign | None = None,
    progress: Progress = silent,
    **options: Any,
) -> ExportResult:
    """Make a verified bundle of a trained model, or of another tool's file.

    Args:
        model: folder that :func:`train` or `edgead import` wrote, or another tool's file (docs/importing.md).
        bundle: its folder; None: ``NAME.edgead`` in the current one.
        budget_ms: find the most accurate engine that answers within so many milliseconds at p99 on this device.
        search: more of that search: arguments of :func:`edgead.jobs.search.search_options`.
        foreign: how another tool's file is read.
        progress: called with the name of a stage and the share of it that is done.
        options: attributes of :class:`edgead.export.ExportOptions` (``backends=("openvino",)``, ``precisions=("fp32",)``, ...).

    Returns:
        With the opened bundle, whose manifest says what was measured.

    Raises:
        BadInput: no model, unusable pictures or options.
        MissingExtra: pip install 'edgead[export]', or a backend.
        ParityFailed: no engine answers as the model did (then there is no bundle), or one of those that were named does not.
        BudgetMissed: no engine keeps the budget.
        StorageError: the disk is full or not writable.
    """
    from edgead.jobs.export import ExportRequest, check_paths, need_packages
    from edgead.jobs.export import export as run
    from edgead.jobs.search import search_options

    model = Path(model)
    target = None if bundle is None else Path(bundle)
    check_paths(model, target)
    need_packages()
    asked = None if budget_ms is None else search_options(model, budget_ms, **(search or {}))
    result = run(ExportRequest(model, _export_options(options), target, foreign, asked), progress)
    result.check()
    return result


def _export_options(values: Mapping[str, Any]) -> Any:
    from edgead.errors import BadInput
    from edgead.export import ExportOptions

    known = [field.name for field in dataclasses.fields(ExportOptions)]
    if unknown := [name for name in values if name not in known]:
        raise BadInput(f"an export has no option {', '.join(unknown)}", hint=f"its options: {', '.join(known)}")
    return ExportOptions(**values)


def verify(
    bundle: Path | str,
    engine: str | None = None,
    *,
    trusted: Sequence[Path | str] = (),
    threads: int | None = None,
    keep_default: bool = False,
    progress: Progress = silent,
) -> VerifyResult:
    """Check on this device that a bundle's engines still answer as the trained model did, as `edgead verify` does.

    Args:
        bundle: its folder.
        engine: one of its engines; None: all whose backend is installed.
        trusted: files of public keys, one of which must have signed it; empty: no signature is asked for.
        threads: CPU threads of one inference; None: the engine's choice.
        keep_default: do not choose the default engine anew for this machine.
        progress: called with the name of a stage and the share of it that is done.

    Returns:
        What was measured, engine by engine.

    Raises:
        ParityFailed: an engine does not answer as the trained model did, or by its threshold every defect would be OK.
        BundleError, BundleMismatch: no bundle, damaged, or not for this device.
        MissingExtra, EngineError: nothing opens here.
    """
    from edgead.jobs.verify import VerifyRequest
    from edgead.jobs.verify import verify as run

    keys = tuple(map(Path, trusted))
    result = run(VerifyRequest(Path(bundle), engine, keys, threads, keep_default), progress)
    result.check()
    return result


def open(
    bundle: Path | str,
    engine: str | None = None,
    *,
    threads: int | None = None,
    trusted: Sequence[Path | str] = (),
    sha256: str = "",
) -> Judge:
    """A bundle that is ready to judge pictures: call it with one. It is asked about two golden frames first, as a station is.

    Args:
        bundle: its folder.
        engine: its name in the bundle; None: the bundle's default.
        threads: CPU threads of one inference; None: the engine's choice.
        trusted: files of public keys, one of which must have signed it; empty: no signature is asked for.
        sha256: that the bundle must have; "": any.

    Returns:
        To be used as a context manager, or to be closed.

    Raises:
        BadInput: no engine of that name.
        BundleError, BundleMismatch: no bundle, damaged, or not for this device.
        MissingExtra, EngineError: the engine does not open here.
        ParityFailed: it does not answer here as the trained model did, or by its threshold every defect would be OK.
    """
    from edgead.engines.proof import check_reach, prove
    from edgead.jobs.score import Judge

    judge = Judge.open(Path(bundle), engine, threads=threads, trusted=tuple(map(Path, trusted)), sha256=sha256)
    try:
        prove(judge.bundle, judge.record, judge.engine)
        check_reach(judge.bundle, judge.record, judge.rule, judge.bundle.golden(), _log.warning)
    except BaseException:
        judge.close()
        raise
    return judge
