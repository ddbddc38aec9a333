"""Fetching one file over HTTP: checked by its checksum, bounded in size and time, taken up again where it broke off.

The file is put in its place in one step and only when it is whole. Proxies are those of the environment (`https_proxy`,
`no_proxy`). Needs neither torch nor a package.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edgead import __version__, disk
from edgead.errors import BadInput, StorageError, WeightsMissing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TIMEOUT_S = 30.0
"""For an answer, and for each block of it."""

SLOWEST = 4096
"""Bytes a second on average, looked at from `PATIENCE_S` on: a server that drips holds nobody for days."""

PATIENCE_S = 60.0

_BLOCK = 1 << 18
_MOST_POINTER_BYTES = 1024
_BY_HAND = "fetch it on a machine with a network and copy it (edgead docs backbones)"


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes there are and how many there will be (0: unknown)."""

    done: int
    total: int


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    most_bytes: int,
    size: int = 0,
    check: Callable[[Path], object] = lambda _: None,
    report: Callable[[Progress], None] = lambda _: None,
    timeout_s: float = TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Fetch `url` to `target`.

    What was fetched before a break lies beside the target under a hidden name and is taken up again if the server says that the
    file is still the same.

    Args:
        sha256: the file's checksum or its first digits; empty: it is not known.
        most_bytes: a longer file is refused.
        size: bytes the file must have; 0: unknown.
        check: looks at the whole file before it is put in its place, and raises when it is not what it should be.
        report: told how far it is.
        timeout_s: for an answer, and for each block of it.
        clock: monotonic seconds.

    Returns:
        The file's SHA-256.

    Raises:
        BadInput: what came is not the file.
        WeightsMissing: no network, no such file, or it broke off.
        StorageError: it cannot be written.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab+") as file, _alone(file, target):
            _receive(url, file, _Job(most_bytes, size, report, timeout_s, clock))
            digest = _digest(file)
            if not digest.startswith(sha256):
                _forget(part)
                raise BadInput(
                    f"what {shown(url)} gives is not the published file: SHA-256 {digest[:16]}..., published {sha256[:16]}...",
                    hint="try again; if it stays so, something on the way changes it: fetch it elsewhere",
                )
            try:
                check(part)
            except BadInput:
                _forget(part)
                raise
            os.fsync(file.fileno())
            os.replace(part, target)
        _tag(part).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror or error}", hint="check disk and permissions") from error
    return digest


def read_pointer(url: str, timeout_s: float = TIMEOUT_S) -> tuple[str, int]:
    """SHA-256 and size in bytes of a file, as its publisher's Git LFS pointer tells them.

    Raises:
        BadInput: it is no such pointer.
        WeightsMissing: no network, or no such file.
    """
    check_url(url, known=False)
    with _opened(url, {}, timeout_s) as answer:
        text = answer.read(_MOST_POINTER_BYTES).decode("ascii", "replace")
    found = re.search(r"^oid sha256:([0-9a-f]{64})$", text, re.M), re.search(r"^size (\d{1,15})$", text, re.M)
    if not text.startswith("version https://git-lfs") or found[0] is None or found[1] is None:
        raise BadInput(f"{shown(url)} tells no checksum", hint=_BY_HAND)
    return found[0][1], int(found[1][1])


def check_url(url: str, known: bool) -> None:
    """Refuse addresses that are not of the web, and such without encryption unless the file's checksum is known or they are of
    this machine.

    Raises:
        BadInput: says why.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadInput(f"{url[:120]!r} is not a web address ({error})", hint="give one like https://host/file.pth") from error
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f]", url):
        raise BadInput(f"{shown(url)!r} is not a web address", hint="give one like https://host/file.pth")
    if parts.scheme == "http" and not known and host not in ("localhost", "127.0.0.1", "::1"):
        raise BadInput(
            f"{shown(url)} is not encrypted and the file's checksum is not known", hint="give an https address, or --sha256 HEX"
        )


def shown(url: str) -> str:
    """An address without user, password and query, short enough for a line."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:200]


@dataclass(frozen=True, slots=True)
class _Job:
    most_bytes: int
    size: int
    report: Callable[[Progress], None]
    timeout_s: float
    clock: Callable[[], float]


