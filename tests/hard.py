"""The suite where things are slow: beside busy loops, and with few and many cores. `make test-hard`, or with own options.

Each round is the whole suite (or what is given after ``--``) in a process of its own. More cores than the machine has are
claimed, not real: what the suite and its processes are told by `os`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLAIM = """import os
if os.environ.get("EDGEAD_TEST_CORES"):
    _claimed, _real = set(range(int(os.environ["EDGEAD_TEST_CORES"]))), os.sched_getaffinity
    _all = _real(0)
    os.cpu_count = lambda: len(_claimed)
    os.sched_getaffinity = lambda pid: _claimed if pid == 0 and _real(0) == _all else _real(pid)
"""


def main() -> int:
    """Run all rounds; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds beside busy loops (default 3)")
    parser.add_argument("--busy", type=int, default=2, metavar="N", help="busy loops beside them (default 2)")
    parser.add_argument("--cores", default="1,2,8", metavar="LIST", help="one round each, without busy loops (default 1,2,8)")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    args = parser.parse_args()
    plan = [(args.busy, 0)] * args.rounds + [(0, int(cores)) for cores in args.cores.split(",") if cores]
    failed = []
    for busy, cores in plan:
        title = f"beside {busy} busy loops" if busy else f"with {cores} cores"
        print(f"=== {title}", flush=True)
        begun = time.monotonic()
        code = _round(busy, cores, args.pytest)
        print(f"=== {title}: {'passed' if code == 0 else f'FAILED ({code})'} in {time.monotonic() - begun:.0f} s", flush=True)
        failed += [title] if code else []
    print(f"{len(plan) - len(failed)} of {len(plan)} rounds passed" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _round(busy: int, cores: int, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    environment = dict(os.environ)
    with ExitStack() as stack:
        for _ in range(busy):
            loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(loop.wait)
            stack.callback(loop.kill)
        here = sorted(os.sched_getaffinity(0))
        if 0 < cores <= len(here):
            command = ["taskset", "-c", ",".join(map(str, here[:cores])), *command]
        elif cores:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (folder / "sitecustomize.py").write_text(CLAIM)
            path = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
            environment |= {"EDGEAD_TEST_CORES": str(cores), "PYTHONPATH": path}
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
