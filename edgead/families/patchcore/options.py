"""How a PatchCore is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.families.options import option
from edgead.families.patches import PatchOptions

MIN_ROWS = 1536
"""A coreset given as a share is not made smaller than this (512 before 30 November 2026): of few pictures, 1 % is too few rows to
know them by (docs/decisions/0042-rows.md). A number of rows is taken as it is."""

PROJECTED = 192
"""Dimensions after projection; rows that have no more are taken as they are, as those of the EfficientNet-Lite backbones are. 64
were twice as fast and lost a point of AUROC on average (docs/decisions/0026-features.md); without an end, a backbone of 1,536
channels would take a gigabyte more and minutes."""


def _parse(text: str) -> float | int:
    """``1`` is one row, ``1.0`` and ``100%`` are all patches."""
    try:
        return int(text) if text.isdigit() else float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a share such as 0.01 nor a number of rows") from None


def _usable(coreset: float | int) -> bool:
    return coreset <= 1 or coreset == int(coreset)


@dataclass(frozen=True, slots=True)
class PatchCoreOptions(PatchOptions):
    """See the fields' own words; the score's re-weighting is not for the tokens of a vision transformer
    (:data:`edgead.families.patchcore.fit.TOKEN_SCORE`)."""

    coreset: float | int = option(
        0.01, f"up to 1.0: share of all patches that is kept, {MIN_ROWS} at least; a whole number: rows",
        metavar="SHARE|ROWS", above=0, check=_usable,
        wrong="a coreset of {} is not usable", hint="give a share such as 0.01, or a whole number of rows", parse=_parse,
    )  # fmt: skip
    neighbours: int = option(
        9, "rows that the score of the worst patch is weighed by; 1: it is not weighed", metavar="N", least=1, rare=True
    )
    projected: int = option(
        PROJECTED, "dimensions in which the coreset is chosen; 64 before 30 November 2026", metavar="N", least=1, rare=True
    )


def coreset_rows(coreset: float | int, patches: int) -> int:
    """How many rows a usable `coreset` asks for when there are so many patches: 1.0 is all of them, 1 is one."""
    if coreset > 1 or isinstance(coreset, int):
        return int(coreset)
    return max(MIN_ROWS, round(coreset * patches))
