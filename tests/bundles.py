"""Tiny trained models and their bundles, built once for the whole test run (see the fixtures in conftest.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgead.bundle import Bundle
from edgead.manifest import Origin, Threshold
from edgead.preprocess import PreprocessRecipe
from edgead.types import Image

if TYPE_CHECKING:
    from edgead.models.detector import Detector

FAMILIES = ("patchcore", "simplenet", "efficientad")
SIZES = {"patchcore": 64, "simplenet": 64, "efficientad": 128}


def part(seed: int, size: int, defect: bool = False) -> Image:
    """A drawn part: a grey disc on brushed metal, with a scratch when it is defective. size x size x 3 uint8 BGR."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size, 3), 90, np.float32) + rng.normal(0, 4, (size, 1, 1))
    centre = tuple(int(v) for v in size / 2 + rng.uniform(-2, 2, 2))
    cv2.circle(image, centre, size // 3, (150, 160, 170), -1, cv2.LINE_AA)
    if defect:
        ends = rng.integers(size // 4, 3 * size // 4, 4).tolist()
        cv2.line(image, tuple(ends[:2]), tuple(ends[2:]), (10, 20, 220), max(2, size // 24), cv2.LINE_AA)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def write_parts(folder: Path, seeds: range, size: int, defect: bool = False) -> None:
    folder.mkdir(parents=True)
    for i, seed in enumerate(seeds):
        cv2.imwrite(str(folder / f"{i:04d}.png"), part(seed, size, defect))


def train_tiny(folder: Path, family: str) -> Path:
    """A folder like that of `edgead train`, with labelled pictures under ``labelled/``; real backbone, hardly trained."""
    import torch

    from edgead.families.efficientad.network import EfficientAd
    from edgead.families.patchcore.network import PatchCore
    from edgead.families.simplenet.network import SimpleNet
    from edgead.models.rows import load_features
    from edgead.thresholds.choose import threshold_from_good

    torch.manual_seed(0)
    size = SIZES[family]
    pictures = [torch.from_numpy(part(seed, size))[None] for seed in range(8)]
    detector: Detector
    if family == "efficientad":
        detector = EfficientAd.build({"size": "small"}, (size, size))
    else:
        features = load_features("efficientnet_lite0", None, None)
        if family == "patchcore":
            with torch.no_grad():
                rows = torch.cat([features(p.permute(0, 3, 1, 2).flip(1).float())[0].flatten(1).T for p in pictures])
            detector = PatchCore.from_bank(features, rows[torch.randperm(len(rows))[:64]], 3, (size, size))
        else:
            config = {
                "backbone": "efficientnet_lite0",
                "layers": list(features.backbone.layers),
                "channels": features.channels,
                "hidden": 32,
                "features": features.recipe,
            }
            detector = SimpleNet(config, (size, size), features.backbone)
    detector.requires_grad_(False).eval()
    write_parts(folder / "heldout", range(100, 112), size)
    write_parts(folder / "calibration", range(8), size)
    write_parts(folder / "labelled/test/good", range(200, 208), size)
    write_parts(folder / "labelled/test/scratch", range(300, 308), size, defect=True)
    scores = [float(detector(torch.from_numpy(part(seed, size))[None])[1]) for seed in range(100, 112)]
    saved(folder, detector, f"tiny {family}", threshold_from_good(np.array(scores)), str(folder / "labelled"))
    return folder


def saved(
    folder: Path, detector: Detector, name: str = "part", threshold: Threshold | None = None, labelled_root: str | None = None
) -> None:
    """Weights and card of a model, without pictures."""
    from edgead.trained import ModelCard, write_model

    card = ModelCard.of(
        detector, name=name, preprocess=PreprocessRecipe(*detector.image_size[::-1]), labelled_root=labelled_root,
        threshold=threshold or Threshold(1.0, "tests"), origin=Origin("tests", "0", "2026-11-22T00:00:00+00:00"),
    )  # fmt: skip
    write_model(folder, detector, card)


def export_tiny(model_dir: Path, target: Path) -> Bundle:
    """All engines of a tiny model. Its scores hardly separate anything, so labels may flip."""
    from edgead.calibration.judging.deviation import Limits
    from edgead.calibration.judging.guard import GuardOptions
    from edgead.export import ExportOptions, export_bundle

    wide = Limits(max_flips=1.0, max_auroc_drop=1.0, max_score_deviation=1e6)
    quick = GuardOptions(sensitivity_s=1.0)
    options = ExportOptions(limits=wide, guard=quick, frames_per_class=6, calibration_count=8, allow_unsafe=True, threads=1)
    return export_bundle(model_dir, target, options)


def built_here(bundle: Path, folder: Path, backend: str, precisions: tuple[str, ...] = ("fp32", "fp16", "int8")) -> Bundle:
    """A copy of a bundle with engines of ``"tensorrt"`` or ``"tensorrt-rtx"``, built and proved on this machine's GPU."""
    import shutil

    from edgead.export.on_device import build_on_device

    copy = Path(shutil.copytree(bundle, folder / bundle.name))
    build_on_device(copy, backend, precisions)
    return Bundle.open(copy)


class Tiny:
    """Trained models and bundles by family, made on demand and kept for the session; treat them as read-only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def model(self, family: str = "patchcore") -> Path:
        return self._once(self._folder / family, lambda folder: train_tiny(folder, family))

    def bundle(self, family: str = "patchcore") -> Path:
        return self._once(self._folder / f"{family}.edgead", lambda target: export_tiny(self.model(family), target).path)

    @staticmethod
    def _once(path: Path, make: Callable[[Path], Path]) -> Path:
        if not path.exists():
            make(path)
        return path
