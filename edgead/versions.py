"""Former bundles and trained models: what was replaced is kept beside what took its place, and can be put back.

    part.edgead/                   the bundle in force
    part.edgead.versions/0001/     the first one that was replaced, whole
    part.edgead.versions/0002/     ...

They are kept until somebody removes them, but for the oldest beyond `KEPT`.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead import disk
from edgead.errors import BadInput

KEPT = 10
"""Former versions of a bundle; the oldest beyond are removed when another one is kept."""

MARKERS = ("manifest.json", "model.json")
_NUMBER = re.compile(r"[0-9]{4,}")


@dataclass(frozen=True, slots=True)
class Version:
    """A former bundle or trained model.

    Attributes:
        number: of it, the oldest first.
        path: its folder.
        made: when it was made, ISO 8601; "" when it does not tell.
    """

    number: int
    path: Path
    made: str


def folder_of(target: Path) -> Path:
    """Where the former versions of a bundle lie."""
    return target.with_name(f"{target.name}.versions")


def former(target: Path) -> list[Version]:
    """All former versions, the oldest first."""
    folder = folder_of(target)
    paths = sorted(folder.iterdir(), key=lambda p: (len(p.name), p.name)) if folder.is_dir() else []
    found = [p for p in paths if _NUMBER.fullmatch(p.name) and any((p / marker).is_file() for marker in MARKERS)]
    return [Version(int(p.name), p, made_at(p)) for p in found]


def made_at(path: Path) -> str:
    """When a bundle or a trained model was made, as it tells itself."""
    for marker in MARKERS:
        try:
            data: Any = json.loads((path / marker).read_text("utf-8"))
            return str(data.get("created_at") or data["origin"]["created_at"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    return ""


def place_for(target: Path) -> Path:
    """The folder, not there yet, that what `target` holds now is to be kept in."""
    folder = folder_of(target)
    numbers = [int(p.name) for p in folder.iterdir() if _NUMBER.fullmatch(p.name)] if folder.is_dir() else []
    return folder / f"{max(numbers, default=0) + 1:04d}"


def trim(target: Path) -> list[Path]:
    """Remove the oldest versions beyond `KEPT`; those that were. Raises OSError."""
    gone = [version.path for version in former(target)[:-KEPT]]
    for path in gone:
        shutil.rmtree(path)
    return gone


def restore(target: Path, number: int | None = None) -> tuple[Version, Path | None]:
    """Put a former version back; what is there now is kept as the newest one.

    Args:
        number: which; None takes the newest.

    Returns:
        the version, and where what was there is now (None: nothing was there).

    Raises:
        BadInput: there is no such version.
        OSError: the disk is full or not writable.
    """
    known = former(target)
    if not known:
        raise BadInput(f"{target} has no former versions", hint=f"they would lie in {folder_of(target)}")
    wanted = known[-1] if number is None else next((v for v in known if v.number == number), None)
    if wanted is None:
        numbers = ", ".join(str(v.number) for v in known)
        raise BadInput(f"{target} has no version {number}", hint=f"there are: {numbers}")
    keep = place_for(target) if target.exists() else None
    disk.exchange_folders(wanted.path, target, keep)
    return wanted, keep
