"""A lab as a newcomer has it: the wheel, what the tutorial's extras bring, and nothing of the repository on the path.

pip would take minutes for it (torch, and CUDA where PyTorch's own index is not reached). The packages are linked from the
environment that runs this, which has them all; one that the extras do not bring is not there.

Usage: python .ci/lab.py WHEEL FOLDER
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from collections import Counter
from importlib.metadata import Distribution, distributions
from pathlib import Path

from licences import closure

TUTORIAL = Path(__file__).resolve().parents[1] / "docs/tutorial.md"


def extras() -> list[str]:
    """Those that the tutorial's lab is installed with."""
    found = re.search(r"<!-- lab -->\n```sh\n.*?\.whl\[(.*?)\]", TUTORIAL.read_text("utf-8"), re.S)
    if found is None:
        sys.exit(f"{TUTORIAL} installs no lab")
    return found[1].split(",")


def entries(dist: Distribution) -> set[str]:
    """What a package puts into site-packages: its first folders and files, without scripts."""
    return {file.parts[0] for file in dist.files or () if file.parts[0] not in ("..", "__pycache__")}


def link(dist: Distribution, target: Path, shared: set[str]) -> None:
    """A package's files as links: whole folders, where no other package has a part in them."""
    home = Path(str(dist.locate_file("")))
    for name in entries(dist) - shared:
        (target / name).symlink_to(home / name)
    for file in dist.files or ():
        if file.parts[0] in shared and not (target / file).is_symlink():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (target / file).symlink_to(home / file)


def main() -> None:
    wheel, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    venv.create(folder, symlinks=True)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    target = next(folder.glob("lib/python*/site-packages"))
    of = Counter(name for dist in distributions() for name in entries(dist))
    shared = {name for name, count in of.items() if count > 1}
    wanted: dict[str, Distribution] = {}
    for extra in extras():
        found, absent = closure("edgead", extra)
        if absent:
            sys.exit(f"not installed here: {', '.join(sorted(absent))}")
        wanted |= found
    for dist in wanted.values():
        link(dist, target, shared)
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    subprocess.run([*pip, "check"], check=True)
    told = [python.absolute(), "-I", "-c", "import edgead; print(edgead.__file__)"]
    where = subprocess.run(told, cwd=folder, capture_output=True, text=True, check=True)
    if not Path(where.stdout.strip()).is_relative_to(folder.resolve()):
        sys.exit(f"edgead comes from {where.stdout.strip()}, not from the wheel")
    print(f"{len(wanted)} packages, edgead from the wheel")


if __name__ == "__main__":
    main()
