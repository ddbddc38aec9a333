"""Every method that can be trained, lite, on four sets: what it is worth, what it costs, and what INT8 makes of it.

    python -m benchmarks.methods                                     # goes on where it stopped; days for everything, so:
    python -m benchmarks.methods --methods padim,fcdd --sets elpv,magnetic_tile --seeds 0 --max-minutes 30
    python -m benchmarks.methods --methods fcdd --again              # measure anew
    python -m benchmarks.methods --gallery /tmp/methods.png --only-print
    python -m benchmarks.methods --write-docs --only-print           # docs/methods.md from what is there

All methods see the same pictures: up to 80 good ones to train on, 40 others and 40 defects (as many of each kind) to judge. A
cell is one method on one set with one seed, in a process of its own on one thread; with the first seed engines are exported under
the usual limits, measured and timed. A cell that fails is one with the reason. Brightness alone stands beside each figure: a
method below it has learned nothing of use there. Seeds share pictures: intervals tell what the draw and the training leave open.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._methods.gallery import sheet
from benchmarks._methods.page import printed, summarise, written
from benchmarks._sets import SETS
from edgead.disk import write_file
from edgead.errors import BadInput
from edgead.families import method as method_of
from edgead.families import methods
from edgead.families.contract import LITE
from edgead.machine import facts

RESULTS = Path(__file__).parent / "results/methods.json"
DOCS = Path(__file__).parents[1] / "docs/methods.md"
MAPS = Path(tempfile.gettempdir()) / "edgead-methods"
MOST_S = 900.0
"""CPU seconds of a training; one that takes longer is stopped, and says so."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(methods()), help="names of methods (default: all)")
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join(SETS)}")
    parser.add_argument("--seeds", default="0,1,2", help="the first one is exported and timed, too")
    parser.add_argument("--size", type=int, help="input of every model, px (default: each method's own)")
    parser.add_argument("--max-minutes", type=float, default=1e6, help="start no cell after so much time")
    parser.add_argument(
        "--no-engines", action="store_true", help="only train and judge; a later run measures the cell with engines"
    )
    parser.add_argument("--again", action="store_true", help="measure cells anew that are there")
    parser.add_argument("--retry", action="store_true", help="measure cells anew that failed")
    parser.add_argument("--only-print", action="store_true", help="measure nothing")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="what is there is kept, and gone on with")
    parser.add_argument("--maps", type=Path, default=MAPS, metavar="DIR", help=f"keeps maps for --gallery (default {MAPS})")
    parser.add_argument("--gallery", type=Path, metavar="FILE", help="write a page of maps, of all that is kept")
    parser.add_argument("--write-docs", action="store_true", help="write the table and paragraphs of docs/methods.md")
    args = parser.parse_args(argv)
    asked, sets, seeds = args.methods.split(","), args.sets.split(","), [int(seed) for seed in args.seeds.split(",")]
    if unknown := (set(sets) - set(SETS)) | (set(asked) - set(methods())):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(SETS)}; {', '.join(methods())}")
    run = Run(args.json, args.maps)
    if not args.only_print:
        measure(run, asked, sets, seeds, args)
    if args.gallery is not None:
        there = {(method, name): file for method in asked for name in sets if (file := run.maps_of(method, name)).is_file()}
        shown = [[one for one in names if any(one in key for key in there)] for names in (asked, sets)]
        sheet(args.gallery, there, *shown)
    print("\n".join(printed(summarise(run.cells))))
    if args.write_docs:
        written(DOCS, summarise(run.cells))
    return 0


class Run:
    """The cells that are there, in a file."""

    def __init__(self, file: Path, maps: Path) -> None:
        self.file, self.maps = file, maps
        self.cells: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["cells"] if file.is_file() else []

    def find(self, method: str, name: str, seed: int) -> dict[str, Any] | None:
        key = {"method": method, "set": name, "seed": seed}
        return next((cell for cell in self.cells if key.items() <= cell.items()), None)

    def put(self, cell: Mapping[str, Any]) -> None:
        """Add a cell, in place of the one that was there, and write everything."""
        same = [old for old in self.cells if all(old[key] == cell[key] for key in ("method", "set", "seed"))]
        self.cells = [old for old in self.cells if old not in same] + [dict(cell)]
        self.cells.sort(key=lambda one: (one["method"], one["set"], one["seed"]))
        content = {"benchmark": "methods", "machine": facts(), "summary": summarise(self.cells), "cells": self.cells}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_file(self.file, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())

    def maps_of(self, method: str, name: str) -> Path:
        return self.maps / f"{method}_{name}.npz"


def measure(run: Run, asked: Sequence[str], sets: Sequence[str], seeds: Sequence[int], args: argparse.Namespace) -> None:
    """All cells that are asked for and not there: the first seed of everything first."""
    began = time.monotonic()
    for seed in seeds:
        engines = seed == seeds[0] and not args.no_engines
        for name in sets:
            try:
                SETS[name].find()
            except FileNotFoundError as reason:
                print(f"{name} left out: {reason}", file=sys.stderr)
                continue
            for method in asked:
                if not args.again and done(run.find(method, name, seed), engines, args.retry):
                    continue
                if time.monotonic() - began > 60 * args.max_minutes:
                    return
                maps = run.maps_of(method, name) if seed == seeds[0] else None
                cell = measured(method, name, seed, args.size, engines=engines, maps=maps)
                run.put(cell)
                print(json.dumps(cell)[:400], file=sys.stderr, flush=True)


def done(cell: Mapping[str, Any] | None, engines: bool, retry: bool) -> bool:
    """Whether a cell need not be measured, with these wishes."""
    if cell is None or (retry and ("failed" in cell or "engines_failed" in cell)):
        return False
    return "failed" in cell or not engines or "fp32_error" in cell or "engines_failed" in cell


def measured(method: str, name: str, seed: int, size: int | None, *, engines: bool, maps: Path | None) -> dict[str, Any]:
    """One cell, in a process of its own; `size`: px, None: the method's own."""
    cell: dict[str, Any] = {"method": method, "set": name, "seed": seed, "commit": commit()}
    _, preset = method_of(method)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "cell.json"
        command = [sys.executable, "-m", "benchmarks._methods.cell", method, name, str(seed), str(out)]
        command += [
            "--size",
            str(size or preset.px(LITE)),
            "--most-s",
            str(MOST_S),
            *(["--engines"] if engines else []),
            *(["--maps", str(maps)] if maps else []),
        ]
        environ = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if out.is_file():
            cell |= json.loads(out.read_text("utf-8"))
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"ended with {ended.returncode}"])[-1][:300]
        why = f"crashed (signal {-ended.returncode})" if ended.returncode < 0 else last
        cell["engines_failed" if "gflop" in cell else "failed"] = why
    return cell


def commit() -> str:
    """Of the tree that is measured; "" outside of git."""
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BadInput as error:
        sys.exit(f"{error} ({error.hint})")
