"""The published methods of translation."""

from __future__ import annotations

from edgead.families.contract import Preset

PRESETS = (
    Preset(
        "descargan",
        "DeScarGAN",
        "translates a picture to a good one and shows what changed; learns from good pictures and defects without masks",
        "Wolleb, Sandkühler, Cattin 2020, DeScarGAN: Disease-Specific Anomaly Detection with Weak Supervision, arXiv:2007.14118",
        paper={"base": 64, "batch": 5, "steps": 50_000, "critic_steps": 5, "lr": 1e-4},
        gave_up="128 px, an eighth of the channels, some hundred steps with one of the critic each: the map is coarse, the score"
        " is the class head's",
        side=128,
        paper_side=256,
    ),
)
