"""How good are bundles on a folder of pictures, and on which pictures do they differ?

Labelled pictures lie in folders by kind (test/good and test/DEFECT as in MVTec AD, or good/ and scratch/), with masks where there
are any; others are only judged. Pictures that a model was trained on are left out. Misses and false rejects are those at each
bundle's own threshold, with the 95 % interval of the rate behind them; UNKNOWN is counted apart, since the line rejects it.
The answers, a row for each picture and bundle, can be written as tables (--csv, --parquet) and shown as a page (--html).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import JSON, THREADS
from edgead.cli._types import PATH
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput

if TYPE_CHECKING:
    from rich.table import Table

    from edgead.jobs.evaluate import Evaluation

NAMED = 10


@verb(__doc__)
@argument("paths", type=PATH, nargs=-1, required=True, metavar="BUNDLE... FOLDER", help="NAME.edgead folders, then the pictures")
@option("--engine", metavar="NAME", help="one engine of each bundle (default: the bundle's own)")
@option("--csv", type=PATH, metavar="FILE", help="write them there")
@option("--parquet", type=PATH, metavar="FILE", help="write them there (needs edgead[parquet])")
@option("--html", type=PATH, metavar="FILE", help="the pictures with heat maps, mistakes first, in one file")
@THREADS
@JSON
def command(
    paths: tuple[Path, ...],
    engine: str | None,
    csv: Path | None,
    parquet: Path | None,
    html: Path | None,
    threads: int | None,
    as_json: bool,
) -> int:
    if len(paths) < 2:
        raise BadInput("bundles and a folder of pictures are needed", hint="edgead evaluate BUNDLE... FOLDER")
    files = [file for file in (csv, parquet, html) if file is not None]
    for file in files:
        if not file.name or file.is_dir() or files.count(file) > 1 or not file.absolute().parent.is_dir():
            raise BadInput(
                f"{file} cannot be written", hint="give the name of a file in a folder that is there, one for each format"
            )
    from edgead.jobs.evaluate import Evaluated, evaluate
    from edgead.jobs.gallery import Gallery

    *bundles, folder = paths
    gallery = Gallery(len(bundles))
    with told_progress() as progress:
        seen = {"seen": gallery.see} if html is not None else {}
        found = evaluate(bundles, folder, engine=engine, threads=threads, progress=progress, **seen)
    _write(found, csv, parquet)
    if html is not None:
        _write_html(html, gallery.html(found))
    if as_json:
        print_json("evaluate", Evaluated.of(found))
    else:
        _show(found)
    return 0


def _write(found: Evaluation, csv: Path | None, parquet: Path | None) -> None:
    from edgead.jobs.evaluate import COLUMNS, rows
    from edgead.runtime.records.exports import write_csv, write_parquet

    for path, write in ((csv, write_csv), (parquet, write_parquet)):
        if path is not None:
            write(rows(found), path, COLUMNS)


def _write_html(file: Path, text: str) -> None:
    from edgead.bundle import storage_errors
    from edgead.disk import write_file

    with storage_errors(file, hint="free space, or choose another file"):
        write_file(file, text.encode())


def _show(found: Evaluation) -> None:
    from edgead.cli._console import console
    from edgead.jobs.evaluate import table
    from edgead.layout import listed

    def line(text: str) -> None:
        console().print(text, markup=False, soft_wrap=True)

    titles, cells = table(found)
    shown, room = _table(titles, cells), console()
    if room.measure(shown, options=room.options.update(max_width=1000)).maximum > room.width:  # rather than broken words
        shown = _table(("", *(row[0] for row in cells)), [*zip(titles, *cells, strict=True)][1:])
    line(f"{found.pictures} pictures in {found.folder}" + (f" ({found.labels})" if found.labels else ", without labels"))
    console().print(shown)
    for one in found.bundles:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in one.verdicts.items())
        known = f"; {one.trained_on} pictures that it was trained on are left out" if one.trained_on else ""
        line(f"{Path(one.bundle).name}: {counts or 'nothing'}; {one.rule}{known}")
    for mistake in ("missed", "false reject"):
        _named(line, mistake, found)
    if len(found.bundles) > 1:
        line(f"they differ on {len(found.differ)} pictures" + (f": {listed(found.differ, NAMED)}" if found.differ else ""))


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    from rich import box, table

    columns = (table.Column(title, justify="right" if i else "left", overflow="fold") for i, title in enumerate(titles))
    shown = table.Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        shown.add_row(*row)
    return shown


def _named(line: Callable[[str], None], mistake: str, found: Evaluation) -> None:
    """The pictures of which each bundle says the wrong thing."""
    from edgead.jobs.evaluate import wrong
    from edgead.layout import listed

    for one, pictures in zip(found.bundles, found.answers, strict=True):
        if names := [Path(said.file).name for said in pictures if wrong(said) == mistake]:
            line(f"{Path(one.bundle).name}, {mistake}: {listed(names, NAMED)}")
