"""How well anomalies are told from good: image AUROC, pixel AUROC, PRO, and what brightness alone would reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgead.optional import require
from edgead.training.dataset import Mask
from edgead.types import AnomalyMap, Image

FloatArray = npt.NDArray[np.floating[Any]]


def auroc(labels: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
    """Area under the ROC curve; NaN when only one class is there.

    Args:
        labels: N, truthy for defects.
        scores: N, larger is more anomalous.
    """
    labels = np.asarray(labels).astype(bool).ravel()
    if labels.all() or not labels.any():
        return float("nan")
    metrics = require("sklearn.metrics", extra="train", why="Measuring AUROC")
    return float(metrics.roc_auc_score(labels, np.asarray(scores).ravel()))


def pixel_auroc(masks: Sequence[Mask], maps: Sequence[AnomalyMap]) -> float:
    """AUROC over all pixels of all images: masks and maps H x W each. NaN without a defect pixel."""
    return auroc(np.stack(masks), np.stack(maps))


def pro(masks: Sequence[Mask], maps: Sequence[AnomalyMap], fpr_limit: float = 0.3) -> float:
    """Per-region overlap (Bergmann et al. 2020): the mean share of each defect region that is found, integrated over the
    false positive rate of good pixels from 0 to `fpr_limit` and divided by it. Regions are 8-connected.

    Args:
        masks: H x W each.
        maps: H x W each, larger is more anomalous.
        fpr_limit: where the integration ends.

    Returns:
        0 to 1; NaN without a region or without good pixels.
    """
    good_values: list[FloatArray] = []
    region_values: list[FloatArray] = []
    region_weights: list[FloatArray] = []
    regions = 0
    for mask, anomaly_map in zip(masks, maps, strict=True):
        good_values.append(anomaly_map[~mask])
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += count - 1
        sizes = np.bincount(labels.ravel())
        region_values.append(anomaly_map[mask])
        region_weights.append(1.0 / sizes[labels[mask]])
    good = np.sort(np.concatenate(good_values))[::-1]
    if regions == 0 or good.size == 0:
        return float("nan")
    values, weights = np.concatenate(region_values), np.concatenate(region_weights) / regions
    order = np.argsort(-values, kind="stable")
    values, overlap = values[order], np.cumsum(weights[order])
    # One point of the curve for each distinct value: all pixels at or above it are called defects.
    thresholds = np.unique(np.concatenate([values, good]))[::-1]
    found = np.searchsorted(-values, -thresholds, side="right")
    tpr = np.concatenate([[0.0], np.concatenate([[0.0], overlap])[found]])
    fpr = np.concatenate([[0.0], np.searchsorted(-good, -thresholds, side="right") / good.size])
    inside = fpr <= fpr_limit
    end = float(np.interp(fpr_limit, fpr, tpr))
    x, y = np.append(fpr[inside], fpr_limit), np.append(tpr[inside], end)
    return float(np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2) / fpr_limit)


def brightness_auroc(labels: npt.NDArray[Any], images: Sequence[Image], good: Sequence[Image]) -> float:
    """What the mean brightness alone reaches, the baseline to beat: the better of "darker or brighter than" and "away from
    the good images' median".

    Args:
        labels: N, truthy for defects.
        images: N frames, H x W x 3 uint8.
        good: frames of the training part.
    """
    means = np.array([float(image.mean()) for image in images])
    centre = float(np.median([float(image.mean()) for image in good]))
    one_sided = auroc(labels, means)
    return max(one_sided, 1.0 - one_sided, auroc(labels, np.abs(means - centre)))
