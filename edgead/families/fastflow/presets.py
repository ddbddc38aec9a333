"""FastFlow as in minutes on two cores and as published."""

from __future__ import annotations

from edgead.families.contract import Preset

PRESETS = (
    Preset(
        "fastflow",
        "FastFlow",
        "how unlikely each place is by a flow of convolutions over frozen features; maps, trained in a minute",
        "Yu et al. 2021, FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows, arXiv:2111.07677",
        paper={"backbone": "resnet18", "layers": ("layer1", "layer2", "layer3"), "steps": 3500, "batch": 32},
        gave_up="ResNet-18's three layers and 500 rounds over the pictures: two layers of EfficientNet-Lite0, 225 steps",
        auto_s=40,
    ),
)
