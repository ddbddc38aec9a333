"""Every verb's --help must work with nothing but the base dependencies installed; so must the pages that it cites."""

from __future__ import annotations

import subprocess
import sys

from edgead.cli.main import VERBS


def main() -> int:
    for verb in VERBS:
        done = subprocess.run([sys.executable, "-m", "edgead", verb, "--help"], capture_output=True, text=True, check=False)
        if done.returncode != 0 or "sage: edgead" not in done.stdout:
            print(f"edgead {verb} --help failed:\n{done.stderr}")
            return 1
    print(f"{len(VERBS)} verbs have --help")
    done = subprocess.run([sys.executable, "-m", "edgead", "docs", "thresholds"], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.startswith("# "):
        print(f"the wheel has no pages:\n{done.stderr}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
