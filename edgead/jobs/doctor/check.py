"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OK, MISSING, BROKEN, NOTE = "ok", "missing", "broken", "note"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        group: engine, device, cpu, camera, train, export, display or disk.
        name: of what was looked at.
        state: "ok", "missing", "broken" or "note".
        detail: what was seen.
        hint: what to do about it; "" for nothing.
    """

    group: str
    name: str
    state: str
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All of them.

    Attributes:
        ok: at least one engine works here.
        checks: in the order in which they are shown.
        machine: facts of this machine.
    """

    ok: bool
    checks: tuple[Check, ...]
    machine: dict[str, Any]
