"""What people should look at, as a device tells it beside its verdicts: any with a method ``conditions()``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that people should look at.

    Attributes:
        text: what is seen, what is expected, what to look at.
        blocks: no part gets a verdict, or none reaches the PLC, while it lasts.
    """

    text: str
    blocks: bool = True


def conditions_of(devices: Iterable[object]) -> dict[str, Condition]:
    """What those with a method ``conditions()`` want people to look at, by names."""
    return {name: found for device in devices if hasattr(device, "conditions") for name, found in device.conditions().items()}


def blocking(conditions: Mapping[str, Condition]) -> str:
    """Why no part gets through, in words; "" when none of them says so."""
    return next((condition.text for condition in conditions.values() if condition.blocks), "")


def texts(conditions: Mapping[str, Condition]) -> dict[str, str]:
    """The conditions as notices."""
    return {name: condition.text for name, condition in conditions.items()}
