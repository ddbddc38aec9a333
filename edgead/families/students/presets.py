"""The published method that these students are of."""

from __future__ import annotations

from edgead.families.contract import Preset

PRESETS = (
    Preset(
        "uninformed_students",
        "Uninformed Students",
        "students that know only good patches disagree with their teacher, and with each other, on defects",
        "Bergmann, Fauser, Sattlegger, Steger 2020, Uninformed Students: Student-Teacher Anomaly Detection with Discriminative"
        " Latent Embeddings, arXiv:1911.02357",
        paper={
            "kind": "patches", "students": 3, "channels": 128, "stride": 1, "epochs": 100, "batch": 1, "lr": 1e-4, "falls": False,
            "teacher_steps": 50_000, "taught_by": "resnet18",
        },
        gave_up="three patch sizes and trained networks: last layers on EfficientAD's packaged teacher (33 px), by least squares",
        side=128,
        paper_side=256,
        auto_s=20,
    ),
)  # fmt: skip
