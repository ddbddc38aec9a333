"""The published method that a DRAEM is."""

from __future__ import annotations

from edgead.families.contract import Preset

PRESETS = (
    Preset(
        "draem",
        "DRAEM",
        "rebuilds the picture without what was drawn on it, and compares the two; also for models trained with anomalib",
        "Zavrtanik, Kristan, Skočaj 2021, DRAEM - A discriminatively trained reconstruction embedding for surface anomaly"
        " detection, arXiv:2108.07610",
        paper={"width": 128, "segment_width": 64, "steps": 20_000, "batch": 8, "lr": 1e-4},
        gave_up="a sixteenth of the channels, 128 px, and 700 epochs",
        made_up=True,
        side=128,
        paper_side=256,
    ),
)
