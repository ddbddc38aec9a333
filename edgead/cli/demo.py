"""The whole of edgead in about a minute, without files, hardware or network.

Parts on a simulated conveyor are drawn, a detector learns the good ones, is exported to FP32 and INT8 engines, verified and
benchmarked; then a station inspects parts that it has never seen. The last line is a picture of what it caught.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import JSON, SEED_OF
from edgead.cli._types import PATH
from edgead.cli._verb import option, verb
from edgead.families import methods


@verb(__doc__)
@option("-o", "--out", type=PATH, default=Path("edgead-demo"), metavar="DIR", help="the demo's folder (default: edgead-demo)")
@option(
    "--model",
    type=click.Choice(methods()),
    default="patchcore",
    metavar="METHOD",
    help="any that `edgead train` takes, trained lite: some take minutes (default: patchcore; edgead docs methods)",
)
@option("--quick", is_flag=True, help="small pictures and few of them: a test that everything works")
@SEED_OF
@JSON
def command(out: Path, model: str, quick: bool, seed: int, as_json: bool) -> int:
    """All steps; 0 when every engine answers as the trained model did."""
    from edgead.cli._console import console
    from edgead.demo.steps import FULL, QUICK, demo

    with told_progress() as progress:
        seen: set[str] = set()

        def report(stage: str, done: float) -> None:
            if stage not in seen and not sys.stderr.isatty():  # a log shows no bar, but wants to know
                print(f"{stage} ...", file=sys.stderr)
            seen.add(stage)
            progress(stage, done)

        found = demo(out, QUICK if quick else FULL, model, seed, report)
    print_json("demo", found.facts()) if as_json else console().print(found.text())
    return 0
