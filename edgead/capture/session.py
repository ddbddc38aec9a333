"""Taking pictures until there are enough: by the clock, by hand, or each one of a recording or a hot folder."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgead.capture.album import Album
from edgead.capture.looks import Look, Small, small_of
from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, CameraLost, CameraTimeout, EndOfStream, FrameDoubtful, UnreadableFrame
from edgead.runtime.cameras import open_camera
from edgead.runtime.redact import redact
from edgead.types import Camera, Frame, Image

EVERY_MS = 1000.0
GRAB_S = 0.2
"""So often whoever presses a key is heard, at least."""
SILENT_S = 10.0
"""A camera that gives nothing for so long, though nobody has to put a file there, will not do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be taken.

    Attributes:
        camera: its address.
        folder: for the pictures.
        count: of pictures in the folder, those that are there already included.
        every_ms: pause from one picture to the next; None: a second, and of a recording or a hot folder none.
        by_hand: only when somebody asks for one.
        copies: near-copies are saved, too.
    """

    camera: str
    folder: Path
    count: int = 100
    every_ms: float | None = None
    by_hand: bool = False
    copies: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """Where it stands.

    Attributes:
        there: pictures in the folder.
        count: that are wanted.
        copies: near-copies that were not saved.
        picture: number of the camera's picture that was seen last; 0 for none.
        focus: its sharpness as a share of the best so far.
        white: share of its pixels that are white.
        level: its mean grey level.
        motion: mean difference to the picture before, in grey levels; null for the first.
        hints: what to mend.
        missing: what the saved pictures do not show yet.
        last: what became of the last one that was due.
    """

    there: int
    count: int
    copies: int = 0
    picture: int = 0
    focus: float = 1.0
    white: float = 0.0
    level: float = 0.0
    motion: float | None = None
    hints: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    last: str = ""


@dataclass(frozen=True, slots=True)
class Captured:
    """Pictures that were taken.

    Attributes:
        folder: where they are.
        saved: how many were taken now.
        there: how many are in the folder.
        count: how many were wanted.
        copies: near-copies that were not saved.
        unreadable: pictures of the camera that could not be used.
        ended: "enough", "stopped", or "end" of a recording.
        hints: what is wrong with pictures that were saved (blurred, white, dark, moving), and with how many.
        missing: what the pictures in the folder do not show yet.
    """

    folder: Path
    saved: int
    there: int
    count: int
    copies: int
    unreadable: int
    ended: str
    hints: dict[str, int]
    missing: tuple[str, ...]


class Session:
    """One round of taking pictures. `take`, `stop`, `state` and `picture` may be called by any thread, the others by one.

    Args:
        wanted: what is to be taken.
        clock: of camera and pauses.
        tell: told the state after each picture of the camera, and whenever none came; it may call `take` and `stop`.

    Raises:
        BadInput: the folder or what is wanted cannot be.
        StorageError: nothing can be written there.
    """

    def __init__(self, wanted: Wanted, *, clock: Clock | None = None, tell: Callable[[State], None] = lambda state: None) -> None:
        if wanted.by_hand and wanted.every_ms is not None:
            raise BadInput("by hand, there is no pause from picture to picture", hint="give one of --by-hand and --every-ms")
        self.wanted, self._clock, self._tell = wanted, clock or MonotonicClock(), tell
        self._album = Album(wanted.folder)
        self._lock = threading.Lock()
        self._asked = self._stopped = self._each = False
        self._seen: tuple[Image | None, State] = (None, State(len(self._album), wanted.count, missing=self._album.missing()))
        self._before: Small | None = None
        self._saved = self._unreadable = 0
        self._hints: Counter[str] = Counter()

    @property
    def state(self) -> State:
        return self._seen[1]

    @property
    def picture(self) -> Image | None:
        """The camera's last one."""
        return self._seen[0]

    def take(self) -> None:
        """Save the camera's next picture."""
        with self._lock:
            self._asked = True

    def stop(self) -> None:
        """End after the picture at hand."""
        self._stopped = True

    def run(self) -> Captured:
        """Until there are enough, the end of a recording, or `stop`.

        Raises:
            BadInput: nobody knows the camera, or its pictures cannot be taken so.
            CameraLost, CameraTimeout: it is gone, or gives nothing; what was saved stays.
            StorageError: a picture cannot be written; those before stay.
        """
        if len(self._album) >= self.wanted.count:
            return self._captured("enough")
        camera = open_camera(self.wanted.camera, clock=self._clock)
        try:
            return self._captured(self._work(camera))
        except (CameraLost, CameraTimeout) as error:
            told = f"{error}; {self._saved} were saved, {len(self._album)} are in {self.wanted.folder}"
            raise type(error)(told, hint=error.hint or "the same command goes on from there") from error
        finally:
            camera.close()

    def _work(self, camera: Camera) -> str:
        each = self._each = bool(getattr(camera, "keeps", False)) or not getattr(camera, "live", True)
        if each and (self.wanted.by_hand or self.wanted.every_ms is not None):
            raise BadInput(
                f"each picture of {redact(self.wanted.camera)} is taken: a recording or a hot folder has no pace",
                hint="leave out --by-hand and --every-ms, or play a folder at a pace: 'folder:DIR?fps=5'",
            )
        every_ns = round((self.wanted.every_ms or EVERY_MS) * 1e6)
        due_ns = heard_ns = self._clock.now_ns()
        while not self._stopped:
            try:
                frame = camera.grab(GRAB_S)
            except EndOfStream:
                return "end"
            except CameraTimeout:
                if not each and self._clock.now_ns() - heard_ns > SILENT_S * 1e9:
                    raise CameraTimeout(
                        f"camera {redact(self.wanted.camera)} gave no picture for {SILENT_S:g} s",
                        hint="does it wait for its trigger? is another program using it?",
                    ) from None
                self._tell(self.state)
                continue
            except (UnreadableFrame, FrameDoubtful):
                self._unreadable += 1
                self._tell(self.state)
                continue
            heard_ns = self._clock.now_ns()
            asked = self._was_asked()
            due = each or asked or (not self.wanted.by_hand and heard_ns >= due_ns)
            if self._see(frame, due=due) and due and not asked:
                due_ns = heard_ns + every_ns
            if len(self._album) >= self.wanted.count:
                return "enough"
        return "stopped"

    def _was_asked(self) -> bool:
        with self._lock:
            asked, self._asked = self._asked, False
        return asked

    def _see(self, frame: Frame, *, due: bool) -> bool:
        """Measure a picture, and save it where it is due; whether it was saved."""
        small = small_of(frame.image)
        look = Look.of(frame.image, small, self._before)
        self._before = None if self._each else small
        self._album.best = max(self._album.best, look.sharpness)
        hints = look.hints(self._album.best)
        before, saved = self.state, None
        last, copies = before.last, before.copies
        if due:
            copy = None if self.wanted.copies else self._album.copy_of(small)
            if copy is None:
                saved = self._album.save(frame.image, small)
                self._saved += 1
                self._hints.update(hints.keys())
                last = f"{saved.name} saved"
            else:
                copies += 1
                last = f"not saved: a near-copy of {copy.name}"
        lacks = self._album.missing() if saved else before.missing
        light = look.focus(self._album.best), look.white, look.level, look.motion
        there = len(self._album), self.wanted.count, copies, before.picture + 1
        self._seen = frame.image, State(*there, *light, tuple(hints.values()), lacks, last)
        self._tell(self.state)
        return saved is not None

    def _captured(self, ended: str) -> Captured:
        state = self.state
        return Captured(
            self.wanted.folder, self._saved, len(self._album), self.wanted.count, state.copies, self._unreadable, ended,
            dict(self._hints), self._album.missing(),
        )  # fmt: skip
