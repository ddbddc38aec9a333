"""Fill the tables of docs/which-model.md from what benchmarks/accuracy.py and benchmarks/sizes.py measured.

    python -m benchmarks.which_model

A table stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; whatever is between is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._spread import cell
from benchmarks.sizes import tables

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "which-model.md"
FIGURES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pro": "PRO", "false_rejects": "false rejects",
           "misses": "misses"}  # fmt: skip


def accuracy(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each set and family, of the rows of a summary that are of the default settings."""
    lines = [f"| set | family | {' | '.join(FIGURES.values())} |", "|---|---|" + "---|" * len(FIGURES)]
    own = [row for row in rows if row.get("choice", "after") == "after"]
    return lines + [f"| {row['set']} | {row['model']} | {' | '.join(cell(row.get(key)) for key in FIGURES)} |" for row in own]


def fill(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with another table of this name. Raises ValueError without a place for it."""
    pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.S)
    if not pattern.search(page):
        raise ValueError(f"no place for the table {name}")
    return pattern.sub(lambda found: found[1] + "\n".join(lines) + "\n" + found[2], page)


def main() -> int:
    page = PAGE.read_text("utf-8")
    sized = json.loads((HERE / "results" / "sizes.json").read_text("utf-8"))
    for name, lines in zip(("sizes", "rule"), tables(sized), strict=True):
        page = fill(page, name, lines)
    measured = HERE / "results" / "accuracy.json"
    if measured.is_file():
        page = fill(page, "accuracy", accuracy(json.loads(measured.read_text("utf-8"))["summary"]))
    PAGE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
