"""anomalib's Lightning checkpoints (2.x; older files with stated assumptions). Each known model has a file beside this one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from edgead.bundle import Threshold
from edgead.errors import BadInput
from edgead.importers.anomalib import (
    draem,
    efficientad,
    fastflow,
    padim,
    patchcore,
    reverse_distillation,
    stfpm,
    supersimplenet,
)
from edgead.importers.anomalib.reading import State
from edgead.importers.model import Imported, ImportOptions, refuse_options
from edgead.importers.steps import Normalize, Resize, Step, read_steps, shown
from edgead.importers.transforms import Followed, follow
from edgead.importers.weights import check_numbers
from edgead.models.streams import Record
from edgead.models.wrappers.prepared import Scale

KINDS = (patchcore, efficientad, supersimplenet, stfpm, reverse_distillation, draem, padim, fastflow)
"""Each has `MARK`, how names of weights begin that only its checkpoints have, `TITLE`, what anomalib calls it, `NORMALIZED`,
whether it is trained on normalised pictures unless the file tells otherwise, and `build`."""

RECORDS = (
    "anomalib.", "torchvision.", "lightning.", "lightning_fabric.", "pytorch_lightning.", "torchmetrics.", "omegaconf.",
    "torch.nn.modules.", "pathlib.", "typing.Any", "torch.float32", "torch.float16",
)  # fmt: skip
"""Classes whose objects such files may hold beside the weights; they are kept as data."""

_IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def import_checkpoint(path: Path, checkpoint: Mapping[str, Any], options: ImportOptions) -> Imported:
    """A Lightning checkpoint of anomalib.

    Args:
        path: the file, for messages.
        checkpoint: what :func:`edgead.models.torchfile.read_torch_file` read with `RECORDS`.

    Raises:
        BadInput: not such a file, a model or backbone that edgead does not know, preprocessing that it cannot follow.
    """
    if not isinstance(checkpoint.get("state_dict"), dict):
        raise BadInput(f"{path} is no Lightning checkpoint: it has no state_dict", hint="give anomalib's model.ckpt")
    refuse_options(options, "a checkpoint that holds its backbone", "weights")
    everything = {str(k): v for k, v in checkpoint["state_dict"].items() if isinstance(v, Tensor)}
    state = {k.removeprefix("model."): v for k, v in everything.items() if k.startswith("model.")}
    check_numbers(path, state)
    told = checkpoint.get("hyper_parameters")
    hyper = told.items if isinstance(told, Record) else {} if told is None else told
    if not isinstance(hyper, dict):
        raise BadInput(f"{path} tells hyper_parameters {shown(hyper)}", hint="save the checkpoint with anomalib 1.0 or later")
    assumptions: list[str] = []
    kind = _kind(path, state)
    steps = read_preprocessing(checkpoint, hyper, kind.NORMALIZED, assumptions)
    followed = follow(steps, options)
    detector, source = kind.build(state, hyper, followed, options, assumptions)
    detector.requires_grad_(False)
    threshold = read_threshold(everything, checkpoint.get("anomalib_post_processor_config"), assumptions)
    _tell(steps, followed, options, assumptions)
    placed = followed.place(detector.eval())
    return Imported(
        placed, followed.recipe, threshold, f"anomalib {_version(checkpoint)} checkpoint: {source}", (path,), assumptions
    )


def read_preprocessing(
    checkpoint: Mapping[str, Any], hyper: Mapping[str, Any], normalizes: bool, assumptions: list[str]
) -> tuple[Step, ...]:
    """The preprocessing that a checkpoint tells, in any of the places where anomalib's versions put it.

    Args:
        normalizes: the model is trained on normalised pictures, unless the file tells otherwise.

    Raises:
        BadInput: it has a step that edgead does not have, or anomalib could not store it.
    """
    config, own = checkpoint.get("anomalib_pre_processor_config"), hyper.get("pre_processor")
    told: Any = config.get("transform") if isinstance(config, dict) else checkpoint.get("transform")
    if told is None and isinstance(own, Record):
        told = next(
            (found for name in ("transform", "test_transform", "val_transform") if (found := _attribute(own, name))), None
        )
    if told is not None:
        return read_steps(told)
    enabled = checkpoint.get("anomalib_components_enabled")
    without = own is False or (isinstance(enabled, dict) and enabled.get("pre_processor") is False)
    if isinstance(config, dict) or isinstance(own, Record) or without:
        raise BadInput(
            "the file does not hold the preprocessing of its model: "
            + ("it was trained without one" if without else "it is empty"),
            hint="train with a pre-processor of torchvision's Resize, CenterCrop and Normalize, or import anomalib's ONNX export",
        )
    normal = ", ImageNet normalisation" if normalizes else ""
    assumptions.append(f"the file does not tell its preprocessing: 256 x 256 px, antialias{normal} assumed")
    return (Resize((256, 256)), *([_IMAGENET] if normalizes else []))


def _tell(steps: Sequence[Step], followed: Followed, options: ImportOptions, assumptions: list[str]) -> None:
    """What edgead does otherwise than the trainer, or does where the user would not look for it."""
    shrinks = {step.antialias for step in steps if isinstance(step, Resize) and step.mode in ("bilinear", "bicubic")}
    if options.antialias is not None and shrinks - {options.antialias}:
        assumptions.append(
            f"resized with{'' if options.antialias else 'out'} antialias as asked for; the threshold was chosen "
            f"with{'out' if options.antialias else ''} it"
        )
    first = next((step for step in steps if not isinstance(step, Normalize)), None)
    if (first is None or (isinstance(first, Resize) and len(first.size) != 2)) and followed.recipe.crop_from is None:
        assumptions.append(
            f"the file keeps the pictures' own size or proportions: all are taken at {followed.recipe.width} x "
            f"{followed.recipe.height} px, so the camera's pictures must have these proportions"
        )
    if followed.inside:
        kinds = ", ".join("resize" if isinstance(step, Scale) else "crop or border" for step in followed.inside)
        assumptions.append(f"steps that the graph itself does, in float: {kinds}")


def _attribute(value: Any, name: str) -> Any:
    """An attribute of a recorded object, also of a torch module's registered ones."""
    state = value.state if isinstance(value, Record) and isinstance(value.state, dict) else {}
    modules = state.get("_modules")
    return state.get(name) or (modules.get(name) if isinstance(modules, dict) else None)


