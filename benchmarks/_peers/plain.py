"""The trained models as other tools run them: plain graphs of the same weights, with pre- and post-processing inside the graph.

The structure is that of anomalib 2.7 (read, not copied): input float32 RGB 0 to 1, resized without antialias inside the graph
when its size differs, the paper's operators one after the other, then scores and maps shifted and scaled to 0..1 around an F1
threshold, label and mask. EfficientAD runs teacher, student and autoencoder separately; PatchCore computes every distance to
every row, with its square root, and smooths the map with a 33 x 33 Gaussian. There is no SimpleNet in anomalib: it gets the
same treatment.

Differences, none of which slows the peer down: the batch is 1; PatchCore's 3 x 3 means leave out cells beyond the border, as the
bank's were made; batch norms are folded already.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.detector import Detector
from edgead.models.efficientad import EfficientAd
from edgead.models.patchcore import PatchCore
from edgead.models.patches import PatchFeatures
from edgead.models.pdn import TEACHER_CHANNELS, pad_map
from edgead.models.simplenet import LEAK, SimpleNet

SIGMA = 4
OUTPUTS = ("pred_score", "pred_label", "anomaly_map", "pred_mask")


@dataclass(frozen=True, slots=True)
class Levels:
    """What post-processing knows of raw scores (`low`, `high`, `threshold`) and of raw maps (`map_low`, `map_high`)."""

    low: float = 0.0
    high: float = 1.0
    threshold: float = 0.5
    map_low: float = 0.0
    map_high: float = 1.0


class PlainEfficientAd(nn.Module):
    """Teacher, student and autoencoder side by side, each with its own normalisation."""

    def __init__(self, detector: EfficientAd) -> None:
        super().__init__()
        self.teacher, self.student, self.ae = detector.teacher, detector.student, detector.ae
        self.mean_std, self.quantiles = detector.mean_std, detector.quantiles
        self.mean, self.std, self.image_size = detector.mean / 255.0, detector.std / 255.0, detector.image_size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        teacher = (self.teacher((x - self.mean) / self.std) - self.mean_std.mean) / self.mean_std.std
        student = self.student((x - self.mean) / self.std)
        map_st = torch.pow(teacher - student[:, :TEACHER_CHANNELS], 2).mean(1, keepdim=True)
        foreseen = self.ae((x - self.mean) / self.std)
        map_ae = torch.pow(foreseen - student[:, TEACHER_CHANNELS:], 2).mean(1, keepdim=True)
        map_st, map_ae = (
            F.interpolate(pad_map(one), self.image_size, mode="bilinear", align_corners=False) for one in (map_st, map_ae)
        )
        q = self.quantiles
        map_st = 0.1 * (map_st - q.qa_st) / (q.qb_st - q.qa_st)
        map_ae = 0.1 * (map_ae - q.qa_ae) / (q.qb_ae - q.qa_ae)
        anomaly_map = 0.5 * map_st + 0.5 * map_ae
        return anomaly_map.amax((-3, -2, -1)), anomaly_map


class PlainPatchCore(nn.Module):
    """All distances as a matrix, nearest rows, the paper's re-weighting by a second search, a blurred map."""

    bank: Tensor

    def __init__(self, detector: PatchCore) -> None:
        super().__init__()
        assert isinstance(detector.features, PatchFeatures)
        self.features, self.image_size = unit_features(detector.features), detector.image_size
        self.register_buffer("bank", detector.bank() + detector.centre)
        self.neighbours = int(detector.config["neighbours"])
        self.blur = Blur()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.features(x)
        h, w = embedding.shape[-2:]
        patches = embedding.permute(0, 2, 3, 1).reshape(h * w, -1)
        distance, nearest = _distances(patches, self.bank).min(1)
        score, worst = distance.max(0, keepdim=True)
        if self.neighbours > 1:
            sample = self.bank[nearest[worst]]
            _, around = _distances(sample, self.bank).topk(self.neighbours, largest=False, dim=1)
            to_neighbours = _distances(patches[worst], self.bank[around[0]])
            score = (1 - F.softmax(to_neighbours, 1))[:, 0] * score
        return score, self.blur(F.interpolate(distance.reshape(1, 1, h, w), self.image_size))


class PlainSimpleNet(nn.Module):
    """Features, two 1 x 1 convolutions, a blurred map."""

    def __init__(self, detector: SimpleNet) -> None:
        super().__init__()
        assert isinstance(detector.features, PatchFeatures)
        self.features, self.image_size = unit_features(detector.features), detector.image_size
        self.hidden, self.anomaly, self.blur = detector.hidden, detector.anomaly, Blur()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        patch_map = self.anomaly(F.leaky_relu(self.hidden(self.features(x)), LEAK))
        return patch_map.amax((-3, -2, -1)), self.blur(F.interpolate(patch_map, self.image_size))


class Blur(nn.Module):
    """A Gaussian of sigma 4 as one 33 x 33 convolution with reflected borders."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.radius = int(4.0 * SIGMA + 0.5)
        line = torch.exp(-0.5 * (torch.arange(-self.radius, self.radius + 1) / SIGMA) ** 2)
        plane = line[:, None] * line[None]
        self.register_buffer("kernel", (plane / plane.sum())[None, None])

    def forward(self, anomaly_map: Tensor) -> Tensor:
        return F.conv2d(F.pad(anomaly_map, (self.radius,) * 4, mode="reflect"), self.kernel)


class Peer(nn.Module):
    """Resize -> model -> scaled score, label, scaled map, mask; float32 1 x 3 x H x W RGB 0 to 1 in."""

    def __init__(self, model: nn.Module, image_size: tuple[int, int], levels: Levels, resize: bool) -> None:
        super().__init__()
        self.model, self.image_size, self.levels, self.resize = model, image_size, levels, resize

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if self.resize:
            x = F.interpolate(x, self.image_size, mode="bilinear", align_corners=False)
        score, anomaly_map = self.model(x)
        to = self.levels
        score = ((score - to.threshold) / (to.high - to.low) + 0.5).clamp(0, 1)
        anomaly_map = ((anomaly_map - to.threshold) / (to.map_high - to.map_low) + 0.5).clamp(0, 1)
        return score, score > 0.5, anomaly_map, anomaly_map > 0.5


def plain(detector: Detector) -> nn.Module:
    """The plain model: float32 1 x 3 x H x W RGB 0 to 1 at model size -> raw score 1 and raw map 1 x 1 x H x W."""
    kinds = {EfficientAd: PlainEfficientAd, PatchCore: PlainPatchCore, SimpleNet: PlainSimpleNet}
    model: nn.Module = kinds[type(detector)](detector)
    return model.eval().requires_grad_(False)


def unit_features(features: PatchFeatures) -> PatchFeatures:
    """The same patch features of pixels from 0 to 1 instead of 0 to 255."""
    copied = copy.deepcopy(features)
    copied.backbone.mean.div_(255.0)
    copied.backbone.std.div_(255.0)
    return copied


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances of all rows: one product, then norms, clamp and square root over the whole matrix."""
    squared = -2 * torch.matmul(x, y.transpose(-2, -1)) + x.pow(2).sum(-1, keepdim=True) + y.pow(2).sum(-1, keepdim=True).T
    return squared.clamp_min(0).sqrt()
