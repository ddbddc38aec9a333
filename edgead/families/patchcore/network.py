"""PatchCore (Roth et al. 2022): the distance of every patch to its nearest neighbour in a bank of good patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.families.patchcore.bank import rounded
from edgead.families.patchcore.coreset import nearest_rows
from edgead.families.patchcore.memory import BankMemory
from edgead.families.patchcore.rows import store_rows
from edgead.models.backbones import Backbone
from edgead.models.patches import LinearFeatures, PatchDetector, PatchFeatures, ToModelSize, build_features

_CELLS = 256
"""Patches that are compared with the bank at once: their distances to all rows stay in the processor's cache until the smallest
is taken. OpenVINO took 2 to 7 % less time (INT8, 1,536 rows, 256 and 448 px), up to a fifth less beside a process that uses
memory, too."""

_FLOOR = 0.01
"""Smallest distance told, as a share of the bank's radius: below it float32 cancellation would speak, not the patch."""


class PatchCore(PatchDetector):
    """Patch features p (C values each) against a bank of R rows m, all minus the bank's mean.

    ||p - m||^2 = ||p||^2 + (||m||^2 - 2 p m): the bracket is one matrix product with weight -2 m and bias ||m||^2, and its
    minimum over the R rows is the nearest neighbour. Rows come last: the same as a 1 x 1 convolution with a minimum over
    channels takes about twice the CPU time (OpenVINO 9.5 against 5.7 ms, ONNX Runtime 21.5 against 9.6, 2,048 rows).
    Distances are told in feature units, not squared.

    With ``top`` in the configuration the score is the mean of that share of the largest distances (at least one), as AnomalyDINO
    (Damm et al. 2025) tells it; with the tokens of a vision transformer and ``squared`` 1 that is AnomalyDINO.

    Config keys: ``backbone``, ``layers``, ``rows`` R, ``channels`` C, ``neighbours`` b of the score's re-weighting (1: none),
    ``nested``: the rows are in the order of a greedy coreset, so the first ones are the smaller coreset; ``features`` (see
    :func:`edgead.models.patches.build_features`). For imported models also ``normalize``, ``map`` (see
    :mod:`edgead.models.patches`) and ``squared``: k, which tells the mean of the k smallest squared distances in place of the
    distance, as the authors' code does.

    A compressed one (:mod:`edgead.families.patchcore.rewrites`) also has ``dims`` D: patches and rows are projected to D
    dimensions, each layer at its own resolution; and ``bank``: how rows are stored in the exported graph
    (:data:`edgead.families.patchcore.bank.BANKS`).
    Its weight holds rounded rows, and it has no table of neighbours, which would be larger than the rows: the neighbours of the
    one row that the score asks about are looked up.
    """

    family: ClassVar[str] = "patchcore"
    features: PatchFeatures | LinearFeatures
    centre: Tensor
    floor: Tensor
    neighbours: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int], backbone: Backbone | None = None) -> None:
        super().__init__(config, image_size)
        features = build_features(config, backbone, image_size)
        self.to_model_size = ToModelSize(config, features, image_size)
        rows, channels, b = int(config["rows"]), int(config["channels"]), int(config["neighbours"])
        self.features = LinearFeatures(features, int(config["dims"])) if "dims" in config else features
        self.product = nn.Linear(int(config.get("dims", channels)), rows)
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("floor", torch.zeros(()))
        if "bank" not in config:
            self.register_buffer("neighbours", torch.zeros(rows, b, dtype=torch.int64))

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> PatchCore:
        return cls(config, image_size)

    @classmethod
    def from_bank(
        cls,
        features: PatchFeatures | LinearFeatures,
        bank: Tensor,
        neighbours: int,
        image_size: tuple[int, int],
        extra: Mapping[str, Any] | None = None,
        floor: float = _FLOOR,
    ) -> PatchCore:
        """A detector with this bank.

        Args:
            features: with a loaded backbone; linear ones project to the D dimensions of the bank, about its mean.
            bank: float32 R x C (or R x D), rows of good patches.
            neighbours: b, at most R are used.
            image_size: (height, width).
            extra: further config keys; `features` must have been built by them.
            floor: smallest distance told, as a share of the bank's radius.
        """
        linear = isinstance(features, LinearFeatures)
        plain = features.features if isinstance(features, LinearFeatures) else features
        b = max(1, min(neighbours, len(bank)))
        config = {
            "backbone": features.backbone.name, "layers": list(features.backbone.layers),
            "rows": len(bank), "channels": plain.channels, "neighbours": b, "features": plain.recipe, **(extra or {}),
            **({"dims": bank.shape[1]} if linear else {}),
        }  # fmt: skip
        detector = cls(config, image_size, features.backbone)
        centre = torch.zeros(()) if linear else bank.mean(0)  # linear features are centred already
        weight = rounded(-2.0 * (bank - centre), config.get("bank", "fp32"))
        norms = (weight * 0.5).square().sum(1)
        with torch.no_grad():
            detector.features = features
            detector.centre.copy_(centre)
            detector.product.weight.copy_(weight)
            detector.product.bias.copy_(norms)
            detector.floor.copy_(floor**2 * norms.mean())
            if "bank" not in config:
                detector.neighbours.copy_(nearest_rows(bank, b))
        detector.requires_grad_(False)
        return detector.eval()

    def memory(self) -> BankMemory | None:
        return BankMemory(self.product) if isinstance(self.product, nn.Linear) else None

    def store(self, model: Any, name: str) -> None:
        if "bank" in self.config:
            store_rows(model, f"{name}.product.weight".lstrip("."), self.product.weight.detach(), self.config["bank"])

    def bank(self) -> Tensor:
        """The rows, minus their mean: float32 R x C (R x D when projected)."""
        return self.product.weight * -0.5

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(pixels)
        n, _, h, w = features.shape
        distance, score = self.judge(features.flatten(2).transpose(1, 2))
        return self.to_model_size(distance.view(n, h, w)), score

    def judge(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """What the bank says: features float32 N x P x C (N x P x D when projected) -> distance N x P and score N."""
        n, p, _ = patches.shape
        if "dims" not in self.config:  # else the projection did it
            patches = patches - self.centre
        nearest = torch.cat([self._nearest(part) for part in torch.split(patches.flatten(0, 1), _CELLS)])  # N P
        floor = self.floor
        if self.config.get("refine"):  # imported before 30 November 2026, without one
            floor = _FLOOR**2 * self.product.bias.mean()
        squared = torch.maximum(patches.square().sum(2) + nearest.view(n, p), floor)
        if "squared" in self.config:
            return squared, self._worst(squared)
        distance = squared.sqrt()
        return distance, self._score(patches, distance)

    def _nearest(self, patches: Tensor) -> Tensor:
        """Squared distances to the nearest row, less the patches' squared lengths: float32 P x C -> P."""
        products: Tensor = self.product(patches)
        k = int(self.config.get("squared", 1))
        return products.amin(1) if k == 1 else products.topk(k, 1, largest=False).values.mean(1)

    def _score(self, patches: Tensor, distance: Tensor) -> Tensor:
        """Equations 6 and 7: s = (1 - exp(s*) / sum over N_b(m*) of exp(||p* - m||)) s*, the worst patch being p*, its nearest
        row m*. The exponentials are taken after subtracting the largest exponent. s* is computed by subtraction, which is exact
        near zero and never INT8."""
        if int(self.config["neighbours"]) <= 1:
            return self._worst(distance)
        place = distance.argmax(1)  # N
        worst = patches.gather(1, place.view(-1, 1, 1).expand(-1, 1, patches.shape[2]))  # N x 1 x C
        nearest = self.product(worst.flatten(0, 1)).argmin(1)  # N
        around = self._rows(self._neighbours(nearest))  # N x b x C
        to_neighbours = (worst - around).square().sum(2).sqrt()  # N x b, m* first
        weight = 1.0 - to_neighbours.softmax(1)[:, 0]
        return weight * to_neighbours[:, 0]

    def _worst(self, distance: Tensor) -> Tensor:
        """The largest of each picture's distances N x P, or the mean of the ``top`` share of them: N."""
        count = max(1, int(float(self.config.get("top", 0.0)) * distance.shape[1]))
        return distance.amax(1) if count == 1 else distance.topk(count, 1).values.mean(1)

    def _rows(self, places: Tensor) -> Tensor:
        """Rows of the bank, minus its mean: int64 of any shape -> that shape x C. An embedding is exported as one Gather;
        indexing would leave a second copy of a small bank in the graph."""
        return F.embedding(places, self.product.weight) * -0.5

    def _neighbours(self, rows: Tensor) -> Tensor:
        """The b nearest rows of each of these, itself first: int64 N -> N x b."""
        if "bank" not in self.config:
            return self.neighbours.index_select(0, rows)
        products: Tensor = self.product(self._rows(rows))
        return products.topk(int(self.config["neighbours"]), 1, largest=False).indices
