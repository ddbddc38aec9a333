"""What --json prints: one object, with the name and version of its schema first (docs/json.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

VERSION = 1
"""Of every schema; one that loses a field, or means another thing by it, gets a version of its own."""


def schema(verb: str) -> str:
    """ "records" -> "edgead.records/1"."""
    return f"edgead.{verb}/{VERSION}"


def print_json(verb: str, result: Any, *, action: str = "", indent: int | None = 2) -> None:
    """Print a verb's result: a dataclass, or a mapping by names.

    Args:
        action: of a verb that has several, each with a result of its own.
        indent: None for one of many lines.
    """
    named = {"action": action} if action else {}
    print(json.dumps({"schema": schema(verb), **named, **plain_of(result)}, indent=indent, allow_nan=False))


def plain_of(value: Any) -> Any:
    """Made of what JSON has: dataclasses by their fields, paths and enumerations as text, NaN and infinity as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_of(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_of(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_of(one) for one in value]
    if isinstance(value, Enum):
        return plain_of(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
