"""On the line box: no torch, no onnx; open the demo's bundle, verify it, run it over a folder; import time below 0.5 s.

Usage: python .ci/line_box.py FOLDER_OF_THE_README_RUN
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time
from pathlib import Path


def edgead(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "edgead", *arguments], capture_output=True, text=True, check=False)
    print(f"$ edgead {' '.join(arguments)}\n{done.stdout[-800:]}{done.stderr[-800:]}", flush=True)
    if done.returncode != 0:
        sys.exit(f"exit code {done.returncode}")


def import_seconds() -> float:
    """Median wall time of importing the runtime, less that of an empty interpreter."""

    def once(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    pairs = [(once("import edgead.runtime.loop.station"), once("pass")) for _ in range(7)]
    return statistics.median(a - b for a, b in pairs)


def main() -> int:
    for lab in ("torch", "onnx"):
        if importlib.util.find_spec(lab):
            sys.exit(f"{lab} is installed here: this is not a line box")
    root = Path(sys.argv[1])
    bundle = next(root.rglob("*.edgead"))
    good = next(p for p in root.rglob("good") if p.parent.name == "test")
    edgead("verify", str(bundle))
    edgead("run", str(bundle), "--camera", str(good), "--max-parts", "5", "--engine", "openvino-int8")
    station = next(root.rglob("station.yaml"))
    edgead("station", "check", str(station))
    edgead("run", str(station), "--max-parts", "5")
    edgead("records", str(station.parent / "data/top"), "--summary")
    print(f"import edgead.runtime.loop.station: {import_seconds():.2f} s (goal 0.5)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
