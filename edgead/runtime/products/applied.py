"""A bundle's new threshold, or a new bundle, for stations that run: who changed it leaves a file beside it, and they look at it.

    line.edgead/          the bundle
    line.edgead.apply     SHA-256 of the manifest that shall be taken, and when: by `edgead threshold BUNDLE --apply`; with
                          the word "bundle" it may be another model: by `edgead pull ... --apply`

The bundle's own files say what the threshold is; this one only that it shall be taken now. Whoever wants signatures or a digest
gets them checked as at a start. Without it a new threshold is taken at the next start.
"""

from __future__ import annotations

import time
from pathlib import Path

from edgead import disk
from edgead.bundle import storage_errors

WHOLE = "bundle"
LONGEST = 120
"""Characters that are looked at."""


def file_of(bundle: Path) -> Path:
    """The file beside a bundle's folder."""
    return bundle.parent / f"{bundle.name}.apply"


def ask(bundle: Path, digest: str, *, whole: bool = False) -> Path:
    """Ask running stations to take the bundle as it is, with that digest; returns the file.

    Args:
        whole: also when it is another model; else its threshold alone.

    Raises:
        StorageError: it cannot be written.
    """
    file = file_of(bundle)
    with storage_errors(file, hint="free space, or make the folder that the bundle lies in writable"):
        # Asked again it is another text: the bundle may have been signed meanwhile.
        disk.write_file(file, f"{digest} {time.time_ns()}{f' {WHOLE}' if whole else ''}\n".encode())
    return file


def asked(bundle: Path) -> str:
    """What is asked for: the digest, and what makes this asking another than the one before; "" when nothing is, or nobody can
    read it."""
    try:
        with file_of(bundle).open("r", encoding="utf-8", errors="replace") as file:
            return file.read(LONGEST).strip()
    except OSError:
        return ""
