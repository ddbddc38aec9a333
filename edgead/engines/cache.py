"""Compiled engines kept from one start to the next, in a cache folder of the user's own.

They never lie in the bundle: its digests would no longer hold, and it may be read-only. A kept engine is found again only for the
same engine file, backend version, CPU and settings (the key), only whole (its SHA-256 stands at its end), and only when nobody
else could have put it there: folder and file belong to this user, and nobody else may write to them. In every other case the
engine is compiled again; a cache that cannot be used costs time and one line in the log, never the start.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.bundle import Bundle, EngineRecord

OFF = "off"
MAX_BYTES = 2**30
"""Of all kept engines together; those that were not used for longest go."""

_SUFFIX = ".compiled"
_DIGEST_BYTES = 32
_log = logging.getLogger("edgead.engines")


@dataclass(frozen=True, slots=True)
class Mapped:
    """A kept engine in memory, copy on write; it must live as long as what was made of it.

    Attributes:
        blob: uint8, its content.
    """

    blob: npt.NDArray[np.uint8]
    _memory: mmap.mmap

    def unload(self) -> None:
        """Let go of pages that are not needed again: most weights were copied into another order. Others come back from the file
        (nothing writes to them: OpenVINO's own cache maps them read-only)."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)


def folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where compiled engines are kept: in $EDGEAD_CACHE, $CACHE_DIRECTORY (systemd), $XDG_CACHE_HOME/edgead or ~/.cache/edgead.

    None: switched off by ``EDGEAD_CACHE=off``, or there is no home.
    """
    own = environ.get("EDGEAD_CACHE", "")
    if own == OFF:
        return None
    if own:
        base = Path(own).expanduser()
    elif given := environ.get("CACHE_DIRECTORY", ""):
        base = Path(given.partition(":")[0])
    elif given := environ.get("XDG_CACHE_HOME", ""):
        base = Path(given) / "edgead"
    else:
        try:
            base = Path.home() / ".cache/edgead"
        except RuntimeError:
            return None
    return base.absolute() / "engines"


@dataclass(frozen=True, slots=True)
class Kept:
    """The compiled form of one engine file.

    Attributes:
        folder: for all kept engines.
        content: SHA-256 of the engine's files.
        max_bytes: of all kept engines together.
    """

    folder: Path
    content: tuple[str, ...]
    max_bytes: int = MAX_BYTES

    @classmethod
    def of(cls, bundle: Bundle, record: EngineRecord) -> Kept | None:
        """For an engine of an opened bundle, whose digests have been checked; None when nothing is kept."""
        where = folder()
        stem = record.file.rpartition(".")[0]
        files = bundle.manifest.files
        digests = tuple(files[name] for name in sorted(files) if name.rpartition(".")[0] == stem)
        return None if where is None or not digests else cls(where, digests)

    def load(self, *settings: object) -> Mapped | None:
        """What :meth:`save` kept under the same settings; None when there is nothing to trust.

        Args:
            settings: all that the compiled form depends on besides the file: versions, CPU, options.
        """
        file = self._file(settings)
        try:
            with _trusted(self.folder, file) as handle:
                size = os.fstat(handle).st_size
                mapped = mmap.mmap(handle, size, access=mmap.ACCESS_COPY) if size > _DIGEST_BYTES else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning("compiled engines are not used: %s; compiling", str(error))  # the error itself would hold the model
            return None
        if mapped is not None:
            whole = np.frombuffer(mapped, np.uint8)
            blob, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:].tobytes()
            if hashlib.sha256(blob.data).digest() == digest:
                with contextlib.suppress(OSError):
                    os.utime(file)  # it was used
                return Mapped(blob, mapped)
        self.spoilt("it is not whole", *settings)
        return None

    def save(self, blob: Any, *settings: object) -> None:
        """Keep a compiled engine (bytes-like) for the next start, in one step; what fails is one line in the log."""
        work = None
        try:
            _own_folder(self.folder)
            handle, work = tempfile.mkstemp(prefix=".", suffix=_SUFFIX, dir=self.folder)  # mode 0600
            with os.fdopen(handle, "wb") as out:
                out.write(blob)
                out.write(hashlib.sha256(blob).digest())
            os.replace(work, self._file(settings))
            self._shrink()
        except OSError as error:
            _log.warning("the compiled engine is not kept: %s", str(error))
            if work is not None:
                Path(work).unlink(missing_ok=True)

    def spoilt(self, why: str, *settings: object) -> None:
        """Remove what cannot be used."""
        file = self._file(settings)
        _log.warning("the kept compiled engine %s is not used: %s; compiling", file, why)
        with contextlib.suppress(OSError):
            file.unlink()

    def _file(self, settings: tuple[object, ...]) -> Path:
        key = hashlib.sha256("\0".join([*self.content, *map(str, settings)]).encode()).hexdigest()
        return self.folder / f"{key[:40]}{_SUFFIX}"

    def _shrink(self) -> None:
        found = sorted(((file, file.stat()) for file in self.folder.glob(f"*{_SUFFIX}")), key=lambda item: -item[1].st_mtime_ns)
        total = 0
        for file, facts in found:
            total += facts.st_size
            if total > self.max_bytes:
                file.unlink(missing_ok=True)


@contextlib.contextmanager
def _trusted(where: Path, file: Path) -> Iterator[int]:
    """An open descriptor of a file that only this user can have written.

    Raises:
        FileNotFoundError: there is none.
        PermissionError: somebody else may have put it there.
        OSError: it cannot be read.
    """
    _check_owner(where, where.stat())
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_owner(file, os.fstat(handle))
        yield handle
    finally:
        os.close(handle)


def _own_folder(where: Path) -> None:
    """Make the folder, for this user alone."""
    if not where.is_dir():
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_owner(where, where.stat())


def _check_owner(path: Path, facts: os.stat_result) -> None:
    if not hasattr(os, "geteuid"):
        return  # Windows: the user's own profile
    if facts.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} can be written by other users")
