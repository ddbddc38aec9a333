"""EfficientAD without the sharing that edgead trains by: what counts as the work to be done."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.families.efficientad.network import EfficientAd
from edgead.families.efficientad.pdn import TEACHER_CHANNELS, pad_map


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
