"""Fit Gaussians (Defard et al. 2020, section 3): mean and covariance of the features of good pictures, added up one by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.gaussian.cells import Cells, grid_of
from edgead.families.gaussian.network import Gaussian
from edgead.families.gaussian.options import GaussianOptions
from edgead.families.patches import FINE_LAYERS
from edgead.models.rows import load_features, to_pixels

_BATCH = 8
_LEAST = 1e-12
"""Of the mean variance: pictures that are all the same have none."""

MOST_BYTES = 1 << 30
"""Of the whitening matrices: what an ONNX file holds (2 GB), with room."""


def fit(data: FitData, options: GaussianOptions) -> Gaussian:
    """Gaussians of good images. It tells the stage "features".

    Raises:
        BadInput: fewer than two pictures, places and channels that are too many for one file, or weights that do not load.
    """
    if len(data.images) < 2:
        raise BadInput("one good picture has no covariance", hint="give at least two; some twenty are a start")
    features = load_features(options.backbone, options.layers or FINE_LAYERS.get(options.backbone), options.weights, "paper")
    features.backbone.fix_size(data.size)
    grid = grid_of(features, data.size, options.cell)
    picked = picked_of(features.channels, options.channels, data.seed)
    cells = Cells(features, grid, picked).to(data.device)
    _refuse_large(cells.channels, grid, options)
    mean, whitening = estimated(cells, data, options)
    detector = Gaussian(config_of(cells, options, picked), data.size, features.to("cpu").backbone)
    detector.mean.copy_(mean)
    detector.whitening.copy_(whitening)
    detector.requires_grad_(False)
    return detector.eval()


def config_of(cells: Cells, options: GaussianOptions, picked: list[int] | None) -> dict[str, Any]:
    """The detector's configuration."""
    features = cells.features
    return {
        "backbone": features.backbone.name, "layers": list(features.backbone.layers), "features": features.recipe,
        "grid": list(cells.grid), "channels": cells.channels, "mean": options.means, "covariance": options.covariance,
        "score": options.score_by, **({} if picked is None else {"picked": picked}), **_smoothed(options.sigma),
    }  # fmt: skip


@torch.no_grad()
def estimated(cells: Callable[[Tensor], Tensor], data: FitData, options: GaussianOptions) -> tuple[Tensor, Tensor]:
    """Mean (d x P, d x 1 when shared) and whitening (P x d x d, d x d when shared) of what the cells of good pictures show.

    Sums are taken about the first picture's values, which are about as large as the others': little cancels.
    """
    own = options.covariance == "own"
    about = cells(to_pixels(data.images[:1]).to(data.device))[0].flatten(1)  # d x P
    d, places = about.shape
    if options.means == "shared":
        about = about.mean(1, keepdim=True)
    first = torch.zeros(d, places, dtype=torch.float64, device=data.device)
    second = torch.zeros(*([places] if own else []), d, d, dtype=torch.float64, device=data.device)
    for start in range(0, len(data.images), _BATCH):
        data.report("features", start / len(data.images))
        away = cells(to_pixels(data.images[start : start + _BATCH]).to(data.device)).flatten(2) - about  # B x d x P
        first += away.sum(0)
        columns = away.permute(2, 1, 0) if own else away.permute(1, 0, 2).flatten(1)  # P x d x B, or d x B P
        second += columns @ columns.transpose(-1, -2)
    n, mean = len(data.images), first / len(data.images)
    if own:
        covariance = (second - n * mean.T[:, :, None] * mean.T[:, None, :]) / (n - 1)
    elif options.means == "own":
        covariance = (second - n * mean @ mean.T) / ((n - 1) * places)
    else:
        mean = mean.mean(1, keepdim=True)
        covariance = (second - n * places * mean @ mean.T) / (n * places - 1)
    data.report("features", 1.0)
    return (mean + about).float().cpu(), _whitened(covariance, options.ridge).float().cpu()


def _whitened(covariance: Tensor, ridge: float) -> Tensor:
    """A with A^T A the inverse of the covariance and a ridge: float64 ... x d x d -> the same."""
    d = covariance.shape[-1]
    level = covariance.diagonal(dim1=-2, dim2=-1).mean().clamp_min(_LEAST)
    eye = torch.eye(d, dtype=covariance.dtype, device=covariance.device)
    lower = torch.linalg.cholesky(covariance + ridge * level * eye)
    found: Tensor = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False)
    return found


def picked_of(channels: int, wanted: int, seed: int) -> list[int] | None:
    """Channels that are taken, ascending; None: all."""
    if wanted == 0 or wanted >= channels:
        return None
    return sorted(torch.randperm(channels, generator=torch.Generator().manual_seed(seed), device="cpu")[:wanted].tolist())


def _smoothed(sigma: float) -> dict[str, Any]:
    """Config keys of a smoothed map, whose largest value is the score; none without."""
    if sigma == 0:
        return {}
    return {"whole": True, "map": {"upsample": "bilinear", "sigma": sigma, "radius": round(4 * sigma), "border": "reflect"}}


def _refuse_large(d: int, grid: tuple[int, int], options: GaussianOptions) -> None:
    """Raises BadInput: one ONNX file could not hold the covariances."""
    needed = 4 * d * d * math.prod(grid)
    if options.covariance == "own" and needed > MOST_BYTES:
        most = int(math.sqrt(MOST_BYTES / (4 * math.prod(grid))))
        raise BadInput(
            f"covariances of {d} channels at {grid[1]} x {grid[0]} places are {needed / 2**30:.1f} GiB, more than a file holds",
            hint=f"give --channels {most} or fewer, a larger --cell, or --covariance shared",
        )
