"""``station.yaml``: what stands on the line, validated before anything is opened. Errors name the key and its line.

``edgead station schema`` prints the JSON schema of :class:`StationConfig` for editors. Paths are relative to the file.
Secrets never stand in the file: write ``${NAME}`` (environment) or ``${file:PATH}`` inside any text.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from edgead.claims import FROM_PLC_WORDS, TO_PLC_WORDS, first_clash
from edgead.errors import BadInput
from edgead.located import Located
from edgead.passwords import is_plain
from edgead.words import one_line

# Upper ends are far beyond what anybody means, and below what clocks, threads and databases can count.
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Few = Annotated[int, Field(ge=1, le=100_000)]
"""What is kept in memory, each."""
Line = Annotated[int, Field(ge=0, le=65535)]
Score = Annotated[float, Field(ge=-3e38, le=3e38, allow_inf_nan=False)]
"""Raw model units, which are float32."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]
Port = Annotated[int, Field(ge=1, le=65535)]

_HOST_PORT = r"^[^:\s]{1,250}:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"


class Section(BaseModel):
    """Unknown keys are errors: a misspelt limit would be no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=False)

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_meant(cls, given: Any) -> Any:
        """A `yes` is no number (it would be a threshold of 1), and a pin that was left empty is not the wish to have none."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field is not None and "bool" not in str(field.annotation):
                raise ValueError(f"{name} is {str(value).lower()}, which is no value for it")
            if (value is None and name in ("sha256", "fallback_sha256")) or (value == [] and name == "trusted"):
                raise ValueError(f"{name} is empty: write it, or leave the key away")
        return given


class FreeTrigger(Section):
    """No trigger: the newest frame, again and again."""

    source: Literal["free"] = "free"


class IntervalTrigger(Section):
    """A part every so often."""

    source: Literal["interval"]
    every_ms: Positive
    """Milliseconds from part to part."""


class CameraTrigger(Section):
    """The camera's own hardware line: each frame that arrives is a part, none is replaced by a newer one."""

    source: Literal["camera"]


class PlcTrigger(Section):
    """The PLC's part-present bit, by the handshake (see the camera's `plc`)."""

    source: Literal["plc"]


class GpioTrigger(Section):
    """An input line of this box."""

    source: Literal["gpio"]
    chip: str = "/dev/gpiochip0"
    line: Line
    active: Literal["rising", "falling"] = "rising"
    debounce_ms: NotNegative = 1.0


Trigger = Annotated[FreeTrigger | IntervalTrigger | CameraTrigger | PlcTrigger | GpioTrigger, Field(discriminator="source")]


def _check_registers(to_plc: int, from_plc: int) -> None:
    for name, first, words in (("to_plc_address", to_plc, TO_PLC_WORDS), ("from_plc_address", from_plc, FROM_PLC_WORDS)):
        if first + words > 0x10000:
            raise ValueError(f"{name}: a block of {words} registers that begins at {first} goes beyond register 65535")


class ModbusClient(Section):
    """edgead connects to the PLC's Modbus TCP server (register map: deploy/plc/modbus.md)."""

    type: Literal["modbus-client"]
    host: str
    port: Port = 502
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    to_plc_address: Annotated[int, Field(ge=0, le=65535)] = 0
    """First holding register that edgead writes."""
    from_plc_address: Annotated[int, Field(ge=0, le=65535)] = 100
    """First holding register that edgead reads."""
    word_order: Literal["big", "little"] = "big"
    """Of 32-bit values: big puts the high word at the lower address."""
    combined: bool = False
    """Write and read by one request (function code 23), where the PLC has it."""
    timeout_ms: Positive = 50.0
    cycle_ms: Positive = 5.0
    heartbeat_timeout_ms: NotNegative = 1000.0
    """A PLC whose heartbeat stands still for so long is lost; 0: the PLC has none."""

    @model_validator(mode="after")
    def _fits(self) -> ModbusClient:
        _check_registers(self.to_plc_address, self.from_plc_address)
        return self


