"""How settings of rewrites are read from text; each raises ValueError that says what to give."""

from __future__ import annotations

from edgead.models.rewrites import Setting


def flag(text: str) -> Setting:
    """Nothing to choose."""
    if text:
        raise ValueError("it takes no value")
    return True


def count(text: str) -> Setting:
    """A whole number from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise ValueError("give a whole number from 1 on")
    return int(text)
