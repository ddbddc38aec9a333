"""A hot folder: another program writes pictures into it, and each new one is a part."""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, CameraLost, CameraTimeout, UnreadableFrame
from edgead.preprocess import IMAGE_SUFFIXES, read_image
from edgead.types import Frame, Image

After = Literal["leave", "delete", "move"]

LOOK_S = 0.02
"""So often the folder is looked at while a picture is waited for."""
SETTLED_MS = 100.0
AGAIN_S = 0.5
"""So often a folder that has not changed is looked at all the same (files may be overwritten), and a file is tried again."""
UNREADABLE_S = 5.0
"""A file that stands still for so long and cannot be read will not become a picture."""
DONE = "done"
"""The folder below it for what was taken, with after=move."""

MOST_GONE = 100_000
"""Names of files that are gone are kept, so many of them: a share that was away for a while brings none of them anew."""

Mark = tuple[int, int]
"""Size and time of change of a file: another one is another picture."""

_log = logging.getLogger("edgead.camera")


@dataclass(slots=True)
class _Coming:
    """A file that is not known to be whole yet.

    Attributes:
        mark: how it looked last.
        since_ns: since when it looks so.
        fault: why it could not be read like that; None when nobody tried.
        tried_ns: when that was.
    """

    mark: Mark
    since_ns: int
    fault: BadInput | None = None
    tried_ns: int = 0


