"""Run the README's commands: every ```sh and ```python block under a line ``<!-- ci: run -->``, in order, in one empty folder,
with the venv's commands first on PATH. `make` lines are left to .ci/run itself.

Usage: python .ci/readme.py FOLDER
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def main() -> int:
    root = Path(__file__).resolve().parents[1]
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    blocks = re.findall(r"<!-- ci: run -->\n```(sh|python)\n(.*?)```", (root / "README.md").read_text("utf-8"), re.S)
    if not blocks:
        print("the README has no commands to run")
        return 1
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for language, block in blocks:
        print(f"--- README:\n{block}", flush=True)
        shell = {"sh": ["bash", "-euo", "pipefail"], "python": [sys.executable]}[language]
        done = subprocess.run([*shell, "-c", block], cwd=folder, env=env, check=False)
        if done.returncode != 0:
            print(f"this block of the README failed with exit code {done.returncode}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
