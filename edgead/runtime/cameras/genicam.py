"""GenICam features (Standard Features Naming Convention 2.7, EMVA) behind :class:`CameraSettings`: set, then read back.

Aravis and pylon differ in how a feature is reached, which is :class:`Nodes`; names, order and checks are here, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from edgead.errors import BadInput, CameraError
from edgead.runtime.cameras import pixels
from edgead.runtime.cameras.settings import CameraSettings

Value = float | int | str | bool

FEATURES = {
    "exposure_us": ("ExposureTime", "ExposureTimeAbs"),
    "gain_db": ("Gain", "GainAbs"),
    "frame_rate_hz": ("AcquisitionFrameRate", "AcquisitionFrameRateAbs"),
    "packet_size": ("GevSCPSPacketSize",),
}
"""Names of today and those before SFNC 2.0. A raw gain has no unit and is reachable as a feature of its own (``GainRaw=200``)."""

TOLERANCE = {"exposure_us": (1.0, 0.01), "gain_db": (0.1, 0.0), "frame_rate_hz": (0.01, 0.01)}
"""(absolute, share of the value) that may be missing where the camera does not tell its increment."""


class Nodes(Protocol):
    """A camera's features by name."""

    def kind(self, name: str) -> str:
        """ "float", "integer", "enum", "boolean", "string", "command", or "" when the camera does not have it now."""

    def get(self, name: str) -> Value:
        """Raises CameraError."""

    def set(self, name: str, value: Value) -> None:
        """Raises CameraError: the camera refuses, or does not answer."""

    def bounds(self, name: str) -> tuple[float, float, float]:
        """Smallest, largest, increment (0: not told) of a number."""

    def choices(self, name: str) -> list[str]:
        """What an enum can be set to."""

    def execute(self, name: str) -> None:
        """Run a command. Raises CameraError."""


