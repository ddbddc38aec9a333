"""A camera of a station.yaml, and a part that several cameras look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from edgead.errors import BadInput
from edgead.registry import LINKS, OUTPUTS, names, settings_of
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.plc.settings import LinkSettings, ThresholdBounds
from edgead.settings import (
    Chosen,
    Count,
    DeviceSettings,
    Limits,
    Line,
    Name,
    NotNegative,
    Positive,
    Score,
    Section,
    Sha256,
)

VISION = "opcua-server"
"""A PLC that is no link: edgead as a machine vision server (OPC 40100)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeTrigger(Section):
    """No trigger: the newest frame, again and again."""

    source: Literal["free"] = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalTrigger(Section):
    """A part every so often."""

    source: Literal["interval"] = "interval"
    every_ms: Positive
    """Milliseconds from part to part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraTrigger(Section):
    """The camera's own hardware line: each frame that arrives is a part, none is replaced by a newer one."""

    source: Literal["camera"] = "camera"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcTrigger(Section):
    """The PLC's part-present bit, by the handshake (see the camera's `plc`)."""

    source: Literal["plc"] = "plc"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpioTrigger(Section):
    """An input line of this box."""

    source: Literal["gpio"] = "gpio"
    chip: str = "/dev/gpiochip0"
    line: Line
    active: Literal["rising", "falling"] = "rising"
    debounce_ms: NotNegative = 1.0


