"""Links to PLCs on this machine, by what is special about each."""

from __future__ import annotations

from typing import Any

from edgead.runtime.plc.ethernetip import EtherNetIpLink, EtherNetIpSettings
from edgead.runtime.plc.modbus import ModbusClientLink, ModbusClientSettings


def modbus(port: int, **settings: Any) -> ModbusClientLink:
    return ModbusClientLink(ModbusClientSettings(host="127.0.0.1", port=port, **settings))


def ethernetip(port: int, **settings: Any) -> EtherNetIpLink:
    return EtherNetIpLink(EtherNetIpSettings(host="127.0.0.1", port=port, **settings))