class ModbusServer(Section):
    """The PLC polls edgead, which is the Modbus TCP server."""

    type: Literal["modbus-server"]
    bind: str = "127.0.0.1"
    """Address to listen on; name the box's own address on the PLC's network."""
    port: Port = 502
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    to_plc_address: Annotated[int, Field(ge=0, le=65535)] = 0
    from_plc_address: Annotated[int, Field(ge=0, le=65535)] = 100
    word_order: Literal["big", "little"] = "big"
    cycle_ms: Positive = 5.0
    silent_ms: Positive = 250.0
    """A PLC that writes nothing for so long is silent."""
    heartbeat_timeout_ms: NotNegative = 1000.0

    @model_validator(mode="after")
    def _fits(self) -> ModbusServer:
        _check_registers(self.to_plc_address, self.from_plc_address)
        return self


class S7(Section):
    """edgead reads and writes a data block of a Siemens S7 (layout: deploy/plc/s7.md; PUT/GET must be permitted)."""

    type: Literal["s7"]
    host: str
    port: Port = 102
    rack: Annotated[int, Field(ge=0, le=7)] = 0
    slot: Annotated[int, Field(ge=0, le=31)] = 1
    """Of the CPU: 1 for S7-1200 and S7-1500, 2 for S7-300."""
    db_number: Annotated[int, Field(ge=1, le=65535)] = 1
    timeout_ms: Positive = 100.0
    cycle_ms: Positive = 5.0
    heartbeat_timeout_ms: NotNegative = 1000.0


class EtherNetIp(Section):
    """edgead reads and writes two DINT arrays of a Rockwell Logix controller (tag list: deploy/plc/ethernetip.md)."""

    type: Literal["ethernetip"]
    host: str
    port: Port = 44818
    slot: Annotated[int, Field(ge=0, le=255)] = 0
    """Of the controller in its chassis; 0 for CompactLogix."""
    to_plc_tag: str = "Edgead_ToPlc"
    from_plc_tag: str = "Edgead_FromPlc"
    timeout_ms: Positive = 250.0
    cycle_ms: Positive = 10.0
    heartbeat_timeout_ms: NotNegative = 1000.0


class OpcUaClient(Section):
    """edgead reads and writes variables of the PLC's OPC UA server (tag list: deploy/plc/opcua.md; docs/devices/opcua.md)."""

    type: Literal["opcua-client"]
    url: str
    """opc.tcp://host:port/path"""
    node: str = "ns=2;s=edgead.{block}.{signal}"
    """Pattern of the variables' node ids; {block} becomes to_plc or from_plc. nsu=URI;s=... finds the namespace by name."""
    nodes: dict[str, str] = {}
    """Node ids of single signals, e.g. {from_plc.trigger: "ns=4;i=17"}."""
    security: Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss", "none"] = "Basic256Sha256"
    """All messages are signed and encrypted; none sends everything in the clear, the password as well."""
    certificate: Path | None = None
    """Ours; the PLC must trust it."""
    key: Path | None = None
    key_password: str | None = None
    server_certificate: Path | None = None
    """The PLC's own."""
    user: str | None = None
    password: str | None = None
    timeout_ms: Positive = 200.0
    connect_timeout_ms: Positive = 2000.0
    cycle_ms: Positive = 10.0
    heartbeat_timeout_ms: NotNegative = 1000.0

    @model_validator(mode="after")
    def _named(self) -> OpcUaClient:
        if "{block}" not in self.node or "{signal}" not in self.node:
            raise ValueError("node: the pattern needs {block} and {signal}, e.g. ns=2;s=edgead.{block}.{signal}")
        return self


class OpcUaServer(Section):
    """edgead is an OPC UA server after OPC 40100-1, machine vision (docs/devices/opcua.md)."""

    type: Literal["opcua-server"]
    bind: str = "127.0.0.1"
    """Address to listen on; name the box's own address on the plant's network."""
    port: Port = 4840
    certificate: Path = Path("opcua.pem")
    """Made, self-signed, when neither this file nor `key` is there."""
    key: Path = Path("opcua.key")
    key_password: str | None = None
    user: str | None = None
    password: str | None = None
    anonymous: bool = False
    """Anybody may enter who reaches the port, and has a certificate of `trusted` when there are any."""
    trusted: tuple[Path, ...] = ()
    """Certificates of the clients that may enter; none: any."""
    pause_ms: Positive = 100.0
    """From part to part in continuous execution, at least."""

    @model_validator(mode="after")
    def _entered(self) -> OpcUaServer:
        if not self.anonymous and not (self.user and self.password):
            raise ValueError("an OPC UA server needs user and password, or anonymous: true")
        return self


