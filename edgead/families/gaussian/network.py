"""Gaussians of good features: PaDiM (Defard et al. 2020) with one for each place, or one that all places share (after Rippel et
al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgead.families.gaussian.cells import Cells
from edgead.models.backbones import Backbone
from edgead.models.parts.scores import reduced
from edgead.models.patches import PatchDetector, ToModelSize, build_features


class Gaussian(PatchDetector):
    """The Mahalanobis distance of each place's features f (d values) from good ones: |A (f - m)|, with A^T A the inverse of the
    covariance.

    The whitening A is a matrix for each place, P x d x d, which the graph multiplies as one batch, or one matrix for all. Neither
    becomes INT8: whitening makes the weakest directions the loudest, and the rounding with them (a shared one that was quantised
    moved scores by 0.15 of their deviation). The shared one stands on the left of its product, which says so to the writer.

    Config keys: ``backbone``, ``layers``, ``features``, ``grid`` (h, w), ``channels`` d, ``picked`` (the channels that are taken,
    when not all), ``mean`` and ``covariance`` ("own" or "shared"), ``score`` (:mod:`edgead.models.parts.scores`), ``whole``: the
    score is of the map at picture size, and ``normalize``, ``map`` (see :mod:`edgead.models.patches`).
    """

    family: ClassVar[str] = "gaussian"
    mean: Tensor
    whitening: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int], backbone: Backbone | None = None) -> None:
        super().__init__(config, image_size)
        grid, d = tuple(config["grid"]), int(config["channels"])
        self.features = Cells(build_features(config, backbone, image_size), grid, config.get("picked"))
        self.to_model_size = ToModelSize(config, self.features, image_size)
        places, own = grid[0] * grid[1], config["covariance"] == "own"
        self.register_buffer("mean", torch.zeros(d, places if config["mean"] == "own" else 1))
        self.register_buffer("whitening", torch.zeros(*([places] if own else []), d, d))

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> Gaussian:
        return cls(config, image_size)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(pixels)
        n, _, h, w = features.shape
        cells = self.distances(features.flatten(2)).view(n, h, w)
        whole = self.to_model_size(cells)
        return whole, reduced(whole if self.config.get("whole") else cells, self.config["score"])

    @property
    def enlarging(self) -> str:  # a score of the whole map would change with it
        return "" if self.config.get("whole") else super().enlarging

    def distances(self, features: Tensor) -> Tensor:
        """float32 N x d x P -> N x P."""
        away = features - self.mean
        if self.config["covariance"] == "shared":
            return torch.matmul(self.whitening, away).square().sum(1).sqrt()
        rows = away.permute(2, 0, 1)  # P x N x d
        return torch.matmul(rows, self.whitening.transpose(1, 2)).square().sum(2).sqrt().T
