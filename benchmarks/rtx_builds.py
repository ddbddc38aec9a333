"""Does TensorRT for RTX build the FP32 graph of every method? Where not, which operator stops it. Building needs no GPU.

    python -m benchmarks.rtx_builds --json benchmarks/results/rtx_builds.json

Each method is fitted for a few steps on drawn parts (its graph is that of a full training), written as ONNX, and built ahead of
time for one GPU generation, in a process of its own, since a builder may take the process down with it. What the engines answer
is not asked: that needs the GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgead.errors import EdgeadError
from edgead.families import method, methods
from edgead.machine import facts

CAPABILITY = "8.9"
MAX_S = 900
"""For one method, on a machine that others use too."""


def version() -> str:
    """Of TensorRT for RTX here."""
    import tensorrt_rtx

    return str(tensorrt_rtx.__version__)


def once(name: str) -> dict[str, Any]:
    """Fit, write and build one method here."""
    import onnx

    from edgead.export.graph import write_onnx
    from edgead.export.tensorrt import BuildOptions, build_engine
    from edgead.families.contract import LITE, Defect, FitData
    from tests.bundles import part
    from tests.contracts.quick import QUICK

    family, preset = method(name)
    side = max(64, family.size_rule({}).sides()[1]) if family.sizes else 64
    defects = [Defect(part(100 + seed, side, defect=True)) for seed in range(6)] if family.needs_defects else []
    data = FitData([part(seed, side) for seed in range(8)], (side, side), defects=defects)
    detector = family.bound({**preset.values(LITE), **QUICK.get(name, {})})(data)
    with tempfile.TemporaryDirectory() as place:
        graph = Path(place) / "model.onnx"
        write_onnx(detector, graph)
        counted = Counter(node.op_type for node in onnx.load(graph).graph.node)
        row: dict[str, Any] = {"method": name, "px": side, "nodes": counted.total(), "operators": dict(sorted(counted.items()))}
        began = time.monotonic()
        try:
            built = build_engine(
                graph, Path(place) / "x.engine", "tensorrt-rtx", "fp32", BuildOptions(compute_capabilities=(CAPABILITY,))
            )
        except EdgeadError as error:
            return row | {"built": False, "why": str(error)}
        size = (Path(place) / "x.engine").stat().st_size
        return row | {"built": True, "s": time.monotonic() - began, "bytes": size, "warnings": list(built.warnings)}


def apart(name: str) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.rtx_builds", "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_S, check=False)
    except subprocess.TimeoutExpired:
        return {"method": name, "built": False, "why": f"not done after {MAX_S} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    told = (done.stderr.strip().splitlines() or [""])[-1][:300]
    return {"method": name, "built": False, "why": f"the process ended with {done.returncode}: {told}"}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line a method."""
    lines = ["| method | nodes | built | what stops it |", "|---|---|---|---|"]
    for row in rows:
        built = f"{row['s']:.1f} s" if row["built"] else "no"
        lines.append(f"| {row['method']} | {row.get('nodes', '')} | {built} | {row.get('why', '')} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=methods(), choices=methods(), metavar="NAME")
    parser.add_argument("--one", choices=methods(), metavar="NAME", help="in this process, as one line of JSON")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    if asked.one:
        print(json.dumps(once(asked.one)))
        return 0
    rows: list[dict[str, Any]] = []
    for name in asked.methods:
        rows.append(apart(name))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
        if asked.json:
            told = {"machine": facts(), "tensorrt_rtx": version(), "compute_capability": CAPABILITY, "rows": rows}
            asked.json.write_text(json.dumps(told, indent=1) + "\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
