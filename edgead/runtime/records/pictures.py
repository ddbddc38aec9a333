"""Pictures of parts that are not OK: on disk, or in a window. Both are slow, so a station runs them on their own threads."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import cv2

from edgead.errors import BadInput, MissingExtra, OutputError, StorageError
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.records.database import WRONG
from edgead.runtime.records.overlay import HeatScale, draw_overlay
from edgead.runtime.records.quota import Shelf, stem, temporary
from edgead.runtime.records.wallclock import WallClock
from edgead.types import Image, Inspection, Verdict

JPEG_QUALITY = 90
_log = logging.getLogger("edgead.pictures")


class PictureFolder:
    """Saves NG and UNKNOWN parts: ``TIME_part_VERDICT.jpg`` with the overlay and ``TIME_part_VERDICT.png``, the camera's picture.

    A full disk costs pictures, never verdicts: they are counted in `lost`, each change is one line in the log. The quota holds at
    any time, over restarts, too: OK pictures go first, then UNKNOWN, then NG, the oldest of each first; a storm of UNKNOWN
    cannot evict NG. Files are whole or not there. Other files in the folder are never touched, but take from the disk's reserve.

    Args:
        folder: made if need be; one station a folder.
        scale, recipe: for the overlay.
        looks: the same by the name of the engine that answered (:attr:`Inspection.engine`), where they differ. May grow.
        max_mb: of all pictures together; None is no limit.
        max_days: older ones are removed; a date that jumps forward removes none.
        min_free_mb: of the disk stay free.
        ok_every: save each so manieth OK part, too; 0 saves none.
        on_saved: told part id, picture and overlay (:meth:`edgead.runtime.records.store.RecordStore.attach`).
        wall: dates and the monotonic clock.

    Raises:
        StorageError: the folder cannot be written. A full or read-only disk is no error: the station starts.
        BadInput: a limit makes no sense.
    """

    def __init__(
        self,
        folder: Path,
        scale: HeatScale,
        recipe: PreprocessRecipe | None = None,
        *,
        max_mb: float | None = None,
        max_days: float | None = None,
        min_free_mb: float = 200.0,
        ok_every: int = 0,
        on_saved: Callable[[int, Path, Path], None] | None = None,
        wall: WallClock | None = None,
        looks: Mapping[str, tuple[HeatScale, PreprocessRecipe | None]] | None = None,
    ) -> None:
        if not (max_mb is None or max_mb > 0) or not (max_days is None or max_days > 0) or min_free_mb < 0 or ok_every < 0:
            raise BadInput("pictures need max_mb and max_days above 0, min_free_mb and ok_every not below")
        self._folder, self._usual_look, self._looks = folder, (scale, recipe), looks if looks is not None else {}
        self._max_age = None if max_days is None else timedelta(days=max_days)
        self._ok_every, self._oks, self._on_saved = ok_every, 0, on_saved
        self._wall = wall or WallClock()
        self._faults: dict[Verdict, str] = {}
        self.saved = self.lost = 0
        self._max_bytes, self._reserve_bytes = None if max_mb is None else int(max_mb * 1e6), int(min_free_mb * 1e6)
        self._shelf: Shelf | None = None
        try:
            _prove_writable(folder)
            self._open()
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno in WRONG:
                raise StorageError(f"cannot save pictures in {folder}: {reason}", hint="choose another folder") from error
            _log.error("pictures cannot be saved yet: %s: %s", folder, reason)

    @property
    def total_bytes(self) -> int:
        """Bytes of all pictures in the folder."""
        return self._shelf.total_bytes if self._shelf is not None else 0

    def _open(self) -> Shelf:
        """The folder's books. Raises OSError."""
        if self._shelf is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._shelf = Shelf(self._folder, self._max_bytes, self._reserve_bytes)
        return self._shelf

    def save(self, inspection: Inspection) -> None:
        """Save one part if its verdict is wanted and it has a picture; and see whether old pictures are due."""
        if self._max_age is not None and self._shelf is not None:
            self._expire(self._shelf, self._wall.cutoff(self._max_age))
        if inspection.frame is None or not self._wanted(inspection.verdict):
            return
        name = stem(self._wall.now(), inspection.part_id, inspection.verdict)
        try:
            fault = self._store(name, inspection, inspection.frame.image)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one picture must be counted, and cost no other
            fault = getattr(error, "strerror", None) or str(error) or type(error).__name__
        self._note(inspection.verdict, fault)
        if fault:
            self.lost += 1
            return
        self.saved += 1
        if self._on_saved is not None:
            picture, overlay = (self._folder / f"{name}{suffix}" for suffix in (".png", ".jpg"))
            self._on_saved(inspection.part_id, picture, overlay)

    def _wanted(self, verdict: Verdict) -> bool:
        if verdict is not Verdict.OK:
            return True
        self._oks += 1
        return self._ok_every > 0 and self._oks % self._ok_every == 0

    def _store(self, name: str, inspection: Inspection, image: Image) -> str:
        """Write both files; returns why there is no room. Raises OSError."""
        overlay = draw_overlay(inspection, *self._looks.get(inspection.engine, self._usual_look))
        files = {
            f"{name}.jpg": _encode(".jpg", overlay, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]),
            f"{name}.png": _encode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
        }
        size = sum(map(len, files.values()))
        shelf = self._open()
        if refused := shelf.admit(inspection.verdict, size):
            return refused
        _write_all(self._folder, files)
        shelf.add(name, size)
        return ""

    def _expire(self, shelf: Shelf, before: datetime) -> None:
        try:
            shelf.expire(before)
        except OSError as error:
            _log.error("old pictures stay: %s: %s", self._folder, error.strerror or error)

    def _note(self, verdict: Verdict, fault: str) -> None:
        """Log what changed for this verdict."""
        before = self._faults.get(verdict, "")
        self._faults[verdict] = fault
        if fault and not before:
            _log.error("%s pictures are being lost, verdicts go on: %s: %s", verdict.value, self._folder, fault)
        elif before and not fault:
            _log.warning("%s pictures are saved again in %s; %d were lost so far", verdict.value, self._folder, self.lost)


class Window:
    """Shows each part in a window.

    Raises:
        MissingExtra: this OpenCV was built without windows.
        OutputError: there is no screen.
    """

    def __init__(self, title: str, scale: HeatScale, recipe: PreprocessRecipe | None = None) -> None:
        self._title, self._scale, self._recipe = title, scale, recipe
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
            cv2.imshow(self._title, draw_overlay(inspection, self._scale, self._recipe))
            cv2.waitKey(1)


def _encode(suffix: str, image: Image, options: list[int]) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files or none, each whole even after a power cut. Raises OSError."""
    try:
        for name, data in files.items():
            with (folder / temporary(name)).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for name in files:
            (folder / temporary(name)).rename(folder / name)
    except OSError:
        for name in files:
            for left in (temporary(name), name):
                with suppress(OSError):
                    (folder / left).unlink(missing_ok=True)
        raise


def _prove_writable(folder: Path) -> None:
    """Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".edgead-probe"
    probe.write_bytes(b"")
    probe.unlink()
