"""Judge an archive: one row for each picture of SOURCE, with verdict, cause and score, in a table.

SOURCE is a folder with all below it, a list of paths (.csv, .tsv, .txt, .parquet), the records of a station (its saved pictures),
a pattern in quotes ('day*/**/*.png'), or an address of these: s3://, az://, file:// and what else fsspec opens.

A picture that cannot be read is a row UNKNOWN with its cause. Whatever ends the run - a kill, a full disk, a power cut - the same
command goes on from there: no row twice, none missing. The table appears at the end, whole.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgead.cli._cluster import ON
from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import JSON, MOST_THREADS, TRUSTED
from edgead.cli._types import PATH, whole
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput

LIST = "a list of paths"


@verb(__doc__)
@argument("bundle", type=PATH, metavar="BUNDLE", help="NAME.edgead folder")
@argument("source", metavar="SOURCE", help="folder, list, records, pattern or address of pictures")
@option("-o", "--out", type=PATH, required=True, metavar="FILE", help="the table: .parquet or .csv")
@option("--engine", metavar="NAME", help="one engine of the bundle (default: the bundle's own)")
@option(
    "--workers",
    type=whole(1, MOST_THREADS),
    metavar="N",
    help="processes, an engine each (default: one a core; with --on those of the cluster)",
)
@option("--threads", type=whole(1, MOST_THREADS), default=1, metavar="N", help="CPU threads of each worker's engine (default 1)")
@ON
@option(
    "--maps",
    type=(click.Choice(("png", "npz")), PATH),
    metavar="png|npz DIR",
    help="keep anomaly maps, too: grey of 16 bits with the threshold at 32768, or float32 as they are",
)
@option("--column", metavar="NAME", group=LIST, help="that holds the paths (default: found by its name)")
@option("--root", type=PATH, metavar="DIR", group=LIST, help="where relative paths start (default: the list's folder)")
@option("--restart", is_flag=True, help="throw away what an unfinished run left, and begin anew")
@TRUSTED
@JSON
def command(
    bundle: Path,
    source: str,
    out: Path,
    engine: str | None,
    workers: int | None,
    threads: int,
    cluster: str | None,
    maps: tuple[str, Path] | None,
    column: str | None,
    root: Path | None,
    restart: bool,
    trusted: tuple[Path, ...],
    as_json: bool,
) -> int:
    if not source:
        raise BadInput("SOURCE is empty", hint="give a folder, a list, records, a pattern or an address of pictures")
    from edgead.jobs.scoring.job import ScoreRequest, score

    request = ScoreRequest(bundle, source, out, engine, workers, threads, cluster or "", column, root, maps, trusted, restart)
    try:
        with told_progress() as progress:
            found = score(request, progress, progress.say)
    except KeyboardInterrupt:
        print(f"edgead score: interrupted; {out}.scoring holds what is judged: the same command goes on", file=sys.stderr)
        return 130
    if as_json:
        print_json("score", found)
        return 0
    from edgead.cli._console import console

    lines = [
        ("table", f"{found.out}: {found.pictures:,} rows of {found.source}"),
        ("judged by", f"{bundle} {found.engine} ({found.rule}), sha256 {found.sha256[:12]}"),
        ("verdicts", ", ".join(f"{count:,} {verdict}" for verdict, count in found.verdicts.items())),
        *(("UNKNOWN", f"{count:,} {cause}") for cause, count in found.causes.items()),
        *(("not judged", f"{count:,} {what}") for what, count in found.skipped.items()),
        *([("maps", str(found.maps))] if found.maps is not None else []),
        *([("before", f"{found.resumed:,} were judged by an earlier run")] if found.resumed else []),
        (
            "took",
            f"{found.elapsed_s:.1f} s, {found.per_s:.1f} pictures a second with {found.workers} worker(s)",
        ),
    ]
    for name, value in lines:
        console().print(f"{name:<12}{value}", markup=False)
    return 0