Plc = Annotated[ModbusClient | ModbusServer | S7 | EtherNetIp | OpcUaClient | OpcUaServer, Field(discriminator="type")]


class LogOutput(Section):
    """A line per part on standard output."""

    type: Literal["log"]


class CommandOutput(Section):
    """A program for each NG and UNKNOWN part (no shell; EDGEAD_* variables)."""

    type: Literal["command"]
    on_ng: str


class GpioOutput(Section):
    """Lines of this box (numbers on `chip`); every line that is not given is not used."""

    type: Literal["gpio"]
    chip: str = "/dev/gpiochip0"
    ok: Line | None = None
    """A pulse for each OK part: the pass signal. Without it a part is to be rejected."""
    reject: Line | None = None
    """Asserted all the time but during the pulse for an OK part."""
    kick: Line | None = None
    """A pulse for each part that is not OK (an air jet). Not fail-safe: nobody kicks when this box is dead."""
    ready: Line | None = None
    busy: Line | None = None
    heartbeat: Line | None = None
    green: Line | None = None
    yellow: Line | None = None
    red: Line | None = None
    active_low: bool = False
    pulse_ms: Positive = 50.0
    gate_delay_ms: Positive | None = None
    """The reject gate sits downstream: each verdict takes effect so long after its trigger, with several parts on the way."""
    gate_slack_ms: Positive = 50.0
    """A part that is so much by already when its verdict would take effect is rejected."""


class MqttOutput(Section):
    """Each verdict as JSON to TOPIC/inspection, and whether edgead is connected to TOPIC/state. Telemetry, not a handshake."""

    type: Literal["mqtt"]
    host: str
    topic: str
    """Below which it publishes, e.g. factory/line1/top; another one for each camera."""
    port: Port | None = None
    """8883 with TLS, 1883 without, if not given."""
    tls: bool = True
    ca: Path | None = None
    """PEM file of who signed the broker's certificate; none: the system's list."""
    cert: Path | None = None
    key: Path | None = None
    """The client's own certificate and key, where the broker asks for them."""
    user: str | None = None
    password: str | None = None
    client_id: str | None = None
    keepalive_s: Annotated[int, Field(ge=1, le=65535)] = 10
    max_waiting: Few = 1000
    """Verdicts that are held while the broker is away; more are lost and counted."""
    which: Literal["all", "not_ok"] = "all"


class WebhookOutput(Section):
    """An HTTP POST with JSON for each verdict, from a queue of its own."""

    type: Literal["webhook"]
    url: str
    headers: dict[str, str] = {}
    """Such as Authorization: Bearer ${HOOK_TOKEN}."""
    ca: Path | None = None
    which: Literal["all", "not_ok"] = "not_ok"
    timeout_ms: Positive = 3000.0
    attempts: Few = 4
    deadline_ms: Positive = 15_000.0
    """After so long a verdict is given up."""
    max_waiting: Few = 200


class OtherOutput(Section):
    """An output that another package registered under ``edgead.outputs``."""

    type: Literal["other"]
    name: str
    options: dict[str, Any] = {}


Output = Annotated[LogOutput | CommandOutput | GpioOutput | MqttOutput | WebhookOutput | OtherOutput, Field(discriminator="type")]


class StageBudgets(Section):
    """Milliseconds that a stage may take; more makes the part late."""

    wait: Positive | None = None
    resize: Positive | None = None
    inference: Positive | None = None
    decision: Positive | None = None


class SelfCheck(Section):
    """Golden frames of the bundle are asked about again while the line runs; while they fail, parts are UNKNOWN."""

    every_s: Positive = 3600.0


