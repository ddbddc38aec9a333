"""Settings of USB cameras through OpenCV's V4L2 backend: set, then read back.

UVC's units are not everybody's: exposure goes in steps of 100 us, gain has no unit (so ``gain_db`` is refused; ``GAIN=20`` sets
the camera's own number). OpenCV turns what the camera sends into BGR itself, so `pixel_format` is the FOURCC on the cable.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import cv2

from edgead.errors import BadInput
from edgead.runtime.cameras.settings import CameraSettings

EXPOSURE_STEP_US = 100.0
MANUAL = 1
"""V4L2_EXPOSURE_MANUAL."""


def device_number(address: str) -> int | None:
    """N of ``N``, ``usb:N``, ``/dev/videoN`` or a link to that (udev's ``/dev/v4l/by-id/...`` stays after replugging)."""
    if address.startswith("/dev/"):
        address = str(Path(address).resolve())
    found = re.fullmatch(r"(?:usb:|/dev/video)?(\d+)", address, re.IGNORECASE)
    return int(found[1]) if found else None


def configure(capture: Any, settings: CameraSettings, camera: str) -> CameraSettings:
    """Set what is given on an open ``cv2.VideoCapture`` and read it back.

    Raises:
        BadInput: a stream, a setting that USB cameras do not have, or one that this camera did not take.
    """
    given = settings.given()
    if not given:
        return CameraSettings()
    if capture.getBackendName() != "V4L2":
        raise BadInput(
            f"camera {camera} takes no settings here", hint="only USB cameras on Linux do; set a stream up in its camera"
        )
    for name, why in (
        ("gain_db", "USB cameras give their gain no unit: use GAIN=NUMBER"),
        ("packet_size", "that is GigE Vision's"),
    ):
        if name in given:
            raise BadInput(f"camera {camera} has no {name}", hint=why)
    if settings.triggered:
        raise BadInput(f"camera {camera} has no trigger input", hint="USB (UVC) cameras run freely: trigger_source=free")
    return _Taken(capture, camera).apply(settings)


class _Taken:
    """Sets properties of one capture and compares what it then has."""

    def __init__(self, capture: Any, camera: str) -> None:
        self._capture, self._camera = capture, camera

    def apply(self, settings: CameraSettings) -> CameraSettings:
        if settings.pixel_format is not None:
            self._fourcc(settings.pixel_format)
        if settings.roi is not None:
            self._size(settings.roi)
        if settings.frame_rate_hz is not None:
            self._put("frame_rate_hz", "FPS", settings.frame_rate_hz, 0.01 * settings.frame_rate_hz)
        if settings.exposure_us is not None:
            self._put("exposure_us", "AUTO_EXPOSURE", MANUAL, 0.0)
            units = round(settings.exposure_us / EXPOSURE_STEP_US)
            self._put("exposure_us", "EXPOSURE", max(1, units), 1.0)
        for name, text in settings.features:
            self._feature(name, text)
        return self._read(settings)

    def _read(self, settings: CameraSettings) -> CameraSettings:
        get = self._capture.get
        width, height = int(get(cv2.CAP_PROP_FRAME_WIDTH)), int(get(cv2.CAP_PROP_FRAME_HEIGHT))
        rate, exposure = float(get(cv2.CAP_PROP_FPS)), float(get(cv2.CAP_PROP_EXPOSURE))
        return CameraSettings(
            exposure_us=exposure * EXPOSURE_STEP_US if exposure > 0 else None,
            frame_rate_hz=rate if rate > 0 else None,
            trigger_source="free",
            roi=(0, 0, width, height) if width > 0 and height > 0 else None,
            pixel_format=_code_text(int(get(cv2.CAP_PROP_FOURCC))),
            features=tuple((name, f"{get(getattr(cv2, f'CAP_PROP_{name}')):g}") for name, _ in settings.features),
        )

    def _fourcc(self, name: str) -> None:
        if len(name) != 4:
            raise BadInput(f"pixel format {name!r} is not a FOURCC", hint="four characters: yuyv, mjpg, grey, uyvy, nv12")
        self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*name.upper()))
        have = _code_text(int(self._capture.get(cv2.CAP_PROP_FOURCC)))
        if have != name.lower():
            raise self._differs("pixel_format", "FOURCC", name, have, "v4l2-ctl --list-formats-ext shows what it can send")

    def _size(self, roi: tuple[int, int, int, int]) -> None:
        if roi[:2] != (0, 0):
            raise BadInput(
                f"camera {self._camera} cannot read out a part of its picture",
                hint="give roi=0,0,WIDTH,HEIGHT",
            )
        for name, value in (("FRAME_WIDTH", roi[2]), ("FRAME_HEIGHT", roi[3])):
            self._capture.set(getattr(cv2, f"CAP_PROP_{name}"), value)
        for name, value in (("FRAME_WIDTH", roi[2]), ("FRAME_HEIGHT", roi[3])):  # the driver picks a size from both
            have = self._capture.get(getattr(cv2, f"CAP_PROP_{name}"))
            if have != value:
                raise self._differs("roi", name, value, have, "v4l2-ctl --list-formats-ext shows its sizes")

    def _feature(self, name: str, text: str) -> None:
        if not hasattr(cv2, f"CAP_PROP_{name}"):
            known = [entry.removeprefix("CAP_PROP_") for entry in dir(cv2) if entry.startswith("CAP_PROP_")]
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "use the end of a name of OpenCV's CAP_PROP_..., e.g. GAIN, FOCUS"
            raise BadInput(f"camera {self._camera} has no property {name}", hint=hint)
        try:
            value = float(text)
        except ValueError:
            raise BadInput(f"camera setting {name}={text} is not a number", hint="OpenCV's properties are numbers") from None
        self._put(name, name, value, 0.01 * abs(value))

    def _put(self, key: str, name: str, value: float, tolerance: float) -> None:
        taken = self._capture.set(getattr(cv2, f"CAP_PROP_{name}"), value)
        have = float(self._capture.get(getattr(cv2, f"CAP_PROP_{name}")))
        if abs(have - value) > tolerance or (not taken and have != value):
            raise self._differs(key, name, value, have, "v4l2-ctl --list-ctrls shows what it takes")

    def _differs(self, key: str, name: str, wanted: object, have: object, hint: str) -> BadInput:
        what = f"{key} (CAP_PROP_{name})"
        return BadInput(f"camera {self._camera}: {what} was asked to be {wanted}, but the camera has {have}", hint=hint)


def _code_text(code: int) -> str | None:
    return code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ").lower() or None if code > 0 else None
