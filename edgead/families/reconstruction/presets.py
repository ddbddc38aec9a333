"""Published methods that are mixtures of this family: data, so that the table of families costs nothing."""

from __future__ import annotations

from edgead.families.contract import Preset

SMALL = "128 px, a quarter of the channels, minutes of training"

OURS = {"reference": "relative", "score": "top"}
"""How lite maps are told: in the usual error of each place, and by their highest hundredth. On elpv and magnetic_tile that was
better than the maximum of the error itself for every method that was tried (seed 0)."""

THEIRS = {"reference": "none", "score": "max"}
"""As the papers tell them."""

RECONSTRUCTION = Preset(
    "reconstruction",
    "Reconstruction",
    "mixes network, masking, neck and error freely",
    "after Bergmann et al. 2018, Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders,"
    " arXiv:1807.02011",
    options=OURS,
    gave_up=SMALL,
    side=128,
)

AE = Preset(
    "ae",
    "Autoencoder",
    "what an autoencoder cannot rebuild, by squared differences: a baseline",
    "Bergmann et al. 2018, Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders,"
    " arXiv:1807.02011",
    options={**OURS, "network": "ae", "loss": ("l2",), "error": ("l2",)},
    paper={
        **THEIRS, "network": "bergmann", "neck": "vector", "vector": 100, "norm": False, "steps": 10_000, "batch": 128,
        "lr": 2e-4, "weight_decay": 1e-5, "flips": True, "smooth": 0,
    },
    gave_up=SMALL,
    side=128,
    paper_side=128,
)  # fmt: skip

AE_SSIM = Preset(
    "ae_ssim",
    "Autoencoder (SSIM)",
    "what an autoencoder cannot rebuild, by structural similarity: blind to colour and even brightness",
    AE.source,
    options={**OURS, "network": "ae", "loss": ("ssim:2",), "error": ("ssim",)},
    paper={**AE.paper, "loss": ("ssim:2",), "error": ("ssim",)},
    gave_up=SMALL,
    side=128,
    paper_side=128,
)

VAE = Preset(
    "vae",
    "Variational autoencoder",
    "a picture through a few numbers that are kept near a normal distribution",
    "Kingma & Welling 2014, Auto-Encoding Variational Bayes, arXiv:1312.6114; as a baseline in Dehaene et al. 2020,"
    " arXiv:2002.03734",
    options={**OURS, "network": "ae", "neck": "vae", "loss": ("l2",), "error": ("l2",)},
    paper={**THEIRS, "base": 32, "steps": 20_000, "batch": 64, "lr": 2e-4, "norm": False, "smooth": 0},
    gave_up=SMALL,
    side=128,
    paper_side=128,
)

MEMAE = Preset(
    "memae",
    "MemAE",
    "cells are rebuilt from a memory of good ones",
    "Gong et al. 2019, Memorizing Normality to Detect Anomaly, arXiv:1904.02639",
    options={**OURS, "network": "ae", "neck": "memory", "loss": ("l2",), "error": ("l2",)},
    paper={**THEIRS, "base": 64, "rows": 2000, "temperature": 1.0, "steps": 20_000, "batch": 14, "lr": 1e-4},
    gave_up=SMALL + "; the memory is addressed with a temperature of 10, without which it stays nearly even",
    side=128,
    paper_side=256,
)

RIAD = Preset(
    "riad",
    "RIAD",
    "each cell of a picture is guessed from those around it",
    "Zavrtanik, Kristan, Skočaj 2021, Reconstruction by inpainting for visual anomaly detection, Pattern Recognition 112",
    options={
        **OURS, "network": "unet", "masking": "disjoint", "stem": 2, "base": 16, "levels": 3, "loss": ("l2", "msgms", "ssim:2"),
        "error": ("msgms",), "smooth": 21, "batch": 4, "steps": 400,
    },
    paper={
        **THEIRS, "base": 64, "levels": 4, "stem": 1, "cells": ("2", "4", "8", "16"), "steps": 20_000, "batch": 4, "lr": 1e-4,
    },
    gave_up="128 px, half the resolution inside, a quarter of the channels, no cells of 2 px, minutes of training",
    side=128,
    paper_side=256,
)  # fmt: skip

MEMGAN = Preset(
    "memgan",
    "Memory augmented GAN",
    "a picture through a convex mixture of remembered codes, which a critic keeps lively; for teaching",
    "Yang et al. 2021, Memory Augmented Generative Adversarial Networks for Anomaly Detection, arXiv:2002.02669",
    options={
        **OURS, "network": "ae", "neck": "convex", "loss": ("l1",), "error": ("l1",), "adversary": 0.01, "neck_share": 0.2,
    },
    paper={
        **THEIRS, "base": 64, "vector": 256, "rows": 100, "projection": 10.0, "adversary": 1.0, "steps": 20_000, "batch": 64,
        "lr": 2e-4,
    },
    gave_up=SMALL + "; the critic has a hundredth of its weight, so that the training is safe",
    side=128,
    paper_side=128,
)  # fmt: skip

MNAD = Preset(
    "mnad",
    "MNAD",
    "few prototypes of good cells that move with the training; their distance counts along with the error",
    "Park, Noh, Ham 2020, Learning Memory-guided Normality for Anomaly Detection, arXiv:2003.13228",
    options={
        **OURS, "network": "unet", "skips": False, "stem": 2, "base": 16, "levels": 3, "neck": "prototypes", "loss": ("l2",),
        "error": ("l2",), "neck_share": 0.3,
    },
    paper={**THEIRS, "base": 64, "stem": 1, "steps": 20_000, "batch": 4, "lr": 2e-4},
    gave_up=SMALL,
    side=128,
    paper_side=256,
)  # fmt: skip

PRESETS: tuple[Preset, ...] = (RECONSTRUCTION, AE, AE_SSIM, VAE, MEMAE, MEMGAN, MNAD, RIAD)
