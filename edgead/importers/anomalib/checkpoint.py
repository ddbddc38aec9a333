"""anomalib's Lightning checkpoints: EfficientAd, Patchcore, Supersimplenet (2.x; older files with stated assumptions)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgead.bundle import Threshold
from edgead.errors import BadInput
from edgead.families.efficientad.network import EfficientAd
from edgead.families.patchcore.network import PatchCore
from edgead.families.supersimplenet.network import SuperSimpleNet
from edgead.importers.model import Imported, ImportOptions, refuse_options
from edgead.importers.steps import Normalize, Resize, Step, read_steps, shown
from edgead.importers.transforms import Followed, follow
from edgead.importers.weights import TIMM_LITE, backbone_with, check_layers, check_numbers, fold_norm, from_timm_lite
from edgead.models.backbones import Backbone
from edgead.models.detector import Detector
from edgead.models.patches import build_features
from edgead.models.separable import blur_matrix
from edgead.models.streams import Record
from edgead.models.wrappers.prepared import Scale

RECORDS = (
    "anomalib.", "torchvision.", "lightning.", "lightning_fabric.", "pytorch_lightning.", "torchmetrics.", "omegaconf.",
    "torch.nn.modules.", "pathlib.", "typing.Any", "torch.float32", "torch.float16",
)  # fmt: skip
"""Classes whose objects such files may hold beside the weights; they are kept as data."""

SMOOTH = {"upsample": "nearest", "sigma": 4.0, "radius": 16, "border": "reflect"}
_IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
State = dict[str, Tensor]


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
    build = _kind(path, state)
    steps = read_preprocessing(checkpoint, hyper, build is not _efficientad, assumptions)
    followed = follow(steps, options)
    detector, source = build(state, hyper, followed, options, assumptions)
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


def _normalization(followed: Followed, backbone: Backbone) -> dict[str, Any]:
    """The configuration of patch features for the file's normalisation; empty when it is the backbone's own."""
    told = {"mean": followed.mean, "std": followed.std}
    if all(np.allclose(getattr(backbone, name).flatten(), values, atol=1e-3) for name, values in told.items()):
        return {}
    return {"normalize": {name: list(values) for name, values in told.items()}}


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


def _kind(path: Path, state: State) -> Any:
    if "memory_bank" in state:
        return _patchcore
    if "student.conv1.weight" in state:
        return _efficientad
    if "segdec.cls_fc.weight" in state:
        return _supersimplenet
    first = ", ".join(sorted({name.split(".")[0] for name in state})[:4]) or "nothing"
    raise BadInput(
        f"{path} holds a model that edgead cannot rebuild (it has: {first})",
        hint="EfficientAd, Patchcore and Supersimplenet are known; for others export ONNX in anomalib and import that",
    )


def _efficientad(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    if hyper.get("padding"):
        raise BadInput("the file's EfficientAd was trained with padding, which edgead does not have", hint="train without it")
    if (followed.mean, followed.std) != ((0.0,) * 3, (255.0,) * 3):  # anomalib refuses to train so
        raise BadInput(
            "the file has the step Normalize before EfficientAd, which normalises by itself", hint="train without Normalize"
        )
    config: dict[str, Any] = {"size": "medium" if "teacher.conv6.weight" in state else "small"}
    if followed.size != (256, 256):
        config["last_kernel"] = int(state["ae.encoder.enconv6.weight"].shape[-1])
    if not hyper.get("pad_maps", True):
        config["pad_maps"] = False
    detector = EfficientAd(config, followed.size)
    wanted = detector.state_dict()
    weights = {name: tensor.float() for name, tensor in state.items() if name in wanted}
    if not weights["mean_std.std"].any():
        weights["mean_std.std"] = torch.ones_like(weights["mean_std.std"])
        assumptions.append("the file has no teacher statistics: the teacher is not normalised, as anomalib does then")
    if not any(float(weights[f"quantiles.{name}"]) for name in ("qa_st", "qb_st", "qa_ae", "qb_ae")):
        weights["quantiles.qb_st"] = weights["quantiles.qb_ae"] = torch.tensor(0.1)
        assumptions.append("the file has no quantiles: the maps are not normalised, as anomalib does then")
    load(detector, weights)
    return detector, f"EfficientAd {config['size']}, {_px(followed.size)}"


def _patchcore(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    name, layers = _backbone(hyper, options, assumptions)
    bank = state["memory_bank"].float()
    if bank.ndim != 2 or not len(bank):
        raise BadInput("the file's memory bank is empty", hint="save the checkpoint after training has ended")
    prefix = "feature_extractor.feature_extractor."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if name in TIMM_LITE:
        name, layers = from_timm_lite(name, layers)
    backbone = backbone_with(name, layers, weights)
    extra = {"features": {"kind": "zero_border"}, "map": SMOOTH, "refine": True, **_normalization(followed, backbone)}
    features = build_features({"backbone": name, "layers": list(layers), **extra}, backbone)
    if features.channels != bank.shape[1]:
        raise BadInput(
            f"the bank has {bank.shape[1]} channels, layers {', '.join(layers)} of {name} have {features.channels}",
            hint="give the layers it was trained with: --layers",
        )
    _check_blur(state, assumptions)
    neighbours = hyper.get("num_neighbors", 9)
    if type(neighbours) is not int or neighbours < 1:
        raise BadInput(f"the file tells num_neighbors {shown(neighbours)}, not a number from 1 up", hint="it is damaged")
    if _value(hyper.get("precision", "float32")) not in ("float32", None):
        assumptions.append("trained in half precision; computed in float32")
    detector = PatchCore.from_bank(features, bank, neighbours, followed.size, extra, floor=0.0)
    return detector, f"Patchcore, {name} {'+'.join(layers)}, {len(bank)} rows, {_px(followed.size)}"


def _supersimplenet(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    name, layers = _backbone(hyper, options, assumptions)
    if "adapt_cls_features" not in hyper:
        assumptions.append("the file does not tell adapt_cls_features: true assumed, as in the versions without that setting")
    prefix = "feature_extractor.feature_extractor.feature_extractor."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    backbone = backbone_with(name, layers, weights)
    config = {
        "backbone": name, "layers": list(layers), "channels": int(state["adaptor.projection.weight"].shape[0]),
        "adapt_score": bool(hyper.get("adapt_cls_features", True)), "features": {"kind": "doubled"},
        "map": {"upsample": "bilinear", "sigma": 4.0, "radius": 12, "border": "reflect"}, **_normalization(followed, backbone),
    }  # fmt: skip
    detector = SuperSimpleNet(config, followed.size, backbone)
    heads = {
        **{f"adaptor.{k}": state[f"adaptor.projection.{k}"] for k in ("weight", "bias")},
        **fold_norm(state, "segdec.seg_head.0", "segdec.seg_head.1", "hidden"),
        "anomaly.weight": state["segdec.seg_head.3.weight"],
        **fold_norm(state, "segdec.cls_conv.0", "segdec.cls_conv.1", "context"),
        **{f"verdict.{k}": state[f"segdec.cls_fc.{k}"] for k in ("weight", "bias")},
    }
    features = {f"features.{k}": v for k, v in detector.features.state_dict().items()}
    load(detector, {**features, **heads})
    return detector, f"Supersimplenet, {name} {'+'.join(layers)}, {_px(followed.size)}"


def load(detector: Detector, weights: Mapping[str, Tensor]) -> None:
    """Load all weights of a detector.

    Raises:
        BadInput: one is missing or of another shape.
    """
    try:
        detector.load_state_dict(dict(weights))
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise BadInput(f"the weights do not fit: {detail[:160]}", hint="the file is incomplete or of another version") from error


def _backbone(hyper: Mapping[str, Any], options: ImportOptions, assumptions: list[str]) -> tuple[str, tuple[str, ...]]:
    name = options.backbone or hyper.get("backbone")
    layers = options.layers or hyper.get("layers")
    if not name:
        name = "wide_resnet50_2"
        assumptions.append("the file does not name its backbone: wide_resnet50_2 assumed")
    if not layers:
        layers = ("layer2", "layer3")
        assumptions.append("the file does not name its layers: layer2, layer3 assumed")
    name = _value(name)
    if not isinstance(name, str) or not isinstance(layers, (list, tuple)):
        raise BadInput(f"the file tells backbone {shown(name)} and layers {shown(layers)}", hint="give --backbone and --layers")
    return name.split(".")[0], check_layers(layers)


def _check_blur(state: State, assumptions: list[str]) -> None:
    kernel = state.get("anomaly_map_generator.blur.kernel")
    if kernel is None:
        assumptions.append("the file has no blur kernel: sigma 4 assumed")
        return
    radius = int(SMOOTH["radius"])  # type: ignore[call-overload]
    line = blur_matrix(4 * radius + 3, float(SMOOTH["sigma"]), radius, "reflect")[2 * radius + 1]  # type: ignore[arg-type]
    line = line[radius + 1 : 3 * radius + 2]
    shape = (1, 1, len(line), len(line))
    if tuple(kernel.shape) != shape or not torch.allclose(kernel[0, 0], torch.outer(line, line), atol=1e-3):
        raise BadInput(
            "the file smooths its map with another kernel than sigma 4", hint="please report it with the anomalib version"
        )


def _value(value: Any) -> Any:
    """The value of a recorded enum."""
    return value.arguments[0] if isinstance(value, Record) and value.arguments else value


def _version(checkpoint: Mapping[str, Any]) -> str:
    told = checkpoint.get("anomalib_version")
    if isinstance(told, str) and told:
        return told[:20]
    return "2.7 or later" if "anomalib_pre_processor_config" in checkpoint else "1.x to 2.6"


def _px(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} px"
