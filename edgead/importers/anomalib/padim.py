"""Padim in checkpoints of anomalib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.gaussian.network import Gaussian
from edgead.importers.anomalib.reading import State, backbone_of, normalization, px
from edgead.importers.model import ImportOptions
from edgead.importers.transforms import Followed
from edgead.importers.weights import TIMM_LITE, backbone_with, from_timm_lite
from edgead.models.detector import Detector
from edgead.models.patches import build_features

MARK, TITLE, NORMALIZED = "gaussian.inv_covariance", "Padim", True

SMOOTH = {"upsample": "bilinear", "sigma": 4.0, "radius": 16, "border": "reflect"}
LAYERS = ("layer1", "layer2", "layer3")


def build(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    """The detector of a checkpoint's weights and hyperparameters, and what it is in a few words. Raises BadInput."""
    told = {"layers": LAYERS, **hyper}
    name, layers = backbone_of(told if hyper.get("backbone") else {**told, "backbone": "resnet18"}, options, assumptions)
    if not (hyper.get("backbone") or options.backbone):
        assumptions.append("the file does not name its backbone: resnet18 assumed")
    prefix = "feature_extractor.feature_extractor."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if name in TIMM_LITE:
        name, layers = from_timm_lite(name, layers)
    backbone = backbone_with(name, layers, weights)
    config = {"backbone": name, "layers": list(layers), "features": {"kind": "raw"}, **normalization(followed, backbone)}
    features = build_features(config, backbone, followed.size)
    with torch.no_grad():
        grid = tuple(features(torch.zeros(1, 3, *followed.size)).shape[-2:])
    mean, whitening, picked = _gaussians(state, features.channels, grid)
    config |= {
        "grid": list(grid), "channels": len(picked), "picked": picked, "mean": "own", "covariance": "own", "score": "max",
        "whole": True, "map": SMOOTH,
    }  # fmt: skip
    detector = Gaussian(config, followed.size, backbone)
    detector.mean.copy_(mean)
    detector.whitening.copy_(whitening)
    return detector, f"Padim, {name} {'+'.join(layers)}, {len(picked)} channels, {px(followed.size)}"


def _gaussians(state: State, channels: int, grid: tuple[int, ...]) -> tuple[Tensor, Tensor, list[int]]:
    """Means d x P, whitening matrices P x d x d, and the channels that they are of, ascending. Raises BadInput."""
    index, mean, inverse = state.get("idx"), state.get("gaussian.mean"), state["gaussian.inv_covariance"]
    places = grid[0] * grid[1]
    d = 0 if index is None else index.numel()
    if index is None or mean is None or tuple(mean.shape) != (d, places) or tuple(inverse.shape) != (places, d, d) or d == 0:
        shapes = " and ".join("none" if one is None else " x ".join(map(str, one.shape)) for one in (mean, inverse))
        raise BadInput(
            f"the file's Gaussians ({shapes}) are not those of {d} channels at {grid[1]} x {grid[0]} places",
            hint="save the checkpoint after training has ended; if it was trained on other layers or another size, give --layers",
        )
    chosen = index.flatten().long()
    if bool((chosen < 0).any()) or bool((chosen >= channels).any()) or len(set(chosen.tolist())) < d:
        raise BadInput(f"the file's idx is not {d} different channels of {channels}", hint="it is damaged, or give --layers")
    order = chosen.argsort()
    sorted_inverse = inverse.double()[:, order][:, :, order]
    factor, failed = torch.linalg.cholesky_ex((sorted_inverse + sorted_inverse.transpose(1, 2)) * 0.5)
    if bool(failed.any()):
        raise BadInput("the file's inverse covariances are not positive", hint="it is damaged, or was trained on one picture")
    return mean.float()[order], factor.transpose(1, 2).float(), chosen[order].tolist()