def read_threshold(state: State, config: Any, assumptions: list[str]) -> Threshold | None:
    """The raw score above which anomalib calls a part anomalous, as edgead's (at and above), or None when the file has none.

    anomalib compares (s - t) / (max - min) + 0.5 with 1 - sensitivity, so s with t + (max - min)(0.5 - sensitivity).
    """

    def number(*names: str) -> float:
        found = next((state[n] for n in names if n in state), None)
        return float("nan") if found is None or found.numel() != 1 else float(found)

    value, method = number("post_processor._image_threshold", "image_threshold.value"), "anomalib's image threshold"
    if math.isnan(value):
        value, method = number("post_processor._pixel_threshold", "pixel_threshold.value"), "anomalib's pixel threshold"
    low, high = (
        number(f"post_processor.image_{end}", f"normalization_metrics.{end}", f"normalization_metrics.image_{end}")
        for end in ("min", "max")
    )
    settings = config if isinstance(config, dict) else {}
    sensitivity = settings.get("image_sensitivity", 0.5)
    if type(sensitivity) not in (int, float) or not 0.0 <= sensitivity <= 1.0:
        raise BadInput(f"the file tells an image_sensitivity of {shown(sensitivity)}, not 0 to 1", hint="set it in anomalib")
    if config is None:
        assumptions.append("the file does not tell a sensitivity: 0.5 assumed")
    if not math.isfinite(value):
        return None
    if sensitivity != 0.5 and math.isfinite(low + high):
        value += (high - low) * (0.5 - sensitivity)
        method += f" at sensitivity {sensitivity:g}"
    above = np.nextafter(np.float32(value), np.float32(np.inf))  # anomalib: anomalous above, edgead: at and above
    return Threshold(float(above), method)


def _kind(path: Path, state: State) -> ModuleType:
    for kind in KINDS:
        if any(name.startswith(kind.MARK) for name in state):
            return kind
    first = ", ".join(sorted({name.split(".")[0] for name in state})[:4]) or "nothing"
    raise BadInput(
        f"{path} holds a model that edgead cannot rebuild (it has: {first})",
        hint=f"{', '.join(kind.TITLE for kind in KINDS)} are known; for others export ONNX in anomalib and import that",
    )


def _version(checkpoint: Mapping[str, Any]) -> str:
    told = checkpoint.get("anomalib_version")
    if isinstance(told, str) and told:
        return told[:20]
    return "2.7 or later" if "anomalib_pre_processor_config" in checkpoint else "1.x to 2.6"
