"""The published method that a Patch SVDD is."""

from __future__ import annotations

from edgead.families.contract import Preset

PRESETS = (
    Preset(
        "patchsvdd",
        "Patch SVDD",
        "an encoder that learned on the good pictures alone where patches lie to each other; no weights of others; minutes",
        "Yi, Yoon 2020, Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation, arXiv:2006.16067",
        paper={"encoder": "paper", "steps": 40_000, "batch": 16, "together": 1e-3, "rows": 10_000, "big_rows": 10_000},
        gave_up="the authors' encoder (six times the work) and 300 epochs",
    ),
)  # fmt: skip
