"""anomalib's Lightning checkpoints: EfficientAd, Patchcore, Supersimplenet (2.x; older files with stated assumptions)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgead.bundle import Threshold
from edgead.errors import BadInput
from edgead.importers.model import Imported, ImportOptions, place, recipe_for
from edgead.importers.streams import Record
from edgead.importers.weights import TIMM_LITE0, backbone_with, fold_norm, from_timm_lite0
from edgead.models.backbones import TORCHVISION_MEAN, TORCHVISION_STD
from edgead.models.detector import Detector
from edgead.models.efficientad import EfficientAd
from edgead.models.patchcore import PatchCore
from edgead.models.patches import build_features
from edgead.models.separable import blur_matrix
from edgead.models.supersimplenet import SuperSimpleNet

RECORDS = (
    "anomalib.", "torchvision.", "lightning.", "lightning_fabric.", "pytorch_lightning.", "torchmetrics.", "omegaconf.",
    "torch.nn.modules.", "pathlib.", "typing.Any", "torch.float32", "torch.float16",
)  # fmt: skip
"""Classes whose objects such files may hold beside the weights; they are kept as data."""

SMOOTH = {"upsample": "nearest", "sigma": 4.0, "radius": 16, "border": "reflect"}
_IGNORED = frozenset({"ToImage", "ToDtype", "ConvertImageDtype", "ToTensor", "ToPureTensor", "Identity"})
State = dict[str, Tensor]


@dataclass(slots=True)
class Transform:
    """The file's preprocessing: model input (height, width), size before a centre crop (width, height; 0: keeps proportions),
    antialias, and normalisation of RGB 0 to 255."""

    size: tuple[int, int] = (256, 256)
    crop_from: tuple[int, int] | None = None
    antialias: bool = True
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (255.0, 255.0, 255.0)

    def config(self) -> dict[str, Any]:
        """The configuration of patch features for this normalisation; empty for ImageNet's, which backbones have themselves."""
        usual = np.allclose(self.mean, TORCHVISION_MEAN, atol=1e-3) and np.allclose(self.std, TORCHVISION_STD, atol=1e-3)
        return {} if usual else {"normalize": {"mean": list(self.mean), "std": list(self.std)}}


def import_checkpoint(path: Path, checkpoint: Mapping[str, Any], options: ImportOptions) -> Imported:
    """A Lightning checkpoint of anomalib.

    Args:
        path: the file, for messages.
        checkpoint: what :func:`edgead.importers.torchfile.read_torch_file` read with `RECORDS`.

    Raises:
        BadInput: not such a file, a model or backbone that edgead does not know, preprocessing that it cannot follow.
    """
    if not isinstance(checkpoint.get("state_dict"), dict):
        raise BadInput(f"{path} is no Lightning checkpoint: it has no state_dict", hint="give anomalib's model.ckpt")
    everything = {k: v for k, v in checkpoint["state_dict"].items() if isinstance(v, Tensor)}
    state = {k.removeprefix("model."): v for k, v in everything.items() if k.startswith("model.")}
    hyper = checkpoint.get("hyper_parameters") or {}
    assumptions: list[str] = []
    transform = read_transform(checkpoint, hyper, assumptions)
    build = _kind(path, state)
    detector, source = build(state, hyper, transform, options, assumptions)
    detector.requires_grad_(False)
    threshold = read_threshold(everything, checkpoint.get("anomalib_post_processor_config"), assumptions)
    recipe = recipe_for(transform.size, transform.antialias, options, transform.crop_from)
    if options.antialias is not None and options.antialias != transform.antialias:
        assumptions.append(
            f"resized with{'' if options.antialias else 'out'} antialias as asked for; the threshold was chosen "
            f"with{'' if transform.antialias else 'out'} it"
        )
    placed, recipe = place(detector.eval(), recipe, options)
    return Imported(placed, recipe, threshold, f"anomalib {_version(checkpoint)} checkpoint: {source}", (path,), assumptions)


def read_transform(checkpoint: Mapping[str, Any], hyper: Mapping[str, Any], assumptions: list[str]) -> Transform:
    """The preprocessing that a checkpoint tells, in any of the places where anomalib's versions put it.

    Raises:
        BadInput: it has a step that edgead does not have.
    """
    config = checkpoint.get("anomalib_pre_processor_config")
    told: Any = config.get("transform") if isinstance(config, dict) else checkpoint.get("transform")
    if told is None:
        told = _attribute(hyper.get("pre_processor"), "transform")
    result = Transform()
    if told is None:
        result.mean, result.std = TORCHVISION_MEAN, TORCHVISION_STD
        assumptions.append("the file does not tell its preprocessing: 256 x 256 px, antialias, ImageNet normalisation assumed")
        return result
    for name, arguments in _steps(told):
        _apply_step(result, name, arguments)
    return result


