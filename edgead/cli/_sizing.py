"""How the input size was chosen, in words: for `edgead train`, and for `edgead inspect` from a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Any]
"""As :class:`edgead.manifest.Sizing` and its sizes have them."""


def told(facts: Facts) -> list[str]:
    """One line on what was taken and why, one for each other size, and one on how it was found."""
    tried = facts["tried"]
    chosen = next((one for one in tried if one["chosen"]), None)
    if chosen is None:
        return []
    width, height = facts["pictures"]
    kept = "" if chosen["fits"] else f", OVER the {facts['budget_ms']:g} ms"
    lines = [f"{_px(chosen)}, of pictures of {width} x {height} px: {facts['why']}{kept}"]
    lines.append(_figures(chosen))
    lines += [f"{_px(one)}: {_figures(one)}{_over(one, facts)}" for one in tried if not one["chosen"]]
    budget = "given" if facts["given"] else "default; --budget-ms"
    how = f"{facts['took_s']:.0f} s for this choice; budget {facts['budget_ms']:g} ms ({budget}); --size N sets a size"
    bank, good, drawn = facts["counts"]
    if facts["share"] is not None:
        how = (
            f"{drawn} defects drawn at full resolution (half of them cover less than {facts['share']:.2%} of the picture) on "
            f"{good} pictures, by a quick PatchCore of {bank} others; {how}"
        )
    return [*lines, how]


def over(facts: Facts) -> str:
    """What to say when the chosen size does not keep the budget that was given; "" when it does."""
    chosen = next((one for one in facts["tried"] if one["chosen"]), None)
    if chosen is None or chosen["fits"] or not facts["given"]:
        return ""
    return (
        f"no input size keeps {facts['budget_ms']:g} ms on this machine: {_px(chosen)} takes about {chosen['ms']:.3g} ms; edgead "
        "export --budget-ms looks for faster engines and smaller sizes, another family may be faster (edgead docs which-model)"
    )


def _px(one: Facts) -> str:
    return f"{one['width']} x {one['height']} px"


def _figures(one: Facts) -> str:
    ms = f"about {one['ms']:.2g} ms" if one["ms"] < 100 else f"about {one['ms']:.0f} ms"
    if one["auroc"] is None or one["error"] is None:
        return ms
    change = ""
    if not one["chosen"] and one["change"] is not None and one["change_error"] is not None:
        change = f", {one['change']:+.3f} ± {one['change_error']:.3f}"
    return f"AUROC {one['auroc']:.3f} ± {one['error']:.3f} on small drawn defects{change}; {ms}"


def _over(one: Facts, facts: Facts) -> str:
    return "" if one["fits"] else f", over the {facts['budget_ms']:g} ms"
