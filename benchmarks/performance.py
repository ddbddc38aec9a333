"""Write docs/performance.md and the README's table of peers from the result files: every number comes from a benchmark's JSON.

python -m benchmarks.performance
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks._peers.tables import readme as peers_table

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/performance.md"
README = PAGE.parents[1] / "README.md"
BLOCK = ("<!-- peers: written by python -m benchmarks.performance -->\n", "\n<!-- /peers -->")
SECTIONS = ("cores", "peers", "limit", "coreset", "tiling", "resize", "coldstart", "memory", "scaling")
"""Benchmarks in the order of the page; each has ``page(data)``, the Markdown of its section."""

HEAD = """# Performance

Written by `python -m benchmarks.performance` from the files in `benchmarks/results/`; do not edit it by hand.

Latencies are medians of interleaved runs: the compared variants take turns, so that a noisy machine hits all alike. Ratios carry
over to other machines better than milliseconds. The machine is shared with other virtual machines; beside that nothing else ran,
but for coreset, which was held to one core while other work had the other, and peers, which tells its load. Nothing here was run
on a GPU. Where a goal was missed, the table says so.
"""


def write(results: Path, page: Path) -> list[str]:
    """Assemble the page; names of benchmarks without a result file come back."""
    parts, missing, machines = [HEAD], [], {}
    for name in SECTIONS:
        file = results / f"{name}.json"
        if not file.is_file():
            missing.append(name)
            continue
        data: dict[str, Any] = json.loads(file.read_text("utf-8"))
        machines[name] = _machine(data["machine"])
        parts.append(importlib.import_module(f"benchmarks.{name}").page(data).strip() + "\n")
    parts.insert(1, _machines(machines))
    page.write_text("\n".join(parts), "utf-8")
    return missing


def write_readme(results: Path, readme: Path) -> None:
    """Put the table of peers between its marks."""
    text, table = readme.read_text("utf-8"), peers_table(json.loads((results / "peers.json").read_text("utf-8")))
    before, _, rest = text.partition(BLOCK[0])
    _, _, after = rest.partition(BLOCK[1])
    readme.write_text(before + BLOCK[0] + table + BLOCK[1] + after, "utf-8")


def _machine(facts: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(facts["packages"].items()))
    flags = ", ".join(facts["cpu_flags"])
    where = f"{facts['cpu']}, {facts['cores']} cores ({flags}), {facts['memory_mb']} MB, {facts['os']}"
    return f"{where}, Python {facts['python']}; {packages}"


def _machines(machines: dict[str, str]) -> str:
    """One line when all ran on the same machine, else one for each machine."""
    told = [
        f"{'Machine' if len(set(machines.values())) == 1 else ', '.join(n for n, m in machines.items() if m == one)}: {one}.\n"
        for one in dict.fromkeys(machines.values())
    ]
    return "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    args = parser.parse_args()
    missing = write(args.results, args.output)
    if args.results == RESULTS and args.output == PAGE:
        write_readme(RESULTS, README)
    print(f"wrote {args.output}" + (f"; without results: {', '.join(missing)}" if missing else ""))


if __name__ == "__main__":
    main()
