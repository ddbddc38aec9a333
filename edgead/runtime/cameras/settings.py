"""What a camera shall do: one set of names for every maker, from keyword arguments or from a camera's address.

``gige:10.0.0.7?exposure_us=2000&gain_db=3&trigger_source=line1``. After opening, ``camera.settings`` is what the camera has.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, fields, replace

from edgead.errors import BadInput

HINT = "known: exposure_us, gain_db, frame_rate_hz, trigger_source, roi, pixel_format, packet_size; and the camera's own features"


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """None leaves a value as the camera has it; a camera that power-cycles forgets it then, so state what matters.

    Attributes:
        exposure_us: exposure time in microseconds; automatic exposure is switched off.
        gain_db: gain in decibels; automatic gain is switched off.
        frame_rate_hz: frames a second of a free-running camera.
        trigger_source: ``"free"`` (free-running), ``"software"``, or the camera's input, e.g. ``"line1"``.
        roi: x, y, width, height in pixels that the camera reads out.
        pixel_format: PFNC's name, e.g. ``"mono8"``, ``"mono12"``, ``"bayerrg8"``, ``"bgr8"``; upper or lower case.
        packet_size: bytes of a GigE Vision packet with its IP and UDP headers; 9000 needs jumbo frames on the whole path.
        features: (name, value) of the device's own features, set last and in this order. Their names begin with a capital
            letter: GenICam's (``GevSCPD``, ``BalanceWhiteAuto``), for USB cameras those of OpenCV's ``CAP_PROP_`` (``GAIN``).

    Raises:
        BadInput: a value that no camera can have.
    """

    exposure_us: float | None = None
    gain_db: float | None = None
    frame_rate_hz: float | None = None
    trigger_source: str | None = None
    roi: tuple[int, int, int, int] | None = None
    pixel_format: str | None = None
    packet_size: int | None = None
    features: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("exposure_us", self.exposure_us), ("frame_rate_hz", self.frame_rate_hz)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise BadInput(f"{name}={value:g} is not possible", hint="give a number above 0")
        if self.gain_db is not None and not math.isfinite(self.gain_db):
            raise BadInput(f"gain_db={self.gain_db} is not possible", hint="give a number of decibels")
        if self.packet_size is not None and not 220 <= self.packet_size <= 16_384:
            raise BadInput(f"packet_size={self.packet_size} is not possible", hint="give 1500, or up to 9000 with jumbo frames")
        if self.roi is not None and (len(self.roi) != 4 or min(self.roi[:2]) < 0 or min(self.roi[2:]) < 1):
            shown = ",".join(map(str, self.roi))
            raise BadInput(f"roi={shown} is not x, y, width, height in pixels", hint="for example roi=0,0,640,480")

    @property
    def triggered(self) -> bool:
        """Whether each frame was asked for, by a line or by software."""
        return self.trigger_source not in (None, "free")

    def given(self) -> dict[str, object]:
        """The values that are not left to the camera, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, ())}

    def merged(self, other: CameraSettings) -> CameraSettings:
        """Both together.

        Raises:
            BadInput: both state the same value.
        """
        mine, theirs = self.given(), other.given()
        features = self.features + other.features
        names = {name for name, _ in self.features} & {name for name, _ in other.features}
        twice = sorted((mine.keys() & theirs.keys()) - {"features"}) + sorted(names)
        if twice:
            raise BadInput(f"camera setting {twice[0]} is given twice", hint="in the address, or in the settings, not both")
        return replace(self, **{**theirs, "features": features})  # type: ignore[arg-type]


def parse_settings(query: str) -> CameraSettings:
    """``"exposure_us=2000&roi=0,0,640,480&GevSCPD=1000"`` as settings.

    Raises:
        BadInput: an unknown name, a name without value or twice, a value of the wrong kind.
    """
    values: dict[str, object] = {}
    features: list[tuple[str, str]] = []
    for item in filter(None, query.split("&")):
        name, equals, text = item.partition("=")
        if not equals or not text:
            raise BadInput(f"camera setting {item!r} has no value", hint="write NAME=VALUE, joined by &")
        if name in values:
            raise BadInput(f"camera setting {name} is given twice", hint="give it once")
        if name[:1].isupper():
            features.append((name, text))
        else:
            values[name] = _value(name, text)
    return CameraSettings(**values, features=tuple(features))  # type: ignore[arg-type]


def _value(name: str, text: str) -> object:
    try:
        if name in ("exposure_us", "gain_db", "frame_rate_hz"):
            return float(text)
        if name == "packet_size":
            return int(text)
        if name == "roi":
            return tuple(int(number) for number in text.split(","))
    except ValueError:
        hint = "for example exposure_us=2000, roi=0,0,640,480"
        raise BadInput(f"camera setting {name}={text} is not a number", hint=hint) from None
    if name in ("trigger_source", "pixel_format"):
        return text.lower()
    near = difflib.get_close_matches(name, [field.name for field in fields(CameraSettings)], 1)
    raise BadInput(f"unknown camera setting {name!r}", hint=f"did you mean {near[0]}?" if near else HINT)