class Configurator:
    """Sets and reads back the features of one camera.

    Args:
        nodes: its features.
        camera: its name, for messages.
        listing: how a user lists its features, for hints.
    """

    def __init__(self, nodes: Nodes, camera: str, listing: str) -> None:
        self._nodes, self._camera, self._listing = nodes, camera, listing

    def apply(self, settings: CameraSettings) -> None:
        """Set everything that is given: trigger, format and region first, as they bound exposure and rate.

        Raises:
            BadInput: a feature that the camera does not have, or a value outside what it takes.
            CameraError: it refused, or did not answer.
        """
        if settings.trigger_source is not None:
            self._set_trigger(settings.trigger_source)
        if settings.pixel_format is not None:
            self._set_pixel_format(settings.pixel_format)
        self._check_pixel_format()
        if settings.roi is not None:
            self._set_roi(settings.roi)
        if settings.exposure_us is not None:
            self._switch(("ExposureAuto",), "Off")
            self._put_first("exposure_us", settings.exposure_us)
        if settings.gain_db is not None:
            self._switch(("GainAuto",), "Off")
            self._put_first("gain_db", settings.gain_db)
        if settings.frame_rate_hz is not None:
            self._switch(("AcquisitionFrameRateEnable", "AcquisitionFrameRateEnabled"), True)
            self._put_first("frame_rate_hz", settings.frame_rate_hz)
        if settings.packet_size is not None:
            self._put_first("packet_size", settings.packet_size)
        for name, text in settings.features:
            self._put_feature(name, text)

    def read(self, features: Sequence[tuple[str, str]] = ()) -> CameraSettings:
        """What the camera has now; None where it has no such feature. `features` names its own ones to read too."""
        numbers = {key: self._nodes.get(name) for key in FEATURES if (name := self._feature(key))}
        region = ("OffsetX", "OffsetY", "Width", "Height")
        roi = tuple(int(self._nodes.get(name)) if self._nodes.kind(name) else 0 for name in region)
        return CameraSettings(
            exposure_us=_float(numbers.get("exposure_us")),
            gain_db=_float(numbers.get("gain_db")),
            frame_rate_hz=_float(numbers.get("frame_rate_hz")),
            packet_size=int(numbers["packet_size"]) if "packet_size" in numbers else None,
            trigger_source=self._read_trigger(),
            roi=roi if min(roi[2:]) > 0 else None,  # type: ignore[arg-type]
            pixel_format=str(self._nodes.get("PixelFormat")).lower() if self._nodes.kind("PixelFormat") else None,
            features=tuple((name, str(self._nodes.get(name))) for name, _ in features if self._nodes.kind(name) != "command"),
        )

    def verify(self, asked: CameraSettings) -> CameraSettings:
        """Read back, and compare with what was asked.

        Raises:
            BadInput: the camera took something else than was asked, by more than its increment.
        """
        got = self.read(asked.features)
        for key, wanted in asked.given().items():
            if key == "features":
                continue
            have = getattr(got, key)
            if not self._same(key, wanted, have):
                raise self._differs(key, self._feature(key) or key, wanted, have)
        have_features = dict(got.features)
        for name, text in asked.features:
            if name in have_features and not self._same_text(name, text, have_features[name]):
                raise self._differs(name, name, text, have_features[name])
        return got

    def _same(self, key: str, wanted: object, have: object) -> bool:
        if key == "pixel_format":
            return pixels.plain(str(wanted)) == pixels.plain(str(have))
        if isinstance(wanted, float) and isinstance(have, float):
            return abs(wanted - have) <= self._tolerance(key, wanted)
        return wanted == have

    def _same_text(self, name: str, wanted: str, have: str) -> bool:
        kind = self._nodes.kind(name)
        if kind == "integer":
            return _number(wanted, kind) == int(have)
        if kind == "float":
            number = _number(wanted, kind)
            return abs(number - float(have)) <= (self._nodes.bounds(name)[2] or 0.01 * abs(number))
        return wanted.lower() == have.lower() or {wanted.lower(), have.lower()} in ({"1", "true"}, {"0", "false"})

    def _tolerance(self, key: str, wanted: float) -> float:
        name = self._feature(key)
        step = self._nodes.bounds(name)[2] if name else 0.0
        absolute, share = TOLERANCE[key]
        return step * 1.001 if step > 0 else max(absolute, share * abs(wanted))

    def _differs(self, key: str, feature: str, wanted: object, have: object) -> BadInput:
        shown = (", ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in (wanted, have))
        what = key if key == feature else f"{key} ({feature})"
        asked, got = shown
        text = f"camera {self._camera}: {what} was asked to be {asked}, but the camera has {got}"
        return BadInput(text, hint=f"ask for {got}, or leave it out")

    def _feature(self, key: str) -> str:
        """The camera's name for one of our numbers, or ""."""
        for name in FEATURES.get(key, ()):
            kind = self._nodes.kind(name)
            if kind == "float" or (kind == "integer" and key != "gain_db"):  # an integer gain is raw, not decibels
                return name
        return ""

    def _put_first(self, key: str, value: float) -> None:
        name = self._feature(key)
        if not name:
            raise BadInput(
                f"camera {self._camera} has no {key} ({' or '.join(FEATURES[key])})", hint=f"leave {key} out; {self._listing}"
            )
        self._put(name, value)

    def _put(self, name: str, value: Value) -> None:
        """Set a number within its bounds and steps; anything else as it is."""
        if self._nodes.kind(name) in ("float", "integer") and not isinstance(value, (str, bool)):
            low, high, step = self._nodes.bounds(name)
            if not low <= value <= high:
                raise BadInput(f"camera {self._camera}: {name} cannot be {value:g}", hint=f"it takes {low:g} to {high:g}")
            if self._nodes.kind(name) == "integer":
                if step > 1 and (value - low) % step:
                    near = low + round((value - low) / step) * step
                    hint = f"it goes in steps of {step:g}: {near:g}"
                    raise BadInput(f"camera {self._camera}: {name} cannot be {value:g}", hint=hint)
                value = int(value)
        try:
            self._nodes.set(name, value)
        except CameraError as error:
            raise type(error)(f"camera {self._camera}: {name} = {value} failed: {error}", hint=error.hint) from error

    def _put_feature(self, name: str, text: str) -> None:
        kind = self._nodes.kind(name)
        if not kind:
            raise BadInput(f"camera {self._camera} has no feature {name}", hint=self._listing)
        if kind == "command":
            self._nodes.execute(name)
        elif kind == "enum":
            self._put(name, self._choice(name, text))
        elif kind == "boolean":
            if text.lower() not in ("0", "1", "true", "false"):
                raise BadInput(f"camera {self._camera}: {name} cannot be {text}", hint="it takes true or false")
            self._put(name, text.lower() in ("1", "true"))
        else:
            self._put(name, text if kind == "string" else _number(text, kind))

    def _choice(self, name: str, text: str) -> str:
        """The entry of an enum that is meant by `text`."""
        entries = self._nodes.choices(name)
        for entry in entries:
            same = pixels.plain(entry) == pixels.plain(text) if name == "PixelFormat" else entry.lower() == text.lower()
            if same:
                return entry
        raise BadInput(f"camera {self._camera}: {name} cannot be {text}", hint=f"it takes {', '.join(entries)}")

    def _switch(self, names: Sequence[str], value: Value) -> None:
        """Set the first of `names` that the camera has; it need not have one."""
        for name in names:
            if self._nodes.kind(name):
                self._put(name, value)
                return

    def _selectors(self) -> Iterator[str]:
        """Selects each trigger of the camera in turn, FrameStart last."""
        if not self._nodes.kind("TriggerSelector"):
            yield "FrameStart"
            return
        entries = sorted(self._nodes.choices("TriggerSelector"), key=lambda entry: entry == "FrameStart")
        for entry in entries:
            self._nodes.set("TriggerSelector", entry)
            if self._nodes.kind("TriggerMode"):
                yield entry

    def _set_trigger(self, source: str) -> None:
        """One trigger starts each frame, all others are off."""
        if not self._nodes.kind("TriggerMode"):
            if source != "free":
                raise BadInput(f"camera {self._camera} has no trigger (TriggerMode)", hint="leave trigger_source out")
            return
        for _ in self._selectors():
            self._nodes.set("TriggerMode", "Off")
        if source != "free":
            self._put("TriggerSource", self._choice("TriggerSource", source))
            self._nodes.set("TriggerMode", "On")

    def _read_trigger(self) -> str:
        if not self._nodes.kind("TriggerMode"):
            return "free"
        for _ in self._selectors():
            if self._nodes.get("TriggerMode") == "On":
                return str(self._nodes.get("TriggerSource")).lower()
        return "free"

    def _set_pixel_format(self, name: str) -> None:
        if not pixels.known(name):
            known = ", ".join(entry for entry in self._nodes.choices("PixelFormat") if pixels.known(entry))
            hint = f"of this camera's formats these can: {known}"
            raise BadInput(f"pixel format {name!r} cannot be converted to BGR here", hint=hint)
        self._put("PixelFormat", self._choice("PixelFormat", name))

    def _check_pixel_format(self) -> None:
        """The format that the camera has, if nobody set one, must be one that can be shown."""
        if self._nodes.kind("PixelFormat"):
            have = str(self._nodes.get("PixelFormat"))
            if not pixels.known(have):
                self._set_pixel_format(have)

    def _set_roi(self, roi: tuple[int, int, int, int]) -> None:
        """Offsets to 0 first: the width's bound depends on them."""
        for name in ("OffsetX", "OffsetY"):
            self._switch((name,), 0)
        for name, value in zip(("Width", "Height", "OffsetX", "OffsetY"), (*roi[2:], *roi[:2]), strict=True):
            if self._nodes.kind(name):
                self._put(name, value)
            elif value:
                raise BadInput(f"camera {self._camera} has no {name}", hint="leave roi out, or make its first two numbers 0")


def _float(value: Value | None) -> float | None:
    return None if value is None else float(value)


def _number(text: str, kind: str) -> float | int:
    try:
        return int(text, 0) if kind == "integer" else float(text)
    except ValueError:
        raise BadInput(f"{text!r} is not a number", hint="this feature takes a number") from None
