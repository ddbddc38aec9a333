"""The published methods that rebuild a teacher's feature maps."""

from __future__ import annotations

from edgead.families.contract import Preset

PRESETS = (
    Preset(
        "stfpm",
        "STFPM",
        "a student that sees the picture rebuilds the features of a pretrained network, in good pictures only",
        "Wang, Han, Ding, Huang 2021, Student-Teacher Feature Pyramid Matching for Anomaly Detection, arXiv:2103.04257",
        paper={
            "rebuilder": "twin", "backbone": "resnet18", "layers": ("layer1", "layer2", "layer3"), "epochs": 100, "batch": 32,
            "optimizer": "sgd", "lr": 0.4, "falls": False, "weight_decay": 1e-4, "combine": "product", "at_picture": "plain",
        },
        gave_up="a ResNet-18 and its twin: a small student of EfficientNet-Lite0 here, with the layers' maps balanced and added",
        side=256,
        auto_s=60,
    ),
    Preset(
        "reverse_distillation",
        "Reverse Distillation",
        "a decoder rebuilds the features of a pretrained network from a bottleneck that good pictures fit through",
        "Deng & Li 2022, Anomaly Detection via Reverse Distillation from One-Class Embedding, arXiv:2201.10703",
        options={"rebuilder": "reverse"},
        paper={
            "rebuilder": "mirror", "backbone": "wide_resnet50_2", "layers": ("layer1", "layer2", "layer3"), "epochs": 200,
            "batch": 16, "lr": 0.005, "beta": 0.5, "falls": False, "weight_decay": 0.0, "whole": True, "balanced": False,
            "at_picture": "smoothed",
        },
        gave_up="a WideResNet-50-2 and its mirrored decoder: a small decoder of EfficientNet-Lite0's features here",
        side=256,
        auto_s=60,
    ),
)  # fmt: skip
