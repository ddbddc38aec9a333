"""Camera adapters, one file each, and the one place that turns an address into a camera."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput
from edgead.preprocess import IMAGE_SUFFIXES
from edgead.registry import CAMERAS, names, resolve
from edgead.runtime.redact import redact
from edgead.types import Camera

EXAMPLES = "0, usb:1, /dev/video0, rtsp://host/stream, video.mp4, pictures/, 'pictures/*.png', sim"

_LIVE = re.compile(r"\d+|usb:\d+|/dev/video\d+|(rtsp|rtsps|http|https)://.+", re.IGNORECASE)


def open_camera(address: str, *, clock: Clock | None = None, realtime: bool = False) -> Camera:
    """Open what `address` names.

    ==========================================  ====================================================================
    ``0``, ``usb:0``, ``/dev/video0``           USB camera (OpenCV)
    ``rtsp://...``, ``http://...``              network stream (OpenCV and FFmpeg)
    a video file                                every frame in order; with `realtime` at its own speed, newest first
    a folder, a picture, ``'pictures/*.png'``   pictures in the order of their names
    ``sim``, ``sim:fps=5,defect_rate=0.2``      simulated conveyor (:class:`~edgead.runtime.cameras.simulated.SimulatedCamera`)
    ``NAME`` or ``NAME:REST``                   a camera registered by another package in ``edgead.cameras``
    ==========================================  ====================================================================

    Args:
        address: see above; user and password in it never reach a message.
        clock: stamps the frames; the machine's monotonic clock by default.
        realtime: play a video file at its own speed, and drop what is not taken in time.

    Raises:
        BadInput: nobody knows this address, or the file or folder is no good.
        CameraLost: the camera does not open.
    """
    clock = clock or MonotonicClock()
    if _LIVE.fullmatch(address):
        return _make("opencv", address, clock=clock)
    name, _, rest = address.partition(":")
    if name == "sim":
        return _make("simulated", clock=clock, **_options(rest))
    path = Path(address).expanduser()
    if (
        path.is_dir()
        or (path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES)
        or (not path.exists() and glob.has_magic(address))
    ):
        return _make("folder", str(path), clock=clock)
    if path.is_file():
        from edgead.runtime.cameras.opencv import VideoFile

        return VideoFile(path, clock=clock, realtime=realtime)
    if name in names("camera") and name not in CAMERAS:
        return _make(name, rest, clock=clock)
    if "://" not in address and ("/" in address or path.suffix):
        raise BadInput(f"{address} does not exist", hint="check the path")
    raise BadInput(f"{redact(address)!r} is not a camera, a file or a folder", hint=f"for example: {EXAMPLES}")


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
