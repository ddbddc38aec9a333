"""The lowest versions that pyproject.toml allows, one pinned requirement a line: for `pip install -c`.

Usage: python .ci/floors.py EXTRA... (of the package itself and these extras; extras of its own that an extra names are followed)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tomllib

NEED = re.compile(r"([A-Za-z0-9._-]+)(?:\[([a-z0-9,-]+)\])?(?:>=([0-9.]+))?")


def floors(extras: list[str]) -> dict[str, str]:
    """Package -> lowest version."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    found: dict[str, str] = {}
    waiting = [*project["dependencies"], *(need for extra in extras for need in project["optional-dependencies"][extra])]
    while waiting:
        match = NEED.match(waiting.pop())
        assert match is not None
        name, more, version = match.groups()
        if name == project["name"]:
            waiting += [need for extra in more.split(",") for need in project["optional-dependencies"][extra]]
        elif version:
            found[name] = version
    return found


if __name__ == "__main__":
    print(
        "\n".join(
            f"{name}=={version}{'.*' if version.count('.') < 2 else ''}" for name, version in sorted(floors(sys.argv[1:]).items())
        )
    )
