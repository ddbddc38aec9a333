"""A small bundle with a graph of its own: the score is the brightest value, the recipe looks at a part of the picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from edgead.bundle import EngineRecord, Manifest, Threshold, new_bundle, write_golden, write_manifest
from edgead.jobs.doctor.box import PROBE
from edgead.manifest import Origin
from edgead.measured import Measured, TrainedThreshold
from edgead.parity import Answers, ParityReport
from edgead.preprocess import PreprocessRecipe
from edgead.types import Image, TensorSpec

RECIPE = PreprocessRecipe(16, 16, roi=(40, 24, 64, 64))
NG_FROM = 200.0


def picture(seed: int, defect: bool) -> Image:
    """What the camera gives: 160 x 120 px, everywhere different; a defect is a white patch in the part that is looked at."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 180, (30, 40, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC).clip(0, 180)
    if defect:
        image[50:66, 60:76] = 210 + 4 * seed
    return np.ascontiguousarray(image, np.uint8)


def write_vouched(target: Path, **changes: object) -> Path:
    """Two good golden frames and two with defects, the first of each as the camera gave it, too.

    Args:
        changes: fields of the manifest.
    """
    pictures = [picture(i, i >= 2) for i in range(4)]
    frames = [RECIPE.apply(one) for one in pictures]
    maps = np.stack([frame.max(axis=2).astype(np.float32) for frame in frames])
    record = EngineRecord(
        "onnxruntime-fp32", "onnxruntime", "fp32", "model.onnx", Threshold(NG_FROM, "given"), ParityReport(4, 0.0, 0.0, 0.0, 0)
    )
    manifest = Manifest(
        name="vouched",
        family="patchcore",
        model={},
        origin=Origin(),
        preprocess=RECIPE,
        inputs=(TensorSpec("image", (1, 16, 16, 3), "uint8"),),
        outputs=(TensorSpec("anomaly_map", (1, 16, 16), "float32"), TensorSpec("score", (1,), "float32")),
        engines=(record,),
        default_engine=record.name,
        calibration=None,
        golden=4,
        measured=Measured(threshold=TrainedThreshold(NG_FROM, "given")),
        tools={},
        machine={},
        created_at="2026-01-01T00:00:00+00:00",
        golden_kinds=("good", "good", "defect", "defect"),
        golden_camera=(0, 2),
    )
    with new_bundle(target) as folder:
        (folder / "model.onnx").write_bytes(PROBE)
        camera = {i: cv2.imencode(".png", pictures[i])[1].tobytes() for i in (0, 2)}
        write_golden(folder, frames, Answers(maps.max(axis=(1, 2)), maps), camera)
        write_manifest(folder, dataclasses.replace(manifest, **changes))  # type: ignore[arg-type]
    return target
