"""Triggers and outputs of a camera, or of a part, from its settings: there now, or as soon as they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from edgead.clock import Clock
    from edgead.config.camera import CameraConfig, PartConfig
    from edgead.config.camera import GpioTrigger as GpioTriggerConfig
    from edgead.runtime.later import Later
    from edgead.runtime.plc.device import PlcDevice
    from edgead.runtime.records.store import RecordStore
    from edgead.runtime.vision.server import OpcUaServer
    from edgead.runtime.vision.settings import VisionSettings
    from edgead.settings import DeviceSettings
    from edgead.types import Output, TriggerSource

OPEN_S = 5.0
"""How long a start waits for an output, a trigger line or a server to open; what takes longer is used once it is there."""


class Watched(Protocol):
    """Something that may not be there yet, and says so."""

    def watch(self, tell: Callable[[str, str], None]) -> None: ...


@dataclass(slots=True)
class Devices:
    """Opens them.

    Attributes:
        clock: of triggers and outputs.
        waits: one that is not there yet does not end the start: it is tried again and again.
        late: those that may not be there yet.
    """

    clock: Clock
    waits: bool
    late: list[Watched] = field(default_factory=list)

    def open(
        self, camera: CameraConfig | PartConfig, store: RecordStore | None, stack: ExitStack
    ) -> tuple[TriggerSource | None, list[Output]]:
        """The trigger source, and the outputs; both may be one PLC. `stack` closes them.

        Raises:
            EdgeadError: whatever is wrong, in one line.
        """
        from edgead.line.links import open_output

        plc = None
        if camera.plc is not None:
            plc = self._plc(camera.plc, camera, store)
            stack.callback(plc.close)
        outputs: list[Output] = [] if plc is None else [plc]
        for config in camera.outputs:
            named = getattr(config, "name", config.type)  # of another package's
            output = self._output(f"output {named}", partial(open_output, config, self.clock, camera.name))
            stack.callback(output.close)
            outputs.append(output)
        triggers = self._triggers(camera, plc)
        if triggers is not None and triggers is not plc:
            stack.callback(triggers.close)
        return triggers, outputs

    def _output(self, what: str, open: Callable[[], Output]) -> Output:
        from edgead.runtime.later import LateOutput

        made, later = self._now_or_later(what, open)
        return LateOutput(later) if later is not None else made

    def _triggers(self, camera: CameraConfig | PartConfig, plc: PlcDevice | OpcUaServer | None) -> TriggerSource | None:
        from edgead.runtime.later import LateTriggers
        from edgead.runtime.loop import triggers

        config = camera.trigger
        if config.source == "free":
            return None
        if config.source == "plc":
            return plc
        if config.source == "interval":
            return triggers.IntervalTrigger(config.every_ms / 1000, self.clock)
        if config.source == "gpio":
            made, later = self._now_or_later("trigger gpio", partial(_gpio_trigger, config))
            return LateTriggers(later, self.clock) if later is not None else made
        return triggers.CameraTrigger()

    def _plc(
        self, config: DeviceSettings, camera: CameraConfig | PartConfig, store: RecordStore | None
    ) -> PlcDevice | OpcUaServer:
        from edgead.config.camera import VISION
        from edgead.line.links import answer_timeout_s, open_link, open_vision
        from edgead.runtime.later import LateLink
        from edgead.runtime.plc.device import PlcDevice
        from edgead.runtime.plc.handshake import Timing
        from edgead.runtime.plc.settings import LinkSettings

        if config.type == VISION:
            vision = open_vision(cast("VisionSettings", config), camera, self.clock)
            self.late.append(vision)
            return vision
        assert isinstance(config, LinkSettings)  # as the registry has seen to
        made, later = self._now_or_later(f"plc {config.type}", partial(open_link, config))
        return PlcDevice(
            LateLink(later) if later is not None else made,
            self.clock,
            config.cycle_ms / 1000,
            timing=Timing(answer_timeout_s=answer_timeout_s(camera.budget_ms)),
            heartbeat_timeout_s=config.heartbeat_timeout_ms / 1000,
            on_taken=store.acknowledge if store is not None else lambda part_id: None,
        )

    def _now_or_later(self, what: str, open: Callable[[], Any]) -> tuple[Any, Later[Any] | None]:
        """It, or what goes on trying to open it. Raises EdgeadError: it is wrong, or absent and not waited for."""
        from edgead.errors import EdgeadError, OutputError
        from edgead.runtime.later import Later, absent
        from edgead.runtime.opening import Attempts

        attempts = Attempts(what, open, OutputError)
        try:
            return attempts.take(OPEN_S) if self.waits else open(), None
        except OutputError as error:
            fault, cause = error, error.__cause__
        except (EdgeadError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - a bug or a panic of somebody else's adapter costs that output, not all lanes
            fault, cause = absent(what, error), error
        if not self.waits:
            raise fault from cause
        later = Later(what, attempts, fault, self.clock)
        self.late.append(later)
        return None, later


def _gpio_trigger(config: GpioTriggerConfig) -> TriggerSource:
    from edgead.runtime.outputs.gpio import GpioTrigger

    return GpioTrigger(config.chip, config.line, active=config.active, debounce_s=config.debounce_ms / 1000)
