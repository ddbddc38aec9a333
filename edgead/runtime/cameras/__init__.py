"""Camera adapters, one file each, and the one place that turns an address into a camera."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, CameraLost
from edgead.preprocess import IMAGE_SUFFIXES
from edgead.registry import CAMERAS, make, names, resolve
from edgead.runtime.cameras.settings import CameraSettings, parse_settings
from edgead.runtime.redact import redact
from edgead.types import Camera

EXAMPLES = (
    "0, usb:1, /dev/video0, gige:10.0.0.7, basler:22334455, rtsp://host/stream, video.mp4, pictures/, '*.png', hot:in/, sim"
)

_STREAM = re.compile(r"(rtsp|rtsps|http|https)://.+", re.IGNORECASE)
_USB = re.compile(r"\d+|usb:\d+|/dev/\S+", re.IGNORECASE)
_DEVICES = frozenset({"aravis", "basler", "gstreamer", "opencv"})
_VENDORS = {"gige": "aravis", "u3v": "aravis", "basler": "basler"}
"""Schemes whose rest is a serial number or IP address."""


def open_camera(
    address: str, *, settings: CameraSettings | None = None, clock: Clock | None = None, realtime: bool = False, bits: int = 16
) -> Camera:
    """Open what `address` names.

    ==========================================  ====================================================================
    ``0``, ``usb:0``, ``/dev/video0``           USB camera (OpenCV); also udev's names, ``/dev/v4l/by-id/...``
    ``gige:NAME``, ``u3v:NAME``                 GigE Vision or USB3 Vision (Aravis): serial number or IP address
    ``basler:NAME``                             Basler (pylon): serial number, own name or IP address
    ``rtsp://...``, ``http://...``              network stream (OpenCV and FFmpeg)
    ``gst:PIPELINE``                            GStreamer pipeline, where this OpenCV has it
    a video file                                every frame in order; with `realtime` at its own speed, newest first
    a folder, a picture, ``'pictures/*.png'``   pictures in the order of their names
    ``folder:DIR?fps=5``                        the same at a pace, as a camera that runs by itself
    ``hot:DIR``, ``hot:DIR?after=delete``       each new file of the folder (:class:`~edgead.runtime.cameras.hot.HotFolder`)
    ``sim``, ``sim:fps=5,defect_rate=0.2``      simulated conveyor (:class:`~edgead.runtime.cameras.simulated.SimulatedCamera`)
    ``NAME`` or ``NAME:REST``                   a camera registered by another package in ``edgead.cameras``: f(REST, clock=)
    ==========================================  ====================================================================

    USB, ``gige:``, ``u3v:`` and ``basler:`` take settings after a question mark (see :class:`CameraSettings`):
    ``gige:10.0.0.7?exposure_us=2000&trigger_source=line1``.

    Args:
        address: see above; user and password in it never reach a message.
        settings: more of them; none may be given twice.
        clock: stamps the frames; the machine's monotonic clock by default.
        realtime: play a video file at its own speed, and drop what is not taken in time.
        bits: that 16-bit pictures of files, OpenCV and GStreamer really use (the recipe's); GenICam's formats say it themselves.

    Raises:
        BadInput: nobody knows this address, the file or folder is no good, or the camera does not have or take a setting.
        MissingExtra: the vendor's package is not installed.
        CameraLost: the camera does not open.
    """
    return _plan(address, settings, clock or MonotonicClock(), realtime, bits)()


def check_address(address: str) -> bool:
    """Does :func:`open_camera` know what to open? No device is opened, no network asked.

    Returns:
        Whether it is live: it has a pace of its own, and may be lost and come back. A recording is asked, and loses nothing.

    Raises:
        BadInput: as :func:`open_camera`.
        MissingExtra: another package's camera that cannot be imported.
    """
    plan = _plan(address, None, MonotonicClock(), False, 16)
    if plan.func is make or plan.args[0] in _DEVICES:
        return True
    try:
        camera = plan()  # files, and the simulated camera
    except CameraLost:
        return True  # a folder that is not there yet
    camera.close()
    return bool(getattr(camera, "live", True))


def _plan(address: str, settings: CameraSettings | None, clock: Clock, realtime: bool, bits: int) -> partial[Camera]:
    """What opens the camera; nothing is opened yet. Raises BadInput."""
    name, _, rest = address.partition(":")
    if realtime and not _may_be_video(address):
        raise BadInput(f"{redact(address)} is no video file: realtime plays those at their own speed", hint="leave it out")
    plain, _, query = address.partition("?")
    if name.lower() in _VENDORS:
        wanted = parse_settings(query).merged(settings or CameraSettings())
        return partial(_make, _VENDORS[name.lower()], plain.partition(":")[2], settings=wanted, clock=clock)
    if _USB.fullmatch(plain):
        wanted = parse_settings(query).merged(settings or CameraSettings())
        return partial(_make, "opencv", plain, settings=wanted, clock=clock, bits=bits)
    if settings is not None and settings.given():
        raise BadInput(f"{redact(address)} takes no settings", hint=f"only usb:, {', '.join(f'{v}:' for v in _VENDORS)} do")
    if _STREAM.fullmatch(address):
        _check_stream(address)
        return partial(_make, "opencv", address, clock=clock, bits=bits)
    if name.lower() == "gst":
        return partial(_make, "gstreamer", rest, clock=clock, bits=bits)
    if name == "sim":
        return partial(_make, "simulated", clock=clock, **_options(rest))
    if name in ("folder", "hot"):
        folder, options = _folder_options(name, rest)
        return partial(_make, name, folder, clock=clock, bits=bits, **options)
    path = Path(address).expanduser()
    if (
        path.is_dir()
        or (path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES)
        or (not path.exists() and glob.has_magic(address))
    ):
        return partial(_make, "folder", str(path), clock=clock, bits=bits)
    if _is_video(path):
        return partial(_video, path, clock, realtime)
    if name in names("camera") and name not in CAMERAS:
        return partial(make, "camera", name, rest, clock=clock)
    if "://" not in address and ("/" in address or path.suffix):
        raise BadInput(f"{address} does not exist", hint="check the path")
    raise BadInput(f"{redact(address)!r} is not a camera, a file or a folder", hint=f"for example: {EXAMPLES}")


_FOLDER_OPTIONS: dict[str, dict[str, Callable[[str], object]]] = {
    "folder": {"fps": float},
    "hot": {"after": str, "settle_ms": float},
}


def _folder_options(scheme: str, text: str) -> tuple[str, dict[str, Any]]:
    """``"in/?after=delete"`` as the folder and what the camera takes, by name. A folder whose name has a question mark is one."""
    known = _FOLDER_OPTIONS[scheme]
    folder, query = text, ""
    if "?" in text and not Path(text).expanduser().is_dir():
        folder, _, query = text.rpartition("?")
    if not folder:
        raise BadInput(f"{scheme}: needs a folder", hint=f"for example {scheme}:pictures")
    options: dict[str, Any] = {}
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        try:
            options[key] = known[key](value)
        except (KeyError, ValueError) as error:
            hint = f"known: {', '.join(f'{name}=' for name in known)}"
            raise BadInput(f"camera {scheme}: does not understand {item!r}", hint=hint) from error
    return str(Path(folder).expanduser()), options


def _video(path: Path, clock: Clock, realtime: bool) -> Camera:
    from edgead.runtime.cameras.opencv import VideoFile

    return VideoFile(path, clock=clock, realtime=realtime)


def _is_video(path: Path) -> bool:
    """A file that is no picture."""
    return path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES


def _may_be_video(address: str) -> bool:
    """Is it a video file, or the path of a file that is not there?"""
    path = Path(address).expanduser()
    return _is_video(path) or ("://" not in address and bool(path.suffix) and not path.exists())


def names_files(address: str) -> bool:
    """Is it the path of a file or a folder, or a pattern of them? Raises BadInput, as :func:`open_camera`."""
    plan = _plan(address, None, MonotonicClock(), False, 16)
    return plan.func is _video or (plan.func is _make and plan.args[0] == "folder" and not address.startswith("folder:"))


def gives_files(address: str) -> bool:
    """Does :func:`open_camera` need to be told the depth of 16-bit pictures for this address?"""
    return address.partition(":")[0].lower() not in {*_VENDORS, "sim"}


def _check_stream(address: str) -> None:
    """Host and port of a URL that could be one; whether anybody answers there is another matter. Raises BadInput."""
    host, _, port = re.split(r"[/?#]", address.partition("://")[2].rpartition("@")[2])[0].rpartition(":")
    if port.isdecimal() and not (host and 0 < int(port) < 65536):
        raise BadInput(
            f"{redact(address)} has no host, or a port that cannot be", hint="rtsp://user:password@10.0.0.5:554/stream"
        )


def _make(name: str, *args: object, **kwargs: object) -> Camera:
    camera: Camera = resolve("camera", name)(*args, **kwargs)
    return camera


def _options(text: str) -> dict[str, int | float]:
    """``"fps=5,seed=1"`` as numbers by name, checked against what the simulated camera takes."""
    known = {"seed": int, "parts": int, "width": int, "height": int, "fps": float, "defect_rate": float, "drift": float}
    options: dict[str, int | float] = {}
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        try:
            options[key] = known[key](value)
        except (KeyError, ValueError) as error:
            hint = f"known: {', '.join(f'{k}=' for k in known)}"
            raise BadInput(f"the simulated camera does not understand {item!r}", hint=hint) from error
    return options