class Drift(Section):
    """Warns when light, sharpness, contrast, position or scores move away from what the bundle's golden frames show."""

    every_ms: Positive = 500.0
    """A picture is measured at most so often."""
    max_ng: Annotated[float, Field(gt=0, le=1)] = 0.3
    """More NG than this share of the last 50 parts is a warning."""


RecipeNumber = Annotated[int, Field(ge=1, le=65535)]


class PinnedBundle(Section):
    """A bundle, and the digest that it must have."""

    bundle: Path
    sha256: Sha256
    """Of its manifest.json, and so of all of it; `edgead inspect` prints it."""


class CameraConfig(Section):
    """One camera with its bundle, its triggers and who is told."""

    name: Name
    """For logs, records and metrics."""
    address: str
    """As `edgead run --camera`: usb:0, rtsp://user:${CAM_PASSWORD}@host/stream, a folder, sim:fps=5, ..."""
    bundle: Path | None = None
    """What answers; or `recipes`, when the line makes several products."""
    sha256: Sha256 | None = None
    """The digest that `bundle` must have (`edgead inspect` prints it); no other bundle is taken."""
    recipes: dict[RecipeNumber, Path | PinnedBundle] = {}
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
    budget_ms: Positive | None = None
    """From the trigger (free-running: the frame) to the verdict; later is UNKNOWN."""
    stage_budget_ms: StageBudgets = StageBudgets()
    on_late: Literal["unknown", "reject"] = "unknown"
    """What late parts are told as; reject is NG. Both are never OK."""
    fallback_bundle: Path | None = None
    """A faster bundle for when the main one does not keep up; with `fallback_engine` alone, another engine of the same bundle."""
    fallback_sha256: Sha256 | None = None
    """The digest that `fallback_bundle` must have."""
    fallback_engine: str | None = None
    trigger_delay_ms: NotNegative = 0.0
    """From the trigger to the moment the part is in the picture."""
    frame_window_ms: Positive | None = None
    """How long after that its picture may be made; none: until the deadline."""
    max_waiting: Few = 64
    """Triggers that may wait; more are UNKNOWN(trigger_overrun)."""
    frames_per_part: Few = 1
    combine: Literal["any", "all"] | Count = "any"
    """A part of several frames is NG when any is, when all are, or when so many are."""
    settle_frames: Count = 1
    """Free-running: so many OK frames in a row before OK is told again; the way to NG is immediate."""
    hysteresis: Annotated[float, Field(ge=0, le=3e38, allow_inf_nan=False)] = 0.0
    """Free-running: after NG, OK is told again only this far below the threshold (raw model units)."""
    frame_timeout_ms: Positive = 1000.0
    max_age_ms: Positive | None = None
    """Free-running, not of a recording: pictures whose light is older are dropped; 1000 if not given."""
    frozen_after: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """So many identical pictures in a row are a frozen camera; none: not checked."""
    realtime: bool = False
    """Play a video file at its own speed, as a camera would."""
    selfcheck: SelfCheck | None = SelfCheck()
    """null switches it off."""
    drift: Drift | None = Drift()
    """null switches it off."""
    plc: Plc | None = None
    outputs: tuple[Output, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> CameraConfig:
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
        return self

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

    @property
    def bundles(self) -> tuple[tuple[Path, str | None], ...]:
        """All bundles that may answer, without the fallback's, and the digest that each must have."""
        if self.bundle is not None:
            return ((self.bundle, self.sha256),)
        return tuple((one, None) if isinstance(one, Path) else (one.bundle, one.sha256) for one in self.recipes.values())


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
    def bundle(self) -> None:
        """A part has none of its own."""

    @property
    def recipes(self) -> dict[int, Path | PinnedBundle]:
        """A part has none of its own."""
        return {}

    @model_validator(mode="after")
    def _whole(self) -> PartConfig:
        if len(set(self.cameras)) < 2 or len(set(self.cameras)) < len(self.cameras):
            raise ValueError("a part needs two cameras or more, each once; a single camera needs no part")
        if self.trigger.source in ("free", "camera"):
            raise ValueError("the cameras of a part need one trigger for all: plc, gpio or interval")
        if self.trigger.source == "plc" and self.plc is None:
            raise ValueError("trigger: {source: plc} needs the section plc")
        if isinstance(self.combine, int) and self.combine > len(self.cameras):
            raise ValueError(f"combine: {self.combine} of {len(self.cameras)} views can never be")
        return self


class Pictures(Section):
    """NG and UNKNOWN pictures with their heat maps."""

    max_mb: Positive = 2000.0
    max_days: Days | None = None
    min_free_mb: NotNegative = 500.0
    """Disk space that is left alone."""
    ok_every: Count | None = None
    """Also every so many OK parts; they go first when space is short."""


class Records(Section):
    """The database of all inspections."""

    max_rows: Count = 5_000_000
    max_days: Days | None = None
    first: bool = False
    """Each record is on the disk before the PLC is told the verdict (also written as `records: first`); see docs/records.md."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"first": True} if value == "first" else value


class Storage(Section):
    """Where records and pictures go."""

    folder: Path
    records: Records = Records()
    pictures: Pictures | None = Pictures()


class Supervision(Section):
    """How others see that the station lives."""

    http: Annotated[str, Field(pattern=_HOST_PORT)] | None = None
    """host:port of /metrics, /healthz and /readyz, e.g. 127.0.0.1:9108."""
    log: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"
    stalled_after_ms: Positive = 10_000.0
    """A loop without progress for so long is not healthy."""


class Process(Section):
    """What the operating system shall grant; each needs rights and is reported when refused."""

    cpus: tuple[Annotated[int, Field(ge=0, le=65535)], ...] | None = None
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """CPU threads of each engine."""
    keep_compiled: bool = True
    """Keep compiled engines in the cache folder ($EDGEAD_CACHE, or the service's own), so that the next start is faster."""
    realtime_priority: Annotated[int, Field(ge=1, le=99)] | None = None
    lock_memory: bool = False
    collect_garbage_when_idle: bool = True


class StationConfig(Section):
    """A station.yaml."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=100)]
    cameras: tuple[CameraConfig, ...]
    parts: tuple[PartConfig, ...] = ()
    """Cameras that look at the same part."""
    trusted: tuple[Path, ...] = ()
    """Public keys; bundles run only when one of them signed them (`edgead sign`). None: bundles need no signature."""
    storage: Storage | None = None
    supervision: Supervision = Supervision()
    process: Process = Process()
    _secrets: tuple[str, ...] = PrivateAttr(default=())

    @property
    def secrets(self) -> tuple[str, ...]:
        """What the file's ``${...}`` stood for, to be kept out of logs."""
        return self._secrets

    @model_validator(mode="after")
    def _unique(self) -> StationConfig:
        if not self.cameras:
            raise ValueError("cameras is empty: name at least one")
        names = [camera.name for camera in self.cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two cameras are called {twice[0]}")
        self._check_parts()
        return self

    def _check_parts(self) -> None:
        cameras = {camera.name: camera for camera in self.cameras}
        names = [name for part in self.parts for name in part.cameras]
        for camera in self.cameras:
            if camera.trigger.source == "free" and camera.name not in names and (wrong := _for_triggers(camera)):
                raise ValueError(f"{camera.name}: {wrong} is for cameras with a trigger")
        for part in self.parts:
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
    keys = ("trigger_delay_ms", "frame_window_ms", "max_waiting", "combine")
    return next((key for key in keys if getattr(camera, key) != CameraConfig.model_fields[key].default), "")


def read_station(path: Path) -> StationConfig:
    """Read and validate a station.yaml; paths in it become absolute.

    Raises:
        BadInput: naming the file, the line and the key of the first mistake, and how many more there are.
    """
    located = Located(path)
    _no_plain_passwords(located)
    try:
        config = StationConfig.model_validate(located.values)
    except ValidationError as error:
        raise _explained(located, error) from None  # the original may show secrets
    config._secrets = tuple(located.secrets)
    absolute: StationConfig = _absolute(config, path.absolute().parent)
    _check_ownership(located, absolute)
    return absolute


def _check_ownership(located: Located, config: StationConfig) -> None:
    """Nothing that one alone may use is used by two. Raises BadInput, naming both places."""
    clash = first_clash(config)
    if clash is None:
        return
    first, second = clash
    here = f"{located.path}, line {located.line(second.place)}: {located.known(second.place)} ({second.owner})"
    there = f"{located.known(first.place)} ({first.owner}, line {located.line(first.place)})"
    overlap = "" if first.text == second.text else f", which has {first.text}"
    raise BadInput(one_line(f"{here}: {second.text} is taken by {there}{overlap}"), hint=second.hint)


def schema() -> dict[str, Any]:
    """The JSON schema of a station.yaml, draft 2020-12."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **StationConfig.model_json_schema()}


def _no_plain_passwords(located: Located) -> None:
    """Refuses passwords, tokens and Authorization headers that are not ``${...}``."""
    for place, text in located.texts.items():
        key = next((part for part in reversed(place) if isinstance(part, str)), "")
        if is_plain(key, text):
            raise BadInput(
                f"{located.path}, line {located.line(place)}: {located.known(place)}: a password stands in the file",
                hint="write ${NAME} there and set NAME in the environment, or ${file:/run/secrets/name}",
            )


def _explained(located: Located, error: ValidationError) -> BadInput:
    mistakes = error.errors(include_url=False, include_input=False)
    first = min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden")  # a misspelt key makes others missing
    place = tuple(first["loc"])
    key = located.known(place)
    line = located.line(place)
    text, hint = _words(first, place, located)
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    where = f"{located.path}, line {line}" if line else str(located.path)
    told = one_line(f"{where}: {key + ': ' if key else ''}{text}{more}")
    return BadInput(told, hint=hint or "edgead station schema lists all keys")


def _words(mistake: Any, place: tuple[str | int, ...], located: Located) -> tuple[str, str]:
    """What is wrong, and how to fix it when that is known."""
    kind = mistake["type"]
    if kind == "extra_forbidden":
        schema, key = StationConfig.model_json_schema(), str(place[-1])
        if places := _places(schema, key):
            return "does not belong here", f"it goes with {' or '.join(places)}"
        near = difflib.get_close_matches(key, sorted(_all_keys(schema)), 1)
        return "unknown key", f"did you mean {near[0]}?" if near else ""
    if kind == "missing":
        return "is missing", ""
    if kind.startswith("union_tag"):
        context = mistake.get("ctx", {})
        key = str(context.get("discriminator", "")).strip("'")
        if "tag" not in context:
            return f"{key} is missing", ""
        return f"{key} {str(context['tag'])[:60]!r} is not known", f"choose {context['expected_tags']}"
    text = str(mistake["msg"]).removeprefix("Value error, ")
    return text[0].lower() + text[1:], ""


def _places(schema: dict[str, Any], key: str) -> list[str]:
    """Where a key belongs: what its section is chosen by ("source: interval"), else the section's own key ("drift:")."""
    sections = {"": schema, **schema.get("$defs", {})}
    found = []
    for title, section in sections.items():
        properties = section.get("properties", {})
        if key not in properties:
            continue
        chosen = [f"{name}: {value['const']}" for name, value in properties.items() if "const" in value]
        named = [f"{name}:" for other in sections.values() for name, value in other.get("properties", {}).items()
                 if title and f"#/$defs/{title}'" in str(value)]  # fmt: skip
        found.append((chosen or named or ["the file itself"])[0])
    return found


def _all_keys(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = set(schema.get("properties", {}))
        return own.union(*(_all_keys(value) for value in schema.values())) if schema else own
    if isinstance(schema, list):
        return set().union(*(_all_keys(value) for value in schema)) if schema else set()
    return set()


def _absolute(value: Any, base: Path) -> Any:
    """`value` with each path in it, however deep, relative to `base`."""
    if isinstance(value, Path):
        try:
            return base / value.expanduser()
        except RuntimeError as error:
            raise BadInput(f"{str(value)[:100]}: there is no such home folder", hint="write the whole path") from error
    if isinstance(value, Section):
        return value.model_copy(update={name: _absolute(getattr(value, name), base) for name in type(value).model_fields})
    if isinstance(value, tuple):
        return tuple(_absolute(item, base) for item in value)
    if isinstance(value, dict):
        return {key: _absolute(item, base) for key, item in value.items()}
    return value
