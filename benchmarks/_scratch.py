"""Bundles for benchmarks in which only time and memory count: real networks on the real backbone, but never trained.

Weights of heads are random and banks are drawn, not chosen; a network's time and memory do not depend on either.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from edgead import trained
from edgead.bundle import Bundle
from edgead.calibration.judging.deviation import Limits
from edgead.calibration.judging.guard import GuardOptions
from edgead.export import ExportOptions, export_bundle
from edgead.families.efficientad.network import EfficientAd
from edgead.families.patchcore.network import PatchCore
from edgead.families.simplenet.network import SimpleNet
from edgead.manifest import Origin
from edgead.models.backbones import load_backbone
from edgead.models.detector import Detector
from edgead.models.patches import PatchFeatures
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.cameras.conveyor import draw_part
from edgead.thresholds.choose import threshold_from_good
from edgead.trained import ModelCard, Pictures
from edgead.types import Image

FAMILIES = ("patchcore", "simplenet", "efficientad")
ROWS, SIZE_PX, HIDDEN, FRAMES = 2048, 256, 1024, 8


def pictures(count: int, size_px: int, seed: int = 0) -> list[Image]:
    """Drawn good parts, size_px x size_px x 3 uint8 BGR."""
    return [draw_part(np.random.default_rng((seed, i)), size=(size_px, size_px))[0] for i in range(count)]


def detector_of(family: str, size_px: int = SIZE_PX, rows: int = ROWS) -> Detector:
    """A model of a family for pictures of size_px x size_px; `rows` of PatchCore's bank."""
    torch.manual_seed(0)
    size = (size_px, size_px)
    if family == "efficientad":
        return EfficientAd.build({"size": "small", "shared_trunk": True}, size)  # as `edgead train` does by default
    features = PatchFeatures(load_backbone())
    if family == "patchcore":
        return PatchCore.from_bank(features, torch.randn(rows, features.channels), 9, size)
    layers = list(features.backbone.layers)
    config = {"backbone": features.backbone.name, "layers": layers, "channels": features.channels, "hidden": HIDDEN}
    return SimpleNet(config, size, features.backbone)


def write_model(folder: Path, family: str, size_px: int = SIZE_PX, rows: int = ROWS) -> Path:
    """A folder like that of `edgead train`."""
    detector = detector_of(family, size_px, rows).requires_grad_(False).eval()
    scores = np.array([float(detector(torch.from_numpy(picture)[None])[1]) for picture in pictures(3, size_px)])
    card = ModelCard.of(
        detector, name=f"untrained {family} {size_px} px", preprocess=PreprocessRecipe(size_px, size_px),
        threshold=threshold_from_good(scores), origin=Origin("benchmarks", "0"),
    )  # fmt: skip
    trained.write_model(folder, detector, card, Pictures(pictures(FRAMES, size_px, 7), pictures(FRAMES, size_px, 11)))
    return folder


def write_bundle(
    folder: Path,
    family: str,
    size_px: int = SIZE_PX,
    rows: int = ROWS,
    backends: tuple[str, ...] | None = None,
    precisions: tuple[str, ...] = ("fp32", "int8"),
    frames: int = FRAMES,
) -> Bundle:
    """A bundle with the wanted engines of an untrained model, kept in `folder` and used again when it is there already.

    Args:
        frames: that each engine is measured on at export, and at most so many golden ones.
    """
    engines = "-".join((*(backends or ("all",)), *precisions, str(frames)))
    target = folder / f"{family}-{size_px}-{rows}-{engines}.edgead"
    if not target.exists():
        model = folder / f"{family}-{size_px}-{rows}"
        if not (model / "model.json").is_file():
            write_model(model, family, size_px, rows)
        wide = Limits(max_flips=1.0, max_auroc_drop=1.0, max_score_deviation=1e6)
        guard = GuardOptions(max_layers=0, sensitivity_s=1.0)
        options = ExportOptions(
            backends, precisions, limits=wide, guard=guard, frames_per_class=frames, calibration_count=frames, allow_unsafe=True
        )
        export_bundle(model, target, options)
    return Bundle.open(target)
