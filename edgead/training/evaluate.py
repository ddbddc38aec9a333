"""A detector's answers on good and labelled images, and the figures made of them."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from edgead.calibration.judging.defects import draw_defects
from edgead.layout import labelled
from edgead.models.detector import Detector
from edgead.models.learning.progress import Progress, silent
from edgead.preprocess import PreprocessRecipe, frame_digest
from edgead.training.dataset import Mask, load_labelled
from edgead.training.metrics import auroc, brightness_auroc, pixel_auroc, pro
from edgead.types import AnomalyMap, Image

MAX_PIXELS = 8_000_000
"""Pixel AUROC and PRO look at every k-th pixel of each row and column, with the smallest k that keeps to so many."""

DRAWN = 24
"""Defects drawn when nobody has a labelled one: every kind at every strength twice."""


@torch.no_grad()
def answers(detector: Detector, image: Image) -> tuple[float, AnomalyMap]:
    """Score and map (H x W float32), raw model units, of one H x W x 3 uint8 BGR image at model size."""
    anomaly_map, score = detector(torch.from_numpy(image)[None])
    return float(score[0]), anomaly_map[0].numpy()


def good_scores(detector: Detector, images: Sequence[Image]) -> npt.NDArray[np.float64]:
    """Scores of these images, float64 N."""
    return np.array([answers(detector, image)[0] for image in images])


def light_of(images: Sequence[Image]) -> dict[str, float]:
    """How bright good pictures (H x W x 3 uint8 BGR at model size) are, for the line to compare with: the median of their mean
    grey levels, the spread of the logarithms (1.4826 times the median distance from the median, at least half a per cent), and
    how many they are."""
    levels = np.log([max(float(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).mean()), 1.0) for image in images])
    middle = float(np.median(levels))
    spread = max(1.4826 * float(np.median(np.abs(levels - middle))), 0.005)
    return {"light": math.exp(middle), "light_spread": spread, "light_pictures": float(len(images))}


def evaluate(
    detector: Detector,
    root: Path,
    recipe: PreprocessRecipe,
    good: Sequence[Image],
    threshold: float,
    progress: Progress = silent,
    without: float | None = None,
    trained_on: Container[str] = (),
) -> dict[str, float]:
    """Figures on the labelled images of an MVTec root; what cannot be measured (no defects, no masks) is left out.

    Args:
        detector: trained.
        root: with ``test/`` and perhaps ``ground_truth/``.
        recipe: from file to model input.
        good: training frames, for the brightness baseline.
        threshold: raw model units.
        progress: told the stage "evaluating".
        without: another threshold, for ``caught_without``.
        trained_on: digests (:func:`edgead.preprocess.frame_digest`) of frames of the training, which say nothing here.

    Returns:
        ``test_good``, ``test_defects`` (counts), ``test_trained_on`` (left out for that, if any), ``image_auroc``,
        ``brightness_auroc``, ``caught`` (share of defects at or above the threshold), ``rejected`` (share of good ones), and
        where there are masks ``pixel_auroc`` and ``pro``.

    Raises:
        BadInput: an image or mask cannot be used; the message names it.
    """
    files = labelled(root).files
    stride = max(1, math.ceil(math.sqrt(len(files) * recipe.width * recipe.height / MAX_PIXELS)))
    labels: list[bool] = []
    scores: list[float] = []
    images: list[Image] = []
    masks: list[Mask] = []
    maps: list[AnomalyMap] = []
    known = 0
    for i, item in enumerate(load_labelled(files, recipe)):
        progress("evaluating", (i + 1) / len(files))
        if trained_on and frame_digest(item.image) in trained_on:
            known += 1
            continue
        score, anomaly_map = answers(detector, item.image)
        labels.append(item.defect)
        scores.append(score)
        images.append(item.image[::8, ::8])
        if item.mask is not None:
            masks.append(item.mask[::stride, ::stride])
            maps.append(anomaly_map[::stride, ::stride].copy())
    if not labels:
        return {"test_trained_on": float(known)} if known else {}
    truth, values = np.array(labels, bool), np.array(scores)
    figures = {
        "test_good": float((~truth).sum()),
        "test_defects": float(truth.sum()),
        "image_auroc": auroc(truth, values),
        "brightness_auroc": brightness_auroc(truth, images, [g[::8, ::8] for g in good]),
        "caught": float(np.mean(values[truth] >= threshold)) if truth.any() else math.nan,
        "rejected": float(np.mean(values[~truth] >= threshold)) if not truth.all() else math.nan,
    }
    if known:
        figures["test_trained_on"] = float(known)
    if without is not None and truth.any():
        figures["caught_without"] = float(np.mean(values[truth] >= without))
    if any(bool(mask.any()) for mask in masks):
        figures |= {"pixel_auroc": pixel_auroc(masks, maps), "pro": pro(masks, maps)}
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def evaluate_drawn(
    detector: Detector,
    good: Sequence[Image],
    scores: npt.NDArray[np.float64],
    threshold: float,
    without: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, float]:
    """Figures on defects drawn onto good images that the model was not trained on, for when nobody has a labelled one.

    Args:
        good: at model size.
        scores: of good pictures by models that have not seen them.
        threshold, without: raw model units; see :func:`evaluate`.
        seed: of what is drawn.
        progress: told the stage "drawn defects".

    Returns:
        ``drawn_count``, ``drawn_auroc``, ``drawn_caught`` and, with `without`, ``drawn_caught_without``.
    """
    drawn = draw_defects(good, DRAWN, seed)
    found = []
    for i, defect in enumerate(drawn):
        found.append(answers(detector, defect.image)[0])
        progress("drawn defects", (i + 1) / len(drawn))
    values = np.array(found)
    truth = np.arange(len(scores) + len(values)) >= len(scores)
    figures = {
        "drawn_count": float(len(values)),
        "drawn_auroc": auroc(truth, np.concatenate([scores, values])),
        "drawn_caught": float(np.mean(values >= threshold)),
    }
    return figures | ({} if without is None else {"drawn_caught_without": float(np.mean(values >= without))})
