"""The published methods that are one-class models."""

from __future__ import annotations

from edgead.families.contract import Preset

PRESETS = (
    Preset(
        "fcdd",
        "FCDD",
        "a head on frozen features that learned to tell good pictures from made up defects, and from real ones if there are some",
        "Liznerski et al. 2021, Explainable Deep One-Class Classification, arXiv:2007.01760",
        options={},
        paper={"synthetic": ("confetti",), "sigma": 12.0, "steps": 10_000, "batch": 64, "width": 512, "pool": 0},
        gave_up="a wide head, 200 epochs, and other defects at every step; makes up five kinds, not confetti alone",
        auto_s=110,
        made_up=True,
    ),
    Preset(
        "history_ad",
        "HistoryAD",
        "a critic on the picture that learned to tell good ones from what a network made while it learned to make them",
        "Chatillon & Ballester 2020, History-based Anomaly Detector, arXiv:1912.11843",
        options={"network": "critic", "width": 16, "steps": 300, "sigma": 4.0},
        paper={"history_of": "gan", "history_steps": 20_000, "history_lr": 2e-4, "history_width": 64, "width": 64,
               "snapshots": 16, "drawn": 0.0, "steps": 20_000, "batch": 32},
        gave_up="a GAN: the history is of an autoencoder, and half of the odd pictures have a made up defect",
        made_up=True,
    ),
)  # fmt: skip
