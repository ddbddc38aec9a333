"""Published methods that are mixtures of this family: data, so that the table of families costs nothing."""

from __future__ import annotations

from edgead.families.contract import Preset

SMALL = "128 px, a quarter of the channels, minutes of training"

OURS = {"reference": "relative", "score_by": "top", "light": "even", "steps": 500}
"""How lite maps are told: of pictures without their mean, in the usual error of each place, by their highest hundredth. On elpv
and magnetic_tile (seed 0, 40 + 40 pictures) the last two were better for every method that was tried, the first for `vae`."""

THEIRS = {"reference": "none", "score_by": "max", "light": "as_is"}
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
    options={**OURS, "network": "ae", "loss": ("ssim:2",), "error": ("ssim",), "steps": 800},
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

WAE_MMD = Preset(
    "wae_mmd",
    "Generative score (WAE-MMD)",
    "how likely a picture is by a decoder: error, code and volume; about as good as the error alone",
    "Šmídl, Bím, Pevný 2019, Anomaly scores for generative models, arXiv:1905.11890; Tolstikhin et al. 2018, Wasserstein"
    " Auto-Encoders, arXiv:1711.01558",
    options={
        **OURS, "network": "ae", "neck": "wae", "loss": ("l2",), "error": ("l2",), "neck_share": 0.5, "score_by": "mean",
        "reference": "none", "smooth": 0,
    },
    paper={"light": "as_is", "base": 32, "steps": 20_000, "batch": 64, "lr": 1e-3, "norm": False},
    gave_up=SMALL + "; the code is not moved to the picture's projection, and the volume is regressed (both in paper, too)",
    side=128,
    paper_side=128,
)  # fmt: skip

MEMAE = Preset(
    "memae",
    "MemAE",
    "cells are rebuilt from a memory of good ones",
    "Gong et al. 2019, Memorizing Normality to Detect Anomaly, arXiv:1904.02639",
    options={**OURS, "network": "ae", "neck": "memory", "loss": ("l2",), "error": ("l2",)},
    paper={
        **THEIRS, "base": 64, "rows": 2000, "temperature": 1.0, "steps": 20_000, "batch": 14, "lr": 1e-4, "smooth": 0,
        "score_by": "mean",
    },
    gave_up=SMALL + "; the memory is addressed with a temperature of 10, without which it stays nearly even",
    side=128,
    paper_side=256,
)  # fmt: skip

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
        "batch": 4,
    },
    paper={
        **THEIRS, "base": 64, "vector": 256, "rows": 100, "projection": 10.0, "adversary": 1.0, "steps": 20_000, "batch": 64,
        "lr": 2e-4, "smooth": 0, "score_by": "mean",
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
    paper={**THEIRS, "base": 64, "stem": 1, "steps": 20_000, "batch": 4, "lr": 2e-4, "smooth": 0, "score_by": "mean"},
    gave_up=SMALL,
    side=128,
    paper_side=256,
)  # fmt: skip

SCADN = Preset(
    "scadn",
    "SCADN",
    "lying and standing stripes of a picture are guessed from what is between them",
    "Yan et al. 2021, Learning Semantic Context from Normal Samples for Unsupervised Anomaly Detection, AAAI",
    options={
        **OURS, "network": "residual", "masking": "stripes", "base": 8, "loss": ("l2",), "error": ("l2",), "batch": 4,
        "steps": 400,
    },
    paper={
        **THEIRS, "base": 32, "blocks": 8, "cells": ("8", "16", "32"), "steps": 20_000, "lr": 1e-4, "score_by": "mean",
        "smooth": 0, "adversary": 0.001, "critic": "nsgan", "critic_lr": 0.1,
    },
    gave_up="128 px for 512, a quarter of the channels, 4 blocks of 8, the critic, minutes of training",
    side=128,
    paper_side=512,
)  # fmt: skip

SMAI = Preset(
    "smai",
    "SMAI",
    "superpixels of a picture are guessed from their surroundings",
    "Li et al. 2020, Superpixel Masking and Inpainting for Self-Supervised Anomaly Detection, BMVC",
    options={
        **OURS, "network": "unet", "masking": "superpixels", "stem": 2, "levels": 3, "loss": ("l2",), "error": ("l2",),
        "steps": 400,
    },
    paper={**THEIRS, "base": 64, "levels": 4, "stem": 1, "superpixels": "soft", "steps": 20_000, "batch": 8, "lr": 1e-4},
    gave_up=SMALL + ", half the resolution inside",
    side=128,
    paper_side=256,
)  # fmt: skip

