"""What can go wrong with a real disk (the fixture ``small_disk``)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def fill(disk: Path) -> Path:
    """Fill the disk to the last byte; returns the file to remove again."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return filler


def remount(disk: Path, mode: str) -> None:
    """Make the disk read-only ("ro") or writable ("rw")."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)
