"""`edgead train auto`: the methods that were tried, what they are worth, and which one stays, in words and as JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.cli._trained import Model
from edgead.jobs.auto import Auto, Tried

if TYPE_CHECKING:
    from edgead.jobs.train import Looked

MUCH = 0.8
"""Share of drawings in which a model is the best from which it is called so."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The method that was chosen among several, and its model.

    Attributes:
        chosen: its name.
        decided_by: defects that decided, "real" or "drawn".
        good, defects: pictures that decided.
        tried: the methods, the best one first, those left out last.
        budget_ms: that was to be kept; null without.
        bundle: with an engine that keeps it; null without.
        model: as `edgead train` tells it.
    """

    chosen: str
    decided_by: str
    good: int
    defects: int
    tried: tuple[Tried, ...]
    budget_ms: float | None
    bundle: str | None
    model: Model

    @classmethod
    def of(cls, found: Auto) -> Chosen:
        """What is told of it."""
        bundle = None if found.exported is None else str(found.exported.bundle.path)
        return cls(
            found.chosen.method, "real" if found.real else "drawn", found.good, found.defects, found.tried,
            found.request.budget_ms, bundle, Model.of(found.made),
        )  # fmt: skip


def told_auto(good_dir: Path, out: Path, looked: Looked, as_json: bool, **asked: Any) -> int:
    """Choose, and tell; the exit code."""
    from edgead.cli._console import console, told_progress
    from edgead.cli._json import print_json
    from edgead.cli._trained import summary
    from edgead.jobs.auto import AutoRequest, auto

    request = AutoRequest(good_dir, out, looked, **asked)
    try:
        with told_progress() as progress:
            found = auto(request, progress, progress.say)
    except KeyboardInterrupt:
        print(f"edgead train: interrupted, nothing was written to {out}", file=sys.stderr)
        return 130
    if as_json:
        print_json("train", Chosen.of(found), action="auto")
        return 0
    console().print(summary(found.made), markup=False, soft_wrap=True)
    show(found)
    for line in conclusion(found):
        console().print(line, markup=False, soft_wrap=True)
    if found.made.kept is not None:
        back = f"edgead bundle restore {out}"
        console().print(f"the model that was there is kept as {found.made.kept}; to put it back: {back}", markup=False)
    return 0


def show(found: Auto) -> None:
    """The table of methods, and why others were left out."""
    from rich import box
    from rich.table import Column, Table

    from edgead.cli._console import console

    names = ("input", "AUROC, drawn", "AUROC, real", "best in", "training", "p99 ms")
    rows = [(f"{one.method}{' *' if one.chosen else ''}", *_cells(one)) for one in found.tried if one.judged is not None]
    filled = [i for i in range(len(names)) if any(row[i + 1] for row in rows)]
    columns = (Column(names[i], justify="right", no_wrap=True) for i in filled)
    table = Table(Column("method", no_wrap=True), *columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(row[0], *(row[i + 1] for i in filled))
    console().print(table)
    for one in found.tried:
        if one.why:
            console().print(f"{one.method}: {'out' if one.judged else 'left out'}: {one.why}", markup=False, soft_wrap=True)


def _cells(one: Tried) -> tuple[str, ...]:
    judged = one.judged
    assert judged is not None
    real = "" if judged.real_auroc is None else f"{judged.real_auroc:.3f} ± {judged.real_half:.3f}"
    size, drawn = f"{one.width} x {one.height}", f"{judged.auroc:.3f} ± {judged.half:.3f}"
    return size, drawn, real, f"{judged.best:.0%}", f"{one.train_s:.0f} s", "" if one.p99_ms is None else f"{one.p99_ms:.1f}"


def conclusion(found: Auto) -> list[str]:
    """What stays, how sure that is, and what is next."""
    chosen, kind = found.chosen, "real" if found.real else "drawn"
    assert chosen.judged is not None
    best = max((one.judged.best for one in found.tried if one.judged is not None), default=0.0)
    lines = [
        f"* stays; judged on {found.good} good pictures that no method was trained on and {found.defects} {kind} defects; ± is "
        "half of the 95 % interval; best in: share of sets of pictures like this one in which the method is the best (bootstrap)"
    ]
    if not MUCH <= chosen.judged.best == best:
        lines.append(f"not sure: in {1 - chosen.judged.best:.0%} of sets of pictures like this one another method is the best")
    if found.real:
        lines.append("the choice was made on these real defects: its AUROC on others will be somewhat lower")
    else:
        lines.append("drawn defects may rank methods otherwise than real ones: with --labelled DIR, from 10 on, real ones decide")
    if found.exported is None:
        return lines
    bundle = found.exported.bundle.path
    return [*lines, f"within {found.request.budget_ms:g} ms: {bundle}", f"next: edgead verify {bundle}"]
