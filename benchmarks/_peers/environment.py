"""The environment that anomalib runs in: beside CPU torch, and beside edgead's own packages, which it must not change.

    python -m benchmarks._peers.environment [DIR]     # about two minutes and 2 GB

torchvision on the index is a CUDA build, so everything is installed without looking at requirements, from a list of exact
versions (requirements.txt here). torch comes from the same place as edgead's own: where the index offers a CUDA build only, give
pip a source of CPU builds, as for edgead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

DEFAULT = Path(tempfile.gettempdir()) / "edgead-anomalib"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def python_of(folder: Path) -> Path | None:
    """The interpreter of a finished environment; None when it is absent or half made."""
    made = folder / "bin/python"
    return made if made.exists() and (folder / "finished").is_file() else None


def make(folder: Path) -> Path:
    """Make the environment, or make it again.

    Raises:
        subprocess.CalledProcessError: pip failed; it has said why.
    """
    (folder / "finished").unlink(missing_ok=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    subprocess.run([str(python), "-m", "pip", "install", "--no-deps", "-r", str(REQUIREMENTS)], check=True)
    (folder / "finished").touch()
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT, help=f"default {DEFAULT}")
    print(f"made {make(parser.parse_args().folder)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