def _steps(told: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """(class name, arguments) of each transform, from anomalib's description or from a torchvision object's state."""
    if isinstance(told, Record):
        name, arguments = told.name, told.state if isinstance(told.state, dict) else {}
    elif isinstance(told, dict) and "class_path" in told:
        name, arguments = str(told["class_path"]), told.get("init_args") or {}
    else:
        raise BadInput("the file's preprocessing cannot be read", hint="export from anomalib with the default pre-processor")
    short = name.rsplit(".", 1)[-1]
    if short == "Compose":
        return [step for inner in arguments["transforms"] for step in _steps(inner)]
    return [(short, arguments)]


def _apply_step(result: Transform, name: str, arguments: Mapping[str, Any]) -> None:
    if name == "Resize":
        size = arguments["size"]
        sizes = [int(n) for n in size] if isinstance(size, (list, tuple)) else [int(size)]
        if "bilinear" not in str(arguments.get("interpolation", "bilinear")).lower():
            raise BadInput(f"the file resizes by {arguments['interpolation']}", hint="edgead can resize bilinearly")
        result.size = (sizes[0], sizes[-1])
        result.crop_from = (sizes[0], 0) if len(sizes) == 1 else None
        result.antialias = bool(arguments.get("antialias", True))
    elif name.endswith("CenterCrop"):
        size = arguments["size"]
        height, width = (int(n) for n in (size if isinstance(size, (list, tuple)) else (size, size)))
        result.crop_from = result.crop_from or (result.size[1], result.size[0])
        result.size = (height, width)
    elif name == "Normalize":
        result.mean = tuple(255.0 * float(v) for v in arguments["mean"])
        result.std = tuple(255.0 * float(v) for v in arguments["std"])
    elif name not in _IGNORED:
        raise BadInput(f"the file's preprocessing has the step {name}, which edgead does not have", hint="train without it")


def _attribute(value: Any, name: str) -> Any:
    """An attribute of a recorded object, also of a torch module's registered ones."""
    state = value.state if isinstance(value, Record) and isinstance(value.state, dict) else {}
    return state.get(name) or (state.get("_modules") or {}).get(name)


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
    sensitivity = float(settings.get("image_sensitivity", 0.5))
    if config is None:
        assumptions.append("the file does not tell a sensitivity: 0.5 assumed")
    if math.isnan(value):
        return None
    if sensitivity != 0.5 and not math.isnan(low + high):
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
    state: State, hyper: Mapping[str, Any], transform: Transform, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    if hyper.get("padding"):
        raise BadInput("the file's EfficientAd was trained with padding, which edgead does not have", hint="train without it")
    config: dict[str, Any] = {"size": "medium" if "teacher.conv6.weight" in state else "small"}
    if transform.size != (256, 256):
        config["last_kernel"] = int(state["ae.encoder.enconv6.weight"].shape[-1])
    if not hyper.get("pad_maps", True):
        config["pad_maps"] = False
    detector = EfficientAd(config, transform.size)
    wanted = detector.state_dict()
    weights = {name: tensor.float() for name, tensor in state.items() if name in wanted}
    if not weights["mean_std.std"].any():
        weights["mean_std.std"] = torch.ones_like(weights["mean_std.std"])
        assumptions.append("the file has no teacher statistics: the teacher is not normalised, as anomalib does then")
    if not any(float(weights[f"quantiles.{name}"]) for name in ("qa_st", "qb_st", "qa_ae", "qb_ae")):
        weights["quantiles.qb_st"] = weights["quantiles.qb_ae"] = torch.tensor(0.1)
        assumptions.append("the file has no quantiles: the maps are not normalised, as anomalib does then")
    load(detector, weights)
    if transform.config() and transform.std != (255.0, 255.0, 255.0):
        raise BadInput("the file normalises pictures before EfficientAd, which edgead does not", hint="train without Normalize")
    if not transform.config():
        assumptions.append("EfficientAd normalises inside the network; the file's Normalize step is left out")
    return detector, f"EfficientAd {config['size']}, {_px(transform.size)}"


def _patchcore(
    state: State, hyper: Mapping[str, Any], transform: Transform, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    name, layers = _backbone(hyper, options, assumptions)
    bank = state["memory_bank"].float()
    if bank.ndim != 2 or not len(bank):
        raise BadInput("the file's memory bank is empty", hint="save the checkpoint after training has ended")
    extra = {"features": {"kind": "zero_border"}, "map": SMOOTH, "refine": True, **transform.config()}
    weights = {k.removeprefix("feature_extractor.feature_extractor."): v for k, v in state.items()}
    if name == TIMM_LITE0:
        name, layers, weights = from_timm_lite0(layers, weights)
    backbone = backbone_with(name, layers, weights)
    features = build_features({"backbone": name, "layers": list(layers), **extra}, backbone)
    if features.channels != bank.shape[1]:
        raise BadInput(
            f"the bank has {bank.shape[1]} channels, layers {', '.join(layers)} of {name} have {features.channels}",
            hint="give the layers it was trained with: --layers",
        )
    _check_blur(state, assumptions)
    neighbours = int(hyper.get("num_neighbors", 9))
    if str(_value(hyper.get("precision", "float32"))) not in ("float32", "None"):
        assumptions.append("trained in half precision; computed in float32")
    detector = PatchCore.from_bank(features, bank, neighbours, transform.size, extra, floor=0.0)
    return detector, f"Patchcore, {name} {'+'.join(layers)}, {len(bank)} rows, {_px(transform.size)}"


def _supersimplenet(
    state: State, hyper: Mapping[str, Any], transform: Transform, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    name, layers = _backbone(hyper, options, assumptions)
    if "adapt_cls_features" not in hyper:
        assumptions.append("the file does not tell adapt_cls_features: true assumed, as in the versions without that setting")
    prefix = "feature_extractor.feature_extractor.feature_extractor."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    config = {
        "backbone": name, "layers": list(layers), "channels": int(state["adaptor.projection.weight"].shape[0]),
        "adapt_score": bool(hyper.get("adapt_cls_features", True)), "features": {"kind": "doubled"},
        "map": {"upsample": "bilinear", "sigma": 4.0, "radius": 12, "border": "reflect"}, **transform.config(),
    }  # fmt: skip
    detector = SuperSimpleNet(config, transform.size, backbone_with(name, layers, weights))
    heads = {
        **{f"adaptor.{k}": state[f"adaptor.projection.{k}"] for k in ("weight", "bias")},
        **fold_norm(state, "segdec.seg_head.0", "segdec.seg_head.1", "hidden"),
        "anomaly.weight": state["segdec.seg_head.3.weight"],
        **fold_norm(state, "segdec.cls_conv.0", "segdec.cls_conv.1", "context"),
        **{f"verdict.{k}": state[f"segdec.cls_fc.{k}"] for k in ("weight", "bias")},
    }
    features = {f"features.{k}": v for k, v in detector.features.state_dict().items()}
    load(detector, {**features, **heads})
    return detector, f"Supersimplenet, {name} {'+'.join(layers)}, {_px(transform.size)}"


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
    return str(_value(name)).split(".")[0], tuple(str(layer) for layer in layers)


def _check_blur(state: State, assumptions: list[str]) -> None:
    kernel = state.get("anomaly_map_generator.blur.kernel")
    if kernel is None:
        assumptions.append("the file has no blur kernel: sigma 4 assumed")
        return
    radius = int(SMOOTH["radius"])  # type: ignore[call-overload]
    line = blur_matrix(4 * radius + 3, float(SMOOTH["sigma"]), radius, "reflect")[2 * radius + 1]  # type: ignore[arg-type]
    line = line[radius + 1 : 3 * radius + 2]
    if kernel.shape[-2:] != (len(line), len(line)) or not torch.allclose(kernel[0, 0], torch.outer(line, line), atol=1e-5):
        raise BadInput(
            "the file smooths its map with another kernel than sigma 4", hint="please report it with the anomalib version"
        )


def _value(value: Any) -> Any:
    """The value of a recorded enum."""
    return value.arguments[0] if isinstance(value, Record) and value.arguments else value


def _version(checkpoint: Mapping[str, Any]) -> str:
    told = checkpoint.get("anomalib_version")
    if told:
        return str(told)
    return "2.7 or later" if "anomalib_pre_processor_config" in checkpoint else "1.x to 2.6"


def _px(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} px"
