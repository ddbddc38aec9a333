"""What calibration noticed: a value that reports and the command line show, and that some callers refuse to go on with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong (`severity` ``"error"``) or looks odd (``"warning"``).

    Attributes:
        severity: ``"error"`` or ``"warning"``.
        code: short and stable, e.g. ``"uint8-activation"``, for programs and tests.
        where: a node's name, a picture's name, or "" for the whole.
        message: one clear line, without `where`.
    """

    severity: str
    code: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that are errors."""
    return [finding for finding in findings if finding.severity == "error"]
