"""EfficientAd in checkpoints of anomalib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from edgead.errors import BadInput
from edgead.families.efficientad.network import EfficientAd
from edgead.importers.anomalib.reading import State, load, px
from edgead.importers.model import ImportOptions
from edgead.importers.transforms import Followed
from edgead.models.detector import Detector

MARK, TITLE, NORMALIZED = "student.conv1.weight", "EfficientAd", False


def build(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    """The detector of a checkpoint's weights and hyperparameters, and what it is in a few words. Raises BadInput."""
    if hyper.get("padding"):
        raise BadInput("the file's EfficientAd was trained with padding, which edgead does not have", hint="train without it")
    if (followed.mean, followed.std) != ((0.0,) * 3, (255.0,) * 3):  # anomalib refuses to train so
        raise BadInput(
            "the file has the step Normalize before EfficientAd, which normalises by itself", hint="train without Normalize"
        )
    config: dict[str, Any] = {"size": "medium" if "teacher.conv6.weight" in state else "small"}
    if followed.size != (256, 256):
        config["last_kernel"] = int(state["ae.encoder.enconv6.weight"].shape[-1])
    if not hyper.get("pad_maps", True):
        config["pad_maps"] = False
    detector = EfficientAd(config, followed.size)
    wanted = detector.state_dict()
    weights = {name: tensor.float() for name, tensor in state.items() if name in wanted}
    if not weights["mean_std.std"].any():
        weights["mean_std.std"] = torch.ones_like(weights["mean_std.std"])
        assumptions.append("the file has no teacher statistics: the teacher is not normalised, as anomalib does then")
    if not any(float(weights[f"quantiles.{name}"]) for name in ("qa_st", "qb_st", "qa_ae", "qb_ae")):
        weights["quantiles.qb_st"] = weights["quantiles.qb_ae"] = torch.tensor(0.1)
        assumptions.append("the file has no quantiles: the maps are not normalised, as anomalib does then")
    load(detector, weights)
    return detector, f"EfficientAd {config['size']}, {px(followed.size)}"