@contextlib.contextmanager
def _alone(file: BinaryIO, target: Path) -> Iterator[None]:
    """No other process fetches the same file."""
    if fcntl is not None:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(f"{target} is being fetched by another process", hint="wait for it, or end it") from error
    yield


def _receive(url: str, file: BinaryIO, job: _Job) -> None:
    """The rest of the file, or all of it."""
    part = Path(str(file.name))
    have, tag = file.seek(0, os.SEEK_END), _read_tag(part, url)
    if job.size and have == job.size and tag:
        return
    headers = {"Range": f"bytes={have}-", "If-Range": tag} if have and tag and have < job.most_bytes else {}
    with _opened(url, headers, job.timeout_s) as answer:
        start = have if answer.status == 206 and _begins(answer, have) else 0
        if answer.status == 206 and not start:
            raise WeightsMissing(f"{shown(url)} answers with another part of the file than was asked for", hint=_BY_HAND)
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else job.size
        if max(total, job.size) > job.most_bytes or (job.size and total != job.size):
            raise BadInput(f"{shown(url)} is {total:,} bytes long, which the published file is not", hint=_BY_HAND)
        file.truncate(start)
        _write_tag(part, url, answer.headers.get("ETag", ""))
        _copy(answer, file, start, total, url, job)


def _begins(answer: Any, place: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {place}-")


def _copy(answer: Any, file: BinaryIO, done: int, total: int, url: str, job: _Job) -> None:
    began, first = job.clock(), done
    while True:
        try:
            block = answer.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _broke_off(url, done, total) from error
        if not block:
            break
        done += len(block)
        if done > job.most_bytes:
            raise BadInput(
                f"{shown(url)} is longer than {job.most_bytes:,} bytes, which the published file is not", hint=_BY_HAND
            )
        file.write(block)
        job.report(Progress(done, total))
        elapsed = job.clock() - began
        if elapsed > PATIENCE_S and done - first < SLOWEST * elapsed:
            raise WeightsMissing(
                f"{shown(url)} gives less than {SLOWEST} bytes a second", hint="try again later: it goes on from here"
            )
    if total and done != total:
        raise _broke_off(url, done, total)
    file.flush()


def _broke_off(url: str, done: int, total: int) -> WeightsMissing:
    of = f" of {total:,}" if total else ""
    return WeightsMissing(
        f"{shown(url)} broke off after {done:,}{of} bytes", hint="try again: it goes on from there where the server can"
    )


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Redirects lead from https to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise WeightsMissing(f"{shown(req.full_url)} leads to {shown(newurl)}, which is not encrypted", hint=_BY_HAND)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _opened(url: str, headers: dict[str, str], timeout_s: float) -> Iterator[Any]:
    """The answer of a server that has the file."""
    asked = urllib.request.Request(url, headers={"User-Agent": f"edgead/{__version__}", "Accept-Encoding": "identity", **headers})
    try:
        answer = urllib.request.build_opener(_NoDowngrade).open(asked, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            raise WeightsMissing(
                f"{shown(url)} cannot be fetched: the server says {error.code} {error.reason}", hint=_BY_HAND
            ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsMissing(
            f"{shown(url)} cannot be reached: {_plain(reason)}", hint=f"without a network, {_BY_HAND}"
        ) from error
    with answer:
        yield answer


def _plain(reason: Any) -> str:
    """What the system says; the address of a proxy may hold a password, so it is not told."""
    text = (str(reason).splitlines() or [type(reason).__name__])[0]
    return re.sub(r"//[^/@\s]*@", "//", text)[:160] or type(reason).__name__


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_tag(part: Path, url: str) -> str:
    """The server's mark of the version that was begun; empty when it is not to be trusted."""
    try:
        told = json.loads(disk.read_file(_tag(part), _MOST_POINTER_BYTES))
        return str(told["etag"]) if told["url"] == url and not str(told["etag"]).startswith("W/") else ""
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def _write_tag(part: Path, url: str, etag: str) -> None:
    content = json.dumps({"url": url, "etag": etag}).encode()
    if etag and len(content) <= _MOST_POINTER_BYTES and "@" not in urllib.parse.urlsplit(url).netloc:
        disk.write_file(_tag(part), content)
    else:
        _tag(part).unlink(missing_ok=True)


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
