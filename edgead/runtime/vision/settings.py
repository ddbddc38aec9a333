"""What a station file says of edgead as an OPC UA server for machine vision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgead.claims import Claim, listening
from edgead.errors import BadInput
from edgead.settings import DeviceSettings, Port, Positive

if TYPE_CHECKING:
    from edgead.located import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionSettings(DeviceSettings):
    """edgead is an OPC UA server after OPC 40100-1, machine vision (docs/devices/opcua.md)."""

    type: Literal["opcua-server"] = "opcua-server"
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

    def __post_init__(self) -> None:
        if not self.anonymous and not (self.user and self.password):
            raise BadInput("an OPC UA server needs user and password, or anonymous: true")

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        yield from listening((*place, "port"), owner, self.bind, self.port)