Trigger = Annotated[
    FreeTrigger | IntervalTrigger | CameraTrigger | PlcTrigger | GpioTrigger,
    Chosen.of(
        "source",
        {
            "free": FreeTrigger,
            "interval": IntervalTrigger,
            "camera": CameraTrigger,
            "plc": PlcTrigger,
            "gpio": GpioTrigger,
        },
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherOutput(DeviceSettings):
    """An output that another package registered under ``edgead.outputs``."""

    type: Literal["other"] = "other"
    name: str
    options: dict[str, Any] = field(default_factory=dict)


def _plc(name: str) -> type[Section] | None:
    if name == VISION:
        from edgead.runtime.vision.settings import VisionSettings

        return VisionSettings
    found = settings_of("link", name)
    if found is not None and not issubclass(found, LinkSettings):
        raise BadInput(f"the settings of link {name!r} are no LinkSettings", hint="its package must be mended")
    return found


def _output(name: str) -> type[Section] | None:
    return OtherOutput if name == "other" else settings_of("output", name) if name in OUTPUTS else None


Plc = Annotated[DeviceSettings, Chosen("type", lambda: [*LINKS, VISION, *names("link")[len(LINKS) :]], _plc)]
Output = Annotated[DeviceSettings, Chosen("type", lambda: [*OUTPUTS, "other"], _output)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck(Section):
    """Golden frames of the bundle are asked about again while the line runs; while they fail, parts are UNKNOWN."""

    every_s: Positive = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift(Section):
    """Warns when light, sharpness, contrast, position or scores move away from what the bundle's golden frames show."""

    every_ms: Positive = 500.0
    """A picture is measured at most so often."""
    max_ng: Annotated[float, Limits(above=0, most=1)] = 0.3
    """More NG than this share of the last 50 parts is a warning."""


class _OfRegistry:
    """A bundle's folder, or ``oci://registry/name@sha256:...``: then the folder that `edgead pull` has put it into."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self._folder, handler(source))

    @staticmethod
    def _folder(given: Any) -> Any:
        if not (isinstance(given, str) and given.lower().startswith("oci:")):
            return given
        from edgead.oci.address import OciAddress
        from edgead.oci.kept import place

        try:
            return place(OciAddress.parse(given))
        except BadInput as error:
            raise ValueError(f"{error} ({error.hint})") from error


BundlePath = Annotated[Path, _OfRegistry()]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowBundle(Section):
    """A second bundle that judges the same pictures in spare time, for the records only (also written `shadow: BUNDLE`)."""

    bundle: BundlePath
    sha256: Sha256 | None = None
    """The digest that it must have."""
    engine: str | None = None
    """Engine in the bundle; its default one if not given."""

    @classmethod
    def meant(cls, given: Any) -> Any:
        """The bundle alone says it, too."""
        return super(ShadowBundle, cls).meant({"bundle": given} if isinstance(given, str) else given)


RecipeNumber = Annotated[int, Limits(least=1, most=65535)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedBundle(Section):
    """A bundle, and the digest that it must have."""

    bundle: BundlePath
    sha256: Sha256
    """Of its manifest.json, and so of all of it; `edgead inspect` prints it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraConfig(StationSettings):
    """One camera with its bundle, its triggers and who is told."""

    name: Name
    """For logs, records and metrics."""
    address: str
    """As `edgead run --camera`: usb:0, rtsp://user:${CAM_PASSWORD}@host/stream, a folder, sim:fps=5, ..."""
    bundle: BundlePath | None = None
    """What answers: a folder, or oci://registry/name@sha256:... (docs/fleet.md); or `recipes`, for several products."""
    sha256: Sha256 | None = None
    """The digest that `bundle` must have (`edgead inspect` prints it); no other bundle is taken."""
    recipes: dict[RecipeNumber, BundlePath | PinnedBundle] = field(default_factory=dict)
    """A bundle for each product, by the number that the PLC (or `recipe_file`) asks for it with."""
    recipe: RecipeNumber | None = None
    """The recipe to begin with, when `recipe_file` does not tell; the first if not given."""
    recipe_file: Path | None = None
    """A file that holds the number of the recipe to run; it is looked at all the time."""
    engine: str | None = None
    """Engine in the bundle; its default one if not given."""
    threshold: Score | None = None
    """Raw model units; the engine's own if not given."""
    trigger: Trigger = FreeTrigger()
    fallback_bundle: BundlePath | None = None
    """A faster bundle for when the main one does not keep up; with `fallback_engine` alone, another engine of the same bundle."""
    fallback_sha256: Sha256 | None = None
    """The digest that `fallback_bundle` must have."""
    fallback_engine: str | None = None
    shadow: ShadowBundle | None = None
    """A bundle that is tried beside the line (docs/shadow.md); needs `storage`, and goes with one `bundle`."""
    realtime: bool = False
    """Play a video file at its own speed, as a camera would."""
    selfcheck: SelfCheck | None = SelfCheck()
    """null switches it off."""
    drift: Drift | None = Drift()
    """null switches it off."""
    plc: Plc | None = None
    outputs: tuple[Output, ...] = ()

    def __post_init__(self) -> None:
        if self.trigger.source == "plc" and self.plc is None:
            raise ValueError("trigger: {source: plc} needs the section plc")
        if self.trigger.source != "free" and self.budget_ms is None:
            raise ValueError("a triggered camera needs budget_ms: when must the verdict be there?")
        if self.trigger.source != "free" and (self.settle_frames != 1 or self.hysteresis):
            raise ValueError("settle_frames and hysteresis are for cameras without a trigger")
        if self.trigger.source != "free" and self.max_age_ms is not None:
            raise ValueError("max_age_ms is for cameras without a trigger; with one, frame_window_ms says which pictures count")
        if self.trigger.source == "free" and self.frames_per_part != 1:
            raise ValueError("frames_per_part needs a trigger; without one there is settle_frames")
        if isinstance(self.combine, int) and self.combine > self.frames_per_part:
            raise ValueError(f"combine: {self.combine} of {self.frames_per_part} frames can never be")
        self._check_recipes()

    def _check_recipes(self) -> None:
        if (self.sha256 is not None and self.bundle is None) or (self.fallback_sha256 and self.fallback_bundle is None):
            raise ValueError("sha256 goes with bundle, and fallback_sha256 with fallback_bundle: the digest of what?")
        if (self.bundle is None) == (not self.recipes):
            raise ValueError("name one bundle, or recipes: {1: BUNDLE, 2: BUNDLE}")
        if not self.recipes and (self.recipe is not None or self.recipe_file is not None):
            raise ValueError("recipe and recipe_file need recipes")
        if self.recipe is not None and self.recipe not in self.recipes:
            raise ValueError(f"recipe: there is no recipe {self.recipe}")
        if self.recipes and (self.threshold is not None or self.fallback_bundle is not None):
            raise ValueError("threshold and fallback_bundle do not go with recipes: set each bundle's own with edgead threshold")
        if self.wished is not None and (self.recipes or self.threshold is not None):
            raise ValueError(
                "plc.threshold does not go with recipes, nor with a threshold of this file: each means another scale"
            )
        if self.wished is not None and (self.fallback_bundle is not None or self.fallback_engine is not None):
            raise ValueError("plc.threshold does not go with a fallback, whose scores have a scale of their own")
        if self.recipes and self.shadow is not None:
            raise ValueError("shadow does not go with recipes: it would judge the pictures of all products by one model")

    @property
    def wished(self) -> ThresholdBounds | None:
        """The bounds of a threshold that the PLC gives; None: it gives none."""
        return getattr(self.plc, "threshold", None)

    @property
    def bundles(self) -> tuple[tuple[Path, str | None], ...]:
        """All bundles that may answer, without the fallback's, and the digest that each must have."""
        if self.bundle is not None:
            return ((self.bundle, self.sha256),)
        return tuple((one, None) if isinstance(one, Path) else (one.bundle, one.sha256) for one in self.recipes.values())

    @property
    def all_bundles(self) -> tuple[Path, ...]:
        """All bundles that it names: those that may answer, the fallback's and the shadow's."""
        others = (self.fallback_bundle, self.shadow.bundle if self.shadow is not None else None)
        return (*(path for path, _ in self.bundles), *(path for path in others if path is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartConfig(Section):
    """One part that several cameras look at: one trigger for all of them, one verdict, one PLC."""

    name: Name
    """For records."""
    cameras: tuple[str, ...]
    """Names of cameras that have no trigger, budget, PLC, outputs and recipes of their own; each with its own bundle."""
    combine: Literal["any", "all"] | Count = "any"
    """The part is NG when any view is, when all are, or when so many are; with a view missing it is never OK."""
    trigger: Trigger
    budget_ms: Positive
    """From the trigger to the verdict on the part; later is UNKNOWN."""
    plc: Plc | None = None
    outputs: tuple[Output, ...] = ()

    @property
    def address(self) -> None:
        """A part has none of its own."""

    @property
    def bundle(self) -> None:
        """A part has none of its own."""

    @property
    def recipes(self) -> dict[int, Path | PinnedBundle]:
        """A part has none of its own."""
        return {}

    def __post_init__(self) -> None:
        if len(set(self.cameras)) < 2 or len(set(self.cameras)) < len(self.cameras):
            raise ValueError("a part needs two cameras or more, each once; a single camera needs no part")
        if self.trigger.source in ("free", "camera"):
            raise ValueError("the cameras of a part need one trigger for all: plc, gpio or interval")
        if self.trigger.source == "plc" and self.plc is None:
            raise ValueError("trigger: {source: plc} needs the section plc")
        if isinstance(self.combine, int) and self.combine > len(self.cameras):
            raise ValueError(f"combine: {self.combine} of {len(self.cameras)} views can never be")
