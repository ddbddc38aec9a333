"""The most accurate engine that keeps a budget, of several trained models: each is searched, and the best bundle stays."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgead import versions
from edgead.bundle import Bundle, check_target, new_bundle
from edgead.errors import BadInput, BudgetMissed, EngineError, ParityFailed
from edgead.jobs.export import ExportRequest, ExportResult, export
from edgead.jobs.progress import Progress, silent

LIKE = 0.001
"""Models whose AUROC differs by less are as good: the faster one stays."""


@dataclass(frozen=True, slots=True)
class Rival:
    """One of the models.

    Attributes:
        model: its folder or file.
        family: of it; "" where it was not exported.
        engine: that keeps the budget and is the most accurate; "": none does.
        auroc, p99_ms: of it; null without.
        drawn: there were no labelled defects: its AUROC is on defects drawn onto its own held-out pictures.
        why: why there is none.
        chosen: its bundle stays.
    """

    model: Path
    family: str = ""
    engine: str = ""
    auroc: float | None = None
    p99_ms: float | None = None
    drawn: bool = False
    why: str = ""
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Best:
    """What was chosen.

    Attributes:
        result: the bundle that stays.
        rivals: the models, the best one first, those without an engine last.
        alike: all were judged on the same labelled pictures.
    """

    result: ExportResult
    rivals: tuple[Rival, ...]
    alike: bool


def export_best(
    requests: Sequence[ExportRequest], progress: Progress = silent, say: Callable[[str], None] = lambda line: None
) -> Best:
    """Search each model, and write the bundle of the best engine.

    Args:
        requests: one for each model, with the same bundle and a search.
        say: told, line by line, what comes out on the way.

    Raises:
        BadInput: no search, or what one of the exports refuses.
        BudgetMissed: none of the models has an engine that keeps the budget; nothing is written.
        MissingExtra, StorageError: as :func:`edgead.jobs.export.export`.
    """
    target = _target(requests)
    kept = {version.path for version in versions.former(target)}
    found: dict[Path, ExportResult] = {}
    rivals: list[Rival] = []
    with tempfile.TemporaryDirectory(prefix="edgead-several-") as scratch:
        for number, request in enumerate(requests):
            assert request.search is not None
            folder = request.search.folder or target.with_name(f"{target.name}.search")
            own = replace(request, bundle=Path(scratch) / f"{number}.edgead", search=replace(request.search, folder=folder))
            try:
                found[request.model] = result = export(own, _named(request.model, progress), say)
            except (BudgetMissed, ParityFailed, EngineError) as error:
                rivals.append(Rival(request.model, why=str(error)))
            else:
                rivals.append(_rival(request.model, result))
            say(_told(rivals[-1]))
        ranked = sorted(rivals, key=_place)
        if not found:
            raise BudgetMissed("; ".join(map(_told, ranked))[:900], hint="allow more: --budget-ms, or train smaller models")
        ranked[0] = replace(ranked[0], chosen=True)
        result = found[ranked[0].model]
        _move(result.bundle.path, target, anew=requests[0].options.max_false_reject is not None)
    former = [version.path for version in versions.former(target) if version.path not in kept]
    searches = [one.bundle.manifest.measured.search for one in found.values()]
    alike = all(search.labelled == searches[0].labelled and search.labelled is not None for search in searches)
    return Best(replace(result, bundle=Bundle.open(target), kept=former[-1] if former else None), tuple(ranked), alike)


def _target(requests: Sequence[ExportRequest]) -> Path:
    """Where the bundle is to be. Raises BadInput."""
    targets = {request.bundle for request in requests}
    target = next(iter(targets))
    if len(targets) != 1 or target is None:
        raise BadInput("several models, and no name for the bundle of the best", hint="give -o BUNDLE")
    if any(request.search is None for request in requests):
        raise BadInput("several models are exported only to choose among them", hint="give --budget-ms, or export each one")
    if len({request.model.resolve() for request in requests}) != len(requests):
        raise BadInput("a model is named twice", hint="name each one once")
    check_target(target)
    return target


def _rival(model: Path, result: ExportResult) -> Rival:
    manifest = result.bundle.manifest
    search = manifest.measured.search
    taken, drawn = search.taken, search.trained is not None and search.trained.drawn
    auroc = None if taken is None or taken.accuracy is None else taken.accuracy.auroc
    p99_ms = search.built.p99_ms if search.built else None
    return Rival(model, manifest.family, "" if search.chosen is None else search.chosen.name, auroc, p99_ms, drawn)


def _place(one: Rival) -> tuple[float, float]:
    """The best first: by AUROC in steps of `LIKE`, then by time."""
    return (1.0 if one.auroc is None else -round(one.auroc / LIKE) * LIKE, one.p99_ms or float("inf"))


def _told(one: Rival) -> str:
    if one.auroc is None:
        return f"{one.model}: {one.why}"
    return f"{one.model} ({one.family}): AUROC {one.auroc:.4f}, p99 {one.p99_ms or 0.0:.1f} ms, {one.engine}"


def _named(model: Path, progress: Progress) -> Progress:
    return lambda stage, done: progress(f"{model.name}: {stage}", done)


def _move(made: Path, target: Path, *, anew: bool) -> None:
    """Put a bundle in its place, with what the line had tuned in the one before."""
    from edgead.export.carry import carry_over

    with new_bundle(target) as work:
        shutil.copytree(made, work, dirs_exist_ok=True)
        carry_over(target, work, anew)
