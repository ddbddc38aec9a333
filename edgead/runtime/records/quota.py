"""Which pictures stay when there is no room for all: NG outlives UNKNOWN, UNKNOWN outlives OK, the newest outlive the oldest."""

from __future__ import annotations

import os
import re
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgead.types import Verdict

STAMP = "%Y%m%dT%H%M%S.%f"  # cut to milliseconds in names
SUFFIXES = (".jpg", ".png")  # overlay, the camera's picture
ORDER = (Verdict.OK, Verdict.UNKNOWN, Verdict.NG)
"""What goes first."""

_NAME = re.compile(r"(\d{8}T\d{6}\.\d{3})Z_\d{6,}_(OK|NG|UNKNOWN)$")


def stem(stamp: datetime, part_id: int, verdict: Verdict) -> str:
    """``20261122T060000.000Z_000042_NG``."""
    return f"{stamp.astimezone(timezone.utc).strftime(STAMP)[:-3]}Z_{part_id:06d}_{verdict.value}"


@dataclass(frozen=True, slots=True)
class Entry:
    """The pictures of one part: name without suffix, date in it, bytes of both files."""

    stem: str
    verdict: Verdict
    stamp: datetime
    size: int


def parse(name: str, size: int) -> Entry | None:
    """The entry of a name without suffix; None when it is not one of ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        stamp = datetime.strptime(match[1], STAMP).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return Entry(name, Verdict(match[2]), stamp, size)


class Shelf:
    """The books of a folder of pictures; used by one thread. Files that it did not name itself are never touched.

    Args:
        folder: scanned now; halves left by a crash are removed, and what is over the quota.
        max_bytes: of all pictures together, at any time; None is no limit.
        reserve_bytes: of the disk stay free.
        free: bytes free on the disk.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int | None,
        reserve_bytes: int,
        *,
        free: Callable[[Path], int] = lambda f: shutil.disk_usage(f).free,
    ) -> None:
        self._folder, self._max_bytes, self._reserve_bytes, self._free = folder, max_bytes, reserve_bytes, free
        self._entries: dict[Verdict, deque[Entry]] = {verdict: deque() for verdict in ORDER}
        self._bytes = dict.fromkeys(ORDER, 0)
        self._scan()
        self.admit(Verdict.NG, 0)

    @property
    def total_bytes(self) -> int:
        """Bytes of all pictures."""
        return sum(self._bytes.values())

    def count(self, verdict: Verdict) -> int:
        """Parts of this verdict that have pictures."""
        return len(self._entries[verdict])

    def admit(self, verdict: Verdict, size: int) -> str:
        """Make room for `size` bytes; "" when there is room now, else why not (nothing was removed then).

        For the quota, pictures of the same or a lesser verdict give way. For the disk's reserve only OK and UNKNOWN do:
        whoever else fills the disk does not cost NG pictures that are already there.

        Raises:
            OSError: a picture cannot be removed.
        """
        lesser = ORDER[: ORDER.index(verdict) + 1]
        excess = 0 if self._max_bytes is None else max(0, self.total_bytes + size - self._max_bytes)
        if excess > sum(self._bytes[v] for v in lesser):
            return "the quota is full of pictures that matter more" if self.total_bytes else "a picture is larger than the quota"
        unimportant = tuple(v for v in lesser if v is not Verdict.NG)
        if self._reserve_bytes + size - self._free(self._folder) > sum(self._bytes[v] for v in unimportant):
            return "the disk is full up to its reserve"
        while self._max_bytes is not None and self.total_bytes + size > self._max_bytes:
            self._remove_oldest(lesser)
        while self._reserve_bytes + size > self._free(self._folder) and any(self._bytes[v] for v in unimportant):
            self._remove_oldest(unimportant)
        return ""

    def add(self, name: str, size: int) -> None:
        """Enter what was written."""
        entry = parse(name, size)
        assert entry is not None, f"{name} is not one of our names"
        self._entries[entry.verdict].append(entry)
        self._bytes[entry.verdict] += size

    def expire(self, before: datetime) -> None:
        """Remove what is older than `before`. Raises OSError."""
        for entries in self._entries.values():
            while entries and entries[0].stamp < before:
                self._remove(entries[0])

    def _remove_oldest(self, verdicts: tuple[Verdict, ...]) -> None:
        self._remove(next(self._entries[v][0] for v in verdicts if self._entries[v]))

    def _remove(self, entry: Entry) -> None:
        for suffix in SUFFIXES:
            (self._folder / f"{entry.stem}{suffix}").unlink(missing_ok=True)
        self._entries[entry.verdict].popleft()
        self._bytes[entry.verdict] -= entry.size

    def _scan(self) -> None:
        sizes: dict[str, int] = {}
        with os.scandir(self._folder) as found:
            for file in found:
                name, suffix = os.path.splitext(file.name)  # noqa: PTH122 - a Path for each of 100,000 files takes seconds
                if suffix == ".tmp" and parse(temporary_of(name), 0) is not None:
                    (self._folder / file.name).unlink()
                elif suffix in SUFFIXES and file.is_file(follow_symlinks=False):
                    sizes[name] = sizes.get(name, 0) + file.stat(follow_symlinks=False).st_size
        for name in sorted(sizes):
            if parse(name, 0) is not None:
                self.add(name, sizes[name])


def temporary(name: str) -> str:
    """The name under which a file is written before it is whole."""
    return f".{name}.tmp"


def temporary_of(name: str) -> str:
    """The stem that `temporary` was made of, given its name without ``.tmp``; anything else gives anything else."""
    return name.removeprefix(".").rpartition(".")[0] if name.startswith(".") else ""
