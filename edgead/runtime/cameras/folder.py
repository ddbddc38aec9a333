"""Pictures from a folder, as if a camera had taken them."""

from __future__ import annotations

import glob
from pathlib import Path

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, CameraLost, EndOfStream, UnreadableFrame
from edgead.preprocess import list_images, read_image
from edgead.types import Frame


class FolderCamera:
    """Delivers each picture once, in the order of their names; ``Frame.source`` is the file's path.

    A picture that cannot be read raises UnreadableFrame from its `grab`, so it costs one verdict and not the run.

    Args:
        address: a folder (not its subfolders), one picture, or a pattern like ``pictures/**/*.png``.
        clock: stamps the frames.
        bits: that 16-bit pictures really use (:attr:`edgead.preprocess.PreprocessRecipe.bits`).

    Raises:
        BadInput: there are no pictures.
    """

    live = False
    time_source = "reading"

    def __init__(self, address: str, *, clock: Clock | None = None, bits: int = 16) -> None:
        self._address, self._bits = address, bits
        self._files = _find(address)
        self._clock = clock or MonotonicClock()
        self._next_id = 0
        self._closed = False

    def grab(self, timeout_s: float) -> Frame:
        """The next picture.

        Raises:
            UnreadableFrame: this file is damaged, gone or of an unsupported kind; the next call goes on with the next one.
            EndOfStream: all were delivered.
            CameraLost: the camera was closed.
        """
        if self._closed:
            raise CameraLost(f"{self._address} is closed", hint="open it again")
        if self._next_id == len(self._files):
            raise EndOfStream(f"{self._address} has no more pictures")
        frame_id, file = self._next_id, self._files[self._next_id]
        self._next_id += 1
        try:
            image = read_image(file, self._bits)
        except BadInput as error:
            raise UnreadableFrame(str(error), hint=error.hint) from error
        image.flags.writeable = False
        return Frame(image, self._address, frame_id, self._clock.now_ns(), source=str(file))

    def close(self) -> None:
        self._closed = True


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
