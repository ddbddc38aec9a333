"""What `edgead export --budget-ms` found, as a table, as a plot, and in a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._console import console
from edgead.errors import MissingExtra

if TYPE_CHECKING:
    from edgead.measured import Candidate, Search

WIDEST = 180
"""Columns of the table of candidates, also where the terminal has fewer."""


def show_search(search: Search, folder: Path) -> None:
    """The table, and the plot in `folder`."""
    from edgead.jobs.search import write_plot

    show_candidates(search)
    try:
        plot = write_plot(search, folder)
    except MissingExtra as error:
        console().print(f"no plot: {error} ({error.hint})", markup=False)
    else:
        if plot is not None:
            console().print(f"plot: {plot}", markup=False)


def show_candidates(search: Search) -> None:
    """The table of all candidates, fastest first."""
    from rich import box
    from rich.table import Column, Table

    names = ("p50", "p99 ms", "AUROC", "change", "noise", "dev.", "flips", "MiB", "")
    columns = (Column(name, justify="right" if name else "left", no_wrap=True) for name in names)
    table = Table(Column("candidate", no_wrap=True), *columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    trained, budget = search.trained, search.budget_ms
    assert trained is not None and budget is not None and search.frame is not None
    table.add_row("trained model", "", "", f"{trained.auroc:.4f}", "", "", "", "", "", "")
    for row in sorted(search.candidates or (), key=lambda row: row.p99_ms):
        table.add_row(*_cells(row, budget))
    console(width=max(console().width, WIDEST)).print(table)
    width, height = search.frame
    drawn = "; AUROC on drawn defects, there being no labelled ones" if trained.drawn else ""
    console().print(
        f"* chosen, + beaten by none, > over {budget:g} ms, - over a limit of what may be lost; ~ first look at a few parts; "
        f"noise: one standard error; times from a picture of {width} x {height} px to the verdict{drawn}",
        markup=False,
    )


def _cells(row: Candidate, budget_ms: float) -> list[str]:
    timed, judged = row.latency, row.accuracy
    if row.failed:
        return [row.name, *[""] * 8, f"failed: {row.failed[:60]}"]
    mark = "*" if row.chosen else "+" if row.front else ""
    cells = [row.name]
    if timed:
        about = "" if timed.full else "~"
        cells += [f"{about}{timed.p50_ms:.1f}", f"{about}{timed.p99_ms:.1f}"]
        mark += ">" if timed.p99_ms > budget_ms else ""
    else:
        cells += ["", ""]
    if judged:
        cells += [f"{judged.auroc:.4f}", f"{judged.auroc_change:+.4f}", f"{judged.noise:.4f}"]
        cells += [f"{100 * judged.score_deviation:.1f} %", f"{judged.label_flips} of {judged.frames}"]
        mark += "" if judged.within_loss else "-"
    else:
        cells += [""] * 5
    return [*cells, f"{row.bytes / 2**20:.1f}" if row.bytes else "", mark]


def summary(search: Search) -> str:
    """One line on what was chosen and why, for `edgead export` and `edgead inspect`; "" when nothing was."""
    chosen, built, found = search.chosen, search.built, search.taken and search.taken.accuracy
    if chosen is None or not found:
        return ""
    time = f"p50 {built.p50_ms:.1f} ms, p99 {built.p99_ms:.1f} ms of {search.budget_ms or 0:g} ms" if built else ""
    return f"{chosen.name}: {time}, AUROC {found.auroc:.4f} ({found.auroc_change:+.4f} to the trained model's)"
