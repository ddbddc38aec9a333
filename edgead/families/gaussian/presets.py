"""The published methods that are Gaussians of features."""

from __future__ import annotations

from edgead.families.contract import Preset

PRESETS = (
    Preset(
        "padim",
        "PaDiM",
        "how far each place is from a Gaussian of good ones of that place; trained in seconds, for parts in a fixed place",
        "Defard et al. 2020, PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization,"
        " arXiv:2011.08785",
        paper={"backbone": "resnet18", "cell": 4, "sigma": 4.0},
        gave_up="ResNet-18 at 224 px and the finest layer's grid with a smoothed map: EfficientNet-Lite0 on cells of 8 px here",
        paper_side=224,
        auto_s=8,
    ),
    Preset(
        "gaussian",
        "Gaussian",
        "how far features are from one Gaussian of all good ones, wherever they are; a model of kilobytes",
        "Rippel, Mertens, Merhof 2020, Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly"
        " Detection, arXiv:2005.14140",
        options={"means": "shared", "covariance": "shared", "channels": 0, "score_by": "top"},
    ),
)