class _Seen:
    """What this process has taken from a folder, or found there: it outlives a camera that is opened again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[str, dict[str, Mark]] = {}

    def of(self, folder: Path) -> tuple[dict[str, Mark], bool]:
        """Marks by name, and whether anything was known of this folder before."""
        with self._lock:
            key = os.path.realpath(folder)
            known = key in self._folders
            return self._folders.setdefault(key, {}), known


_SEEN = _Seen()


class HotFolder:
    """Each new picture file of a folder, once it is whole, in the order in which they come; ``Frame.source`` is its path.

    New is a file that was written, moved or linked there, also one that took the place of another. What was there at the start
    is new with after=delete and after=move, since nobody has taken it; with after=leave it is not, nobody could tell it from
    what was. Files that begin with a dot, and those that are no pictures by their ending, are left alone: writers may use
    either until a file is whole.

    Whole is a PNG file whose checksums are right, at once; any other one when it can be read and neither its size nor its time
    has changed for `settle_ms`. Nothing is read before. One that stands still for five seconds and cannot be read is told as
    UnreadableFrame. So the folder may lie on a share, where the system tells nothing of changes.

    A file is deleted or moved (to ``done/`` below the folder) when the next picture is asked for. One that was taken last, and
    after which nobody asked, stays: after a crash it comes again rather than never.

    Args:
        address: the folder; those below it are not looked at.
        clock: stamps the frames: a picture is as old as it is known to be whole, one that was there at the start as the start.
        bits: that 16-bit pictures really use (:attr:`edgead.preprocess.PreprocessRecipe.bits`).
        after: what becomes of a picture that was taken: "leave", "delete" or "move".
        settle_ms: see above.

    Attributes:
        keeps: True: pictures that nobody has asked for wait, and none is replaced by a newer one.

    Raises:
        BadInput: it is no folder, `after` is none of these, or the files cannot be deleted or moved.
        CameraLost: it is not there. It may come, and go: a share that is not mounted.
    """

    live = True
    keeps = True
    time_source = "arrival"

    def __init__(
        self,
        address: str,
        *,
        clock: Clock | None = None,
        bits: int = 16,
        after: str = "leave",
        settle_ms: float = SETTLED_MS,
    ) -> None:
        if after not in get_args(After):
            raise BadInput(f"a hot folder does not know after={after}", hint=f"choose {', '.join(get_args(After))}")
        if not 0 <= settle_ms <= 60_000:
            raise BadInput(f"settle_ms={settle_ms:g} is not possible", hint="give milliseconds, 0 to 60000")
        self._folder, self._bits, self._after, self._settle_ns = Path(address), bits, after, round(settle_ms * 1e6)
        self._clock = clock or MonotonicClock()
        self._opened_ns = self._clock.now_ns()
        self._next_id = 0
        self._taken: tuple[Path, Mark] | None = None  # last, to be cleared away
        self._coming: dict[str, _Coming] = {}
        self._looked: tuple[int, int] | None = None  # when nothing was new: time of change of the folder, and our clock's
        self._closed = False
        if self._folder.exists() and not self._folder.is_dir():
            raise BadInput(f"{address} is not a folder", hint="give the folder that pictures are written into")
        self._seen, known = _SEEN.of(self._folder)
        there = dict(self._files())
        if after != "leave" and not os.access(self._folder, os.W_OK):
            raise BadInput(
                f"pictures in {address} cannot be taken away: no permission", hint="after=leave, or let us write there"
            )
        if after == "leave" and not known:
            self._seen.update(there)
        self._early = there

    def grab(self, timeout_s: float) -> Frame:
        """The next picture, waiting for it if need be.

        Raises:
            CameraTimeout: none came within `timeout_s` seconds.
            UnreadableFrame: a file came that is no picture; it is cleared away like others.
            CameraLost: the folder is gone, or the camera was closed.
        """
        if self._closed:
            raise CameraLost(f"{self._folder} is closed", hint="open it again")
        self._clear_away()
        until_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        while (found := self._whole()) is None:
            left_s = (until_ns - self._clock.now_ns()) / 1e9
            if left_s <= 0:
                raise CameraTimeout(f"no picture came into {self._folder} within {timeout_s:g} s")
            self._clock.sleep(min(LOOK_S, left_s))
            if self._closed:
                raise CameraLost(f"{self._folder} is closed", hint="open it again")
        path, image = found
        assert self._taken is not None
        early = self._early.pop(path.name, None) == self._taken[1]  # one that took its place was not there at the start
        frame_id, self._next_id = self._next_id, self._next_id + 1
        if isinstance(image, BadInput):
            raise UnreadableFrame(str(image), hint=image.hint) from image
        now_ns = self._clock.now_ns()
        made_ns = self._opened_ns if early else now_ns
        return Frame(image, str(self._folder), frame_id, made_ns, source=str(path), age_ns=now_ns - made_ns)

    def close(self) -> None:
        self._closed = True

    def _whole(self) -> tuple[Path, Image | BadInput] | None:
        """The next file that is whole, or will never be, and what it holds; None: there is none now."""
        now_ns = self._clock.now_ns()
        changed_ns = self._changed_ns()
        if self._looked is not None and self._looked[0] == changed_ns and now_ns - self._looked[1] < AGAIN_S * 1e9:
            return None
        there = dict(self._files())
        self._forget(there)
        news = [name for name, mark in there.items() if self._seen.get(name) != mark]
        self._looked = None if news else (changed_ns, now_ns)
        for name in sorted(news, key=lambda name: (there[name][1], name)):
            coming = self._coming.get(name)
            if coming is None or coming.mark != there[name]:
                coming = self._coming[name] = _Coming(there[name], now_ns)
            if (image := self._look(self._folder / name, coming, now_ns)) is not None:
                del self._coming[name]
                self._seen[name] = coming.mark
                self._taken = self._folder / name, coming.mark
                return self._taken[0], image
        return None

    def _forget(self, there: dict[str, Mark]) -> None:
        """Files that came and went before they were whole, and the first of too many that were taken and are gone."""
        for name in [name for name in self._coming if name not in there]:
            del self._coming[name]
        if (many := len(self._seen) - len(there) - MOST_GONE) > 0:
            for name in [name for name in self._seen if name not in there][:many]:
                del self._seen[name]

    def _look(self, path: Path, coming: _Coming, now_ns: int) -> Image | BadInput | None:
        """What a file holds; None while it may be unfinished."""
        still_ns = now_ns - coming.since_ns
        if still_ns < self._settle_ns and path.suffix.lower() != ".png":
            return None
        if coming.fault is not None and now_ns - coming.tried_ns < AGAIN_S * 1e9:
            return None
        coming.tried_ns = now_ns
        try:
            image = read_image(path, self._bits)
        except BadInput as error:
            coming.fault = error
            return error if still_ns >= UNREADABLE_S * 1e9 else None
        if _mark(path) != coming.mark:  # it changed meanwhile
            return None
        image.flags.writeable = False
        return image

    def _changed_ns(self) -> int:
        """When a file came or went last. Raises CameraLost."""
        try:
            return self._folder.stat().st_mtime_ns
        except OSError as error:
            raise self._gone(error) from error

    def _gone(self, error: OSError) -> CameraLost:
        return CameraLost(
            f"the hot folder {self._folder} is not there: {error.strerror or error}", hint="make it, or mount its share"
        )

    def _files(self) -> Iterator[tuple[str, Mark]]:
        """The picture files that are there. Raises CameraLost."""
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:  # noqa: PTH122
                        continue
                    if (mark := _mark(Path(entry.path))) is not None:
                        yield entry.name, mark
        except OSError as error:
            raise self._gone(error) from error

    def _clear_away(self) -> None:
        """The picture that was taken last, unless another one has its name by now."""
        taken, self._taken = self._taken, None
        if taken is None or self._after == "leave" or _mark(taken[0]) != taken[1]:
            return
        path = taken[0]
        try:
            if self._after == "delete":
                path.unlink()
            else:
                done = self._folder / DONE
                done.mkdir(exist_ok=True)
                os.replace(path, _free(done / path.name))
        except OSError as error:
            _log.warning("%s cannot be taken away: %s; after a restart it comes again", path, error.strerror or error)


def _mark(path: Path) -> Mark | None:
    """Of a regular file, or of what a link leads to; None: there is none (any more)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _free(path: Path) -> Path:
    """`path`, or the first of NAME-1, NAME-2, ... that is not taken."""
    number = 0
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found
