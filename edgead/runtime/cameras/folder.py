"""Pictures from a folder, as if a camera had taken them."""

from __future__ import annotations

import glob
from pathlib import Path

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, CameraLost, EndOfStream, UnreadableFrame
from edgead.preprocess import list_images, read_image
from edgead.runtime.cameras.pace import Pace
from edgead.types import Frame, Image

FASTEST = 1000.0


class FolderCamera:
    """Delivers each picture once, in the order of their names; ``Frame.source`` is the file's path.

    A picture that cannot be read raises UnreadableFrame from its `grab`, so it costs one verdict and not the run.

    Args:
        address: a folder (not its subfolders), one picture, or a pattern like ``pictures/**/*.png``.
        clock: stamps the frames, and paces them.
        bits: that 16-bit pictures really use (:attr:`edgead.preprocess.PreprocessRecipe.bits`).
        fps: parts a second, as of a camera that runs by itself; the belt waits for whoever looks late. None: each picture comes
            as soon as it is asked for.

    Attributes:
        live: whether a station gives it a capture thread: True with `fps`, else the station asks for each picture.

    Raises:
        BadInput: there are no pictures, or a pace that cannot be.
    """

    time_source = "reading"

    def __init__(self, address: str, *, clock: Clock | None = None, bits: int = 16, fps: float | None = None) -> None:
        if fps is not None and not 0 < fps <= FASTEST:
            raise BadInput(f"a folder cannot be played at fps={fps:g}", hint=f"give parts a second, above 0 up to {FASTEST:g}")
        self._address, self._bits = address, bits
        self._files = _find(address)
        self._clock = clock or MonotonicClock()
        self._pace = Pace(self._clock, fps or 0.0)
        self.live = fps is not None
        self._next_id = 0
        self._read: Image | UnreadableFrame | None = None  # what comes next, before it is due
        self._closed = False

    def grab(self, timeout_s: float) -> Frame:
        """The next picture.

        Raises:
            CameraTimeout: with `fps`: it is not due within `timeout_s` seconds.
            UnreadableFrame: this file is damaged, gone or of an unsupported kind; the next call goes on with the next one.
            EndOfStream: all were delivered.
            CameraLost: the camera was closed.
        """
        if self._closed:
            raise CameraLost(f"{self._address} is closed", hint="open it again")
        if self._next_id == len(self._files):
            raise EndOfStream(f"{self._address} has no more pictures")
        frame_id, file = self._next_id, self._files[self._next_id]
        if self._read is None:  # before it waits: the pace does not hang on how long a file takes
            self._read = _image(file, self._bits)
        self._pace.wait(timeout_s)
        image, self._read = self._read, None
        self._next_id += 1
        if isinstance(image, UnreadableFrame):
            raise image
        return Frame(image, self._address, frame_id, self._clock.now_ns(), source=str(file))

    def close(self) -> None:
        self._closed = True


def _image(file: Path, bits: int) -> Image | UnreadableFrame:
    try:
        image = read_image(file, bits)
    except BadInput as error:
        return UnreadableFrame(str(error), hint=error.hint)
    image.flags.writeable = False
    return image


def _find(address: str) -> list[Path]:
    path = Path(address)
    if path.is_dir():
        return list_images(path)
    if path.is_file():
        return [path]
    found = sorted(p for p in map(Path, glob.glob(address, recursive=True)) if p.is_file())  # noqa: PTH207 - takes absolute patterns
    if not found:
        raise BadInput(f"no picture matches {address}", hint="check the path; put a pattern in quotes")
    return found