PARTIAL = Preset(
    "partial",
    "Partial-convolution inpainting",
    "what a window hides is guessed from around it, wherever the window is; for missing and wrong parts",
    "Liu et al. 2018, Image Inpainting for Irregular Holes Using Partial Convolutions, arXiv:1804.07723",
    options={
        **OURS, "network": "partial", "masking": "windows", "loss": ("l1",), "error": ("l1",), "steps": 600,
    },
    paper={**THEIRS, "base": 64, "levels": 6, "steps": 50_000, "lr": 2e-4},
    gave_up=SMALL + ", four halvings",
    side=128,
    paper_side=512,
)  # fmt: skip

PROJECTION = Preset(
    "projection",
    "Energy-based projection",
    "how far a picture must be moved until an autoencoder rebuilds it: cleaner maps for twenty times the work",
    "Dehaene et al. 2020, Iterative energy-based projection on a normal data manifold for anomaly localization, arXiv:2002.03734",
    options={**OURS, "network": "ae", "neck": "vae", "moves": 10, "loss": ("l2",), "error": ("l1",)},
    paper={**VAE.paper, "moves": 50, "alpha": 0.5},
    gave_up=SMALL + ", 10 steps of a picture in place of 50, each four times as long",
    side=128,
    paper_side=128,
)

INTRA = Preset(
    "intra",
    "InTra",
    "hidden patches are told from those around them by attention alone",
    "Pirnay, Chai 2022, Inpainting Transformer for Anomaly Detection, arXiv:2104.13897",
    options={
        **OURS, "network": "transformer", "masking": "disjoint", "cells": ("16",), "sets": 4,
        "loss": ("l2", "ssim:0.01", "msgms:0.01"), "error": ("msgms",), "smooth": 21, "batch": 4, "steps": 300, "norm": False,
    },
    paper={
        **THEIRS, "base": 512, "blocks": 12, "heads": 8, "sets": 16, "reference": "squared", "lr": 1e-4, "steps": 100_000,
    },
    gave_up="128 px, a quarter of the width, 6 blocks of 13, a quarter of the patches hidden at once, minutes of training",
    side=128,
    paper_side=256,
)  # fmt: skip

PNET = Preset(
    "pnet",
    "P-Net",
    "a picture is rebuilt from its content and its edges, and its edges are compared too",
    "Zhou et al. 2020, Encoding Structure-Texture Relation with P-Net for Anomaly Detection in Retinal Images, arXiv:2008.03632",
    options={
        **OURS, "network": "structure", "loss": ("l1", "structure:0.1"), "error": ("l1:0.2", "structure:0.8"),
    },
    paper={**THEIRS, "base": 64, "steps": 50_000, "batch": 8, "smooth": 0, "score_by": "mean"},
    gave_up=SMALL + "; structure is soft edges of the picture itself, not learned on labelled pictures, in both",
    side=128,
    paper_side=224,
)  # fmt: skip

PUZZLE = Preset(
    "puzzle",
    "Puzzle-AE",
    "puts the quarters of a picture back and colours one: teaching",
    "Salehi et al. 2020, Puzzle-AE: Novelty Detection in Images through Solving Puzzles, arXiv:2008.12959",
    options={**OURS, "network": "unet", "masking": "puzzle", "stem": 2, "levels": 3, "loss": ("l2",), "error": ("l2",)},
    paper={**THEIRS, "base": 64, "levels": 4, "stem": 1, "orders": 23, "steps": 30_000, "smooth": 0, "score_by": "mean"},
    gave_up=SMALL + ", half the resolution inside, 4 orders of 23; neither attack nor critic, in both",
    side=128,
    paper_side=128,
)

PRESETS: tuple[Preset, ...] = (
    RECONSTRUCTION, AE, AE_SSIM, VAE, WAE_MMD, MEMAE, MEMGAN, MNAD, RIAD,
    SCADN, SMAI, PARTIAL, PROJECTION, INTRA, PNET, PUZZLE,
)  # fmt: skip
