"""Reading plain files only; replacing a file or a folder so that a crash or a power cut leaves the old one or the new, whole."""

from __future__ import annotations

import ctypes
import errno
import glob
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgead.errors import BadInput, StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)


def is_special(path: Path) -> bool:
    """Is this something that is written to, but never replaced: a device, a pipe, a socket, or a name of an open file?"""
    place = path.absolute().parts[1:3]
    if place[:1] in (("dev",), ("proc",)) and place != ("dev", "shm") and path.exists():
        return True  # /dev/stdout may lead to a file that somebody else has open
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_replaceable(path: Path) -> None:
    """Raises OSError: another file in its place would destroy what it is."""
    if is_special(path):
        raise OSError(errno.EINVAL, "it is a device or a pipe, no file", str(path))


class NotPlain(OSError):
    """A path that is no regular file: a folder, a FIFO, a device, a socket."""


def check_regular(path: Path, what: str = "file") -> None:
    """Refuse what is no regular file (a pipe would be waited for, a device read without end).

    Raises:
        BadInput: there is none, or it is something else.
    """
    if not path.exists():
        raise BadInput(f"there is no {what} {path}", hint="check the path")
    if not path.is_file():
        raise BadInput(f"{path} is no regular file", hint="give a file on the disk, not a folder, pipe or device")


def open_file(path: Path) -> BinaryIO:
    """A regular file, open for reading; a FIFO or a device is refused before it can block, or give without end.

    Raises:
        NotPlain: it is something else.
        OSError: missing, or it cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise NotPlain(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `open_file`, or it is larger than `max_bytes`.
    """
    with open_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > max_bytes:
            raise OSError(errno.EFBIG, f"it is {size:,} bytes long, expected at most {max_bytes:,}", str(path))
        return file.read(size)


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def replace_file(file: Path, text: str) -> None:
    """Put a text (UTF-8) in the place of an existing file, in one step; its permissions stay. A link leads to its file still.

    Raises:
        OSError: the disk is full or not writable; the old file stays and nothing is left beside it.
    """
    check_replaceable(file)
    file = file.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        shutil.copymode(file, name)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _flush(file.parent)


def write_file(file: Path, content: bytes) -> None:
    """Put a small file in its place in one step, whether one is there or not.

    Raises:
        OSError: the disk is full or not writable; nothing is left beside it.
    """
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        Path(name).chmod(0o644)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _flush(file.parent)


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target` to fill, which vanishes at the end; what killed processes left there is removed first.

    The folder is locked as long as this process lives, so that no other one takes it for left behind.

    Raises:
        OSError: it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(target)
    work, lock = _locked_folder(target)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_left_behind(target: Path) -> list[Path]:
    """Remove the work folders that killed processes left beside `target`, with a line in the log each; those that were removed.
    One that a living process holds is not touched."""
    if fcntl is None:
        return []
    pattern = re.compile(re.escape(f".{target.name}.") + r"[a-z0-9_]{8}")
    gone = []
    for left in sorted(target.parent.iterdir()):
        if not pattern.fullmatch(left.name) or left.is_symlink() or not left.is_dir():
            continue
        lock = _lock(left, wait=False)
        if lock is None:
            continue
        try:
            shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(lock)
        gone.append(left)
        _log.warning("removed %s, left behind by a run that was killed", left)
    return gone


def _locked_folder(target: Path) -> tuple[Path, int | None]:
    """A new work folder and its lock. Another process may remove it before it is locked: then it is made again."""
    while True:
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        if fcntl is None:
            return work, None
        lock = _lock(work, wait=True)
        if lock is not None and work.exists() and os.fstat(lock).st_ino == work.stat().st_ino:
            return work, lock
        if lock is not None:
            os.close(lock)
        elif work.exists():
            return work, None  # a file system without locks


def _lock(folder: Path, wait: bool) -> int | None:
    """An open, locked handle of a folder; None when another process holds it or it cannot be locked."""
    assert fcntl is not None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    return handle


def hold(folder: Path) -> int | None:
    """Take a folder for this process alone, until the handle that is returned is closed; None: another process holds it.

    Raises:
        OSError: there is no such folder, or it may not be read.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks
        pass
    return handle


def exchange_folders(work: Path, target: Path, keep: Path | None = None) -> None:
    """Flush `work` to the disk and put it in the place of `target`, in one step where the system can (Linux).

    What was there is then at `keep`, a folder that is not there yet; without one at `work`, for the caller to remove. In two
    steps (other systems, some network file systems) a crash may leave the old folder under a hidden name; :func:`mend` puts it
    back.

    Raises:
        OSError: it did not work, or what is there is no folder; the old one is where it was.
    """
    check_replaceable(target)
    for path in (*work.rglob("*"), work):
        _flush(path)
    if not target.exists():
        os.replace(work, target)
    elif keep is None:
        _swap(work, target)
    else:
        keep.parent.mkdir(exist_ok=True)
        os.replace(work, keep)  # from here a crash loses nothing: the new one lies among the former ones
        try:
            _swap(keep, target)
        except OSError:
            os.replace(keep, work)
            if not any(keep.parent.iterdir()):
                keep.parent.rmdir()
            raise
        if not any(keep.parent.iterdir()):  # a link was replaced
            keep.parent.rmdir()
        else:
            _flush(keep.parent)
    _flush(target.parent)


def mend(target: Path) -> None:
    """Put back what a crash between the two steps of :func:`exchange_folders` left under a hidden name.

    Raises:
        StorageError: it cannot be put back; the message tells where it is.
    """
    if target.exists():
        return
    name = glob.escape(target.name)
    for aside in sorted(target.parent.glob(f".{name}.old.*/{name}")):
        try:
            os.replace(aside, target)
            aside.parent.rmdir()
        except OSError as error:
            raise StorageError(f"{target} was left at {aside} by a crash: {error}", hint="move it back by hand") from error
        return


def _swap(work: Path, target: Path) -> None:
    """`work` takes the place of `target`, and the other way round; a link that was there vanishes."""
    if not _exchanged(work, target):
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        os.replace(target, old / target.name)
        try:
            os.replace(work, target)
        except OSError:
            mend(target)
            raise
        os.replace(old / target.name, work)
        old.rmdir()
    if work.is_symlink():
        work.unlink()


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two paths in one step (Linux ``renameat2`` with RENAME_EXCHANGE); False where system or file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform.startswith("linux") else None
    if rename is None:
        return False
    rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _flush(path: Path) -> None:
    """Make a file or a folder survive a power cut from here on."""
    if os.name != "posix" and path.is_dir():
        return  # Windows has no such thing for folders
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no fsync for folders
            raise
    finally:
        os.close(handle)
