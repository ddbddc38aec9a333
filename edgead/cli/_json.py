"""What --json prints: one object, with the name and version of its schema first (edgead docs json)."""

from __future__ import annotations

import json
from typing import Any

from edgead.jobs.plain import plain_of

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
