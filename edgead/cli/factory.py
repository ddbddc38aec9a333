"""Train and export the products of a manifest, in one run that goes on where it stopped.

MANIFEST is a YAML file: products, each with a name, its folder of good pictures and what else is wanted (edgead docs scale). A
model and a bundle of each are written to DIR/NAME, a table of all to DIR/index.html. A product is left as it is while neither its
pictures nor its keys nor edgead change. One that fails is told, and stops no other; the exit code is that of the first failure.

Models are trained several at once; engines for a budget are searched afterwards, one at a time and on this machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgead.cli._cluster import ON
from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import JSON, MOST_THREADS
from edgead.cli._types import PATH, whole
from edgead.cli._verb import argument, option, verb


@verb(__doc__)
@argument("manifest", type=PATH, metavar="MANIFEST", help="YAML file of products")
@option("-o", "--out", type=PATH, required=True, metavar="DIR", help="folder for the products and their table")
@option("--workers", type=whole(1, MOST_THREADS), metavar="N", help="products worked on at once (default: one for two cores)")
@ON
@option("--anew", is_flag=True, help="make also what nothing changed of")
@option("--mlflow", metavar="URI", help="note each product in this MLflow store, too (needs edgead[mlflow])")
@JSON
def command(
    manifest: Path, out: Path, workers: int | None, cluster: str | None, anew: bool, mlflow: str | None, as_json: bool
) -> int:
    from edgead.jobs.factory.run import FactoryRequest, factory

    try:
        with told_progress() as progress:
            found = factory(FactoryRequest(manifest, out, workers, cluster or "", anew, mlflow or ""), progress, progress.say)
    except KeyboardInterrupt:
        print("edgead factory: interrupted; what is made stays, the same command goes on", file=sys.stderr)
        return 130
    code = next((one.code for one in found.products if one.state == "failed"), 0)
    if as_json:
        print_json("factory", found)
        return code
    from edgead.cli._console import console
    from edgead.jobs.factory.page import TITLES, cells

    out_, lines = console(), [TITLES, *(tuple(cells(one)) for one in found.products)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(TITLES))]
    for line in lines:  # aligned, and never cut
        out_.print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip(), markup=False)
    out_.print(f"{found.made} made, {found.unchanged} unchanged, {found.failed} failed: {found.index}", markup=False)
    for one in found.products:
        if one.state == "failed":
            out_.print(f"{one.name}: {one.step}: {one.why}", markup=False)
            if one.hint:
                out_.print(f"  -> {one.hint}", markup=False)
    for name, why in found.not_noted.items():
        out_.print(f"{name} is not noted in MLflow: {why}", markup=False)
    return code
