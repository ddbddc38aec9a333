"""All of a station.yaml: its cameras and parts, where records go, how others see that it lives."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from edgead.config.camera import CameraConfig, PartConfig
from edgead.runtime.records import MAX_ROWS
from edgead.settings import Count, Days, Limits, NotNegative, Positive, Section

_HOST_PORT = r"^[^:\s]{1,250}:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures(Section):
    """NG and UNKNOWN pictures with their heat maps."""

    max_mb: Positive = 2000.0
    max_days: Days | None = None
    min_free_mb: NotNegative = 500.0
    """Disk space that is left alone."""
    ok_every: Count | None = None
    """Also every so many OK parts; they go first when space is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records(Section):
    """The database of all inspections."""

    max_rows: Count = MAX_ROWS
    max_days: Days | None = None
    first: bool = False
    """Each record is on the disk before the PLC is told the verdict (also written as `records: first`); see docs/records.md."""

    @classmethod
    def meant(cls, given: Any) -> Any:
        """`first` alone says it, too."""
        return super(Records, cls).meant({"first": True} if given == "first" else given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage(Section):
    """Where records and pictures go."""

    folder: Path
    records: Records = Records()
    pictures: Pictures | None = Pictures()


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision(Section):
    """How others see that the station lives."""

    http: Annotated[str, Limits(pattern=_HOST_PORT)] | None = None
    """host:port of /metrics, /healthz and /readyz, e.g. 127.0.0.1:9108."""
    live: Path | None = None
    """A folder through which `edgead dashboard` learns what goes on (docs/dashboard.md)."""
    log: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"
    stalled_after_ms: Positive = 10_000.0
    """A loop without progress for so long is not healthy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process(Section):
    """What the operating system shall grant; each needs rights and is reported when refused."""

    cpus: tuple[Annotated[int, Limits(least=0, most=65535)], ...] | None = None
    threads: Annotated[int, Limits(least=1, most=4096)] | None = None
    """CPU threads of each engine."""
    keep_compiled: bool = True
    """Keep compiled engines in the cache folder ($EDGEAD_CACHE, or the service's own), so that the next start is faster."""
    realtime_priority: Annotated[int, Limits(least=1, most=99)] | None = None
    lock_memory: bool = False
    collect_garbage_when_idle: bool = True


@dataclass(frozen=True, kw_only=True)
class StationConfig(Section):
    """A station.yaml."""

    name: Annotated[str, Limits(pattern=r"^[A-Za-z0-9_.-]+$", longest=100)]
    cameras: tuple[CameraConfig, ...]
    parts: tuple[PartConfig, ...] = ()
    """Cameras that look at the same part."""
    trusted: tuple[Path, ...] = ()
    """Public keys; bundles run only when one of them signed them (`edgead sign`). None: bundles need no signature."""
    storage: Storage | None = None
    supervision: Supervision = Supervision()
    process: Process = Process()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What the file's ``${...}`` stood for, to be kept out of logs (no key of the file)."""
        return tuple(self.__dict__.get("_secrets", ()))

    def __post_init__(self) -> None:
        if not self.cameras:
            raise ValueError("cameras is empty: name at least one")
        names = [camera.name for camera in self.cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two cameras are called {twice[0]}")
        if self.storage is None and (shadows := [camera.name for camera in self.cameras if camera.shadow is not None]):
            raise ValueError(f"{shadows[0]}: shadow needs storage: what it says is only recorded")
        self._check_parts()

    def _check_parts(self) -> None:
        cameras = {camera.name: camera for camera in self.cameras}
        names = [name for part in self.parts for name in part.cameras]
        for camera in self.cameras:
            if camera.trigger.source == "free" and camera.name not in names and (wrong := _for_triggers(camera)):
                raise ValueError(f"{camera.name}: {wrong} is for cameras with a trigger")
        for part in self.parts:
            if getattr(part.plc, "threshold", None) is not None:
                raise ValueError(
                    f"parts: {part.name}: plc.threshold is for a camera with a PLC of its own, not for several cameras"
                )
            if part.name in cameras or [other.name for other in self.parts].count(part.name) > 1:
                raise ValueError(f"parts: the name {part.name} is taken")
        for name in names:
            if name not in cameras:
                raise ValueError(f"parts: there is no camera {name}")
            if names.count(name) > 1:
                raise ValueError(f"parts: {name} cannot look at two parts")
            camera = cameras[name]
            own = camera.budget_ms is not None or camera.plc is not None or camera.outputs or camera.recipes
            settles = camera.settle_frames != 1 or camera.hysteresis or camera.max_age_ms is not None
            if own or camera.trigger.source != "free" or settles:
                raise ValueError(
                    f"parts: camera {name} cannot have a trigger, budget_ms, plc, outputs, recipes, max_age_ms or settling "
                    "of its own"
                )


def _for_triggers(camera: CameraConfig) -> str:
    """The first key that was set and means nothing without a trigger; "" when there is none."""
    defaults = {field.name: field.default for field in fields(camera)}
    keys = ("trigger_delay_ms", "frame_window_ms", "max_waiting", "combine")
    return next((key for key in keys if getattr(camera, key) != defaults[key]), "")
