"""DifferNet as in minutes on two cores and as published."""

from __future__ import annotations

from edgead.families.contract import Preset

PRESETS = (
    Preset(
        "differnet",
        "DifferNet",
        "how unlikely a whole picture is by a flow of its pooled features; few good pictures, one score, a coarse map",
        "Rudolph, Wandt, Rosenhahn 2021, Same Same But DifferNet: Semi-Supervised Defect Detection with Normalizing Flows,"
        " arXiv:2008.12577",
        paper={
            "backbone": "resnet18", "layers": ("layer4",), "turns": "8", "blocks": 8, "hidden": 2048, "depth": 3, "steps": 4000,
            "batch": 96, "lr": 2e-4,
        },
        gave_up="448 px, 8 blocks of three layers of 2,048 and thousands of steps (ResNet-18 for AlexNet, 8 turns for 64)",
        paper_side=448,
    ),
)  # fmt: skip
