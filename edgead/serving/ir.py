"""A bundle as one OpenVINO IR that takes the camera's picture: for OpenVINO Model API, DL Streamer and OpenVINO Model Server."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgead.bundle import Bundle, EngineRecord
from edgead.decision import tells_no_map
from edgead.engines.camera_graph import EXACT, CameraGraph, camera_labels, write_camera_ir
from edgead.errors import BadInput, ParityFailed
from edgead.jobs.score import Judge
from edgead.types import Verdict

LABELS = ("Normal", "Anomaly")
_CLOSE = 1e-3
"""Of a normalised score, between the graph and the engine it was made of."""


def camera_graph(bundle: Bundle, record: EngineRecord, frame: tuple[int, int] | None) -> CameraGraph:
    """What the graph must do besides the engine's own.

    Args:
        frame: width, height of the camera's pictures; None: those that the model was trained on.

    Raises:
        BadInput: recipe, rule or engine cannot be expressed in such a graph; it says which.
    """
    recipe, rule = bundle.manifest.preprocess, record.threshold.rule
    use = "edgead serve, or --for triton or kserve, keep it"
    if record.backend != "openvino" or not record.file.endswith(".xml"):
        raise BadInput(f"engine {record.name} is no OpenVINO IR", hint="--engine openvino-fp32, or another that is")
    refusals = (
        (recipe.align is not None, "a recipe that finds the part and aligns it"),
        (recipe.crop_from is not None, "a recipe that cuts its input from a resized picture"),
        (recipe.resize not in ("box", "linear"), f"the resize rule {recipe.resize!r}"),
        (rule.pixel is not None, "a rule by area or with regions"),
        (rule.unknown_band is not None, "an UNKNOWN band: Model API knows two labels"),
        (tells_no_map(_map_shape(bundle)), "an engine that tells no map"),
    )
    for wrong, what in refusals:
        if wrong:
            raise BadInput(f"{bundle.path}: such a graph cannot hold {what}", hint=use)
    if (size := frame or recipe.pictures) is None:
        raise BadInput(f"{bundle.path} does not say how large the camera's pictures are", hint="give --frame WxH, e.g. 1920x1080")
    recipe.check_size(*size)
    part = recipe.inspected(*size)
    x, y, w, h = recipe.window(*size)
    wide, high = round(recipe.width * part[2] / w), round(recipe.height * part[3] / h)
    placed = wide, high, round((part[0] - x) * wide / part[2]), round((part[1] - y) * high / part[3])
    information = {
        "model_type": "AnomalyDetection", "task": "segmentation", "labels": " ".join(LABELS), "image_threshold": "0.5",
        "pixel_threshold": "0.5", "normalization_scale": "1.0", "embedded_processing": "True", "orig_width": str(size[0]),
        "orig_height": str(size[1]), "resize_type": "standard", "reverse_input_channels": "False",
    }  # fmt: skip
    return CameraGraph(size, part, placed, recipe.resize == "box", rule.threshold, information)


def write_ir_files(
    folder: Path, bundle: Bundle, record: EngineRecord, frame: tuple[int, int] | None, threads: int | None
) -> None:
    """Write model.xml and model.bin, and prove them: the golden frames, as the camera would give them, have the same labels and
    scores as by the engine.

    Raises:
        BadInput: as :func:`camera_graph`.
        ParityFailed: they have not.
        MissingExtra, EngineError, OSError: it cannot be written or run here.
    """
    graph = camera_graph(bundle, record, frame)
    write_camera_ir(bundle.path / record.file, folder / "model.xml", graph)
    recipe = bundle.manifest.preprocess
    images = bundle.golden().images
    pictures = [recipe.as_camera(image, *graph.frame) for image in images]
    with Judge.open(bundle.path, record.name, threads=threads) as judge:
        expected = [judge(picture) for picture in pictures]
    scale = 2 * max(abs(graph.threshold), 1e-6)
    for own, (anomaly, score) in zip(expected, camera_labels(folder / "model.xml", pictures), strict=True):
        wanted = float(np.clip(0.5 + (own.score - graph.threshold) / scale, 0, 1))
        if own.verdict is not (Verdict.NG if anomaly else Verdict.OK) or abs(score - wanted) > _CLOSE:
            raise ParityFailed(
                f"the graph made of engine {record.name} does not answer as the engine: {LABELS[anomaly]} {score:.4g} "
                f"instead of {own.verdict.value} {wanted:.4g}",
                hint="edgead verify tells whether the engine itself answers here as the trained model did",
            )


def server_config(name: str) -> str:
    """config.json of OpenVINO Model Server, with the repository mounted at /models."""
    plugin = {key: str(value) for key, value in EXACT.items()}
    one = {"name": name, "base_path": f"/models/{name}", "plugin_config": plugin}
    return json.dumps({"model_config_list": [{"config": one}]}, indent=1) + "\n"


def _map_shape(bundle: Bundle) -> tuple[int, ...]:
    return next(one.shape for one in bundle.manifest.outputs if one.name == "anomaly_map")[-2:]
