"""Pictures of parts that are not OK: on disk, or in a window. Both are slow, so a station runs them on their own threads."""

from __future__ import annotations

import logging
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

import cv2

from edgead.errors import MissingExtra, OutputError, StorageError
from edgead.runtime.overlay import HeatScale, draw_overlay
from edgead.types import Image, Inspection, Verdict

JPEG_QUALITY = 90
_log = logging.getLogger("edgead.pictures")


class PictureFolder:
    """Saves NG and UNKNOWN parts: ``TIME_part_VERDICT.jpg`` with the overlay and ``TIME_part_VERDICT.png``, the camera's picture.

    A full disk costs pictures, never verdicts: they are counted in `lost`, the first failure is logged.

    Args:
        folder: made if need be.
        scale, roi: for the overlay.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, scale: HeatScale, roi: tuple[int, int, int, int] | None = None) -> None:
        self._folder, self._scale, self._roi = folder, scale, roi
        self.saved = self.lost = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".edgead-probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(f"cannot save pictures in {folder}: {reason}", hint="choose another --save-ng DIR") from error

    def save(self, inspection: Inspection) -> None:
        """Save one part if it is not OK and has a picture."""
        if inspection.verdict is Verdict.OK or inspection.frame is None:
            return
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
        name = f"{stamp}_{inspection.part_id:06d}_{inspection.verdict.value}"
        try:
            overlay = draw_overlay(inspection, self._scale, self._roi)
            _write(self._folder / f"{name}.jpg", overlay, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            _write(self._folder / f"{name}.png", inspection.frame.image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            self.saved += 1
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                _log.error("pictures are being lost, verdicts go on: %s: %s", self._folder, error.strerror or error)


class Window:
    """Shows each part in a window.

    Raises:
        MissingExtra: this OpenCV was built without windows.
        OutputError: there is no screen.
    """

    def __init__(self, title: str, scale: HeatScale, roi: tuple[int, int, int, int] | None = None) -> None:
        self._title, self._scale, self._roi = title, scale, roi
        if any(
            line.split()[-1:] == ["NONE"] for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")
        ):
            raise MissingExtra(
                "--show needs an OpenCV with windows, this one is headless",
                hint="pip uninstall -y opencv-python-headless && pip install opencv-python (or use --save-ng DIR)",
            )
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise OutputError("--show needs a screen, and DISPLAY is not set", hint="use --save-ng DIR instead")

    def show(self, inspection: Inspection) -> None:
        """Show one part; always from the same thread. Parts without a picture leave the last one standing."""
        if inspection.frame is not None:
            cv2.imshow(self._title, draw_overlay(inspection, self._scale, self._roi))
            cv2.waitKey(1)


def _write(file: Path, image: Image, options: list[int]) -> None:
    """Encode and write; a file that could not be written whole is removed. Raises OSError."""
    data = cv2.imencode(file.suffix, image, options)[1]
    try:
        file.write_bytes(data.tobytes())
    except OSError:
        file.unlink(missing_ok=True)
        raise
