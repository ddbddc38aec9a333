"""``ckpt.pth`` of DonaldRR/SimpleNet: the discriminator and the adaptor; no backbone, no sizes, no threshold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from edgead.errors import BadInput
from edgead.families.simplenet.network import SimpleNet
from edgead.importers.anomalib.reading import load
from edgead.importers.model import Imported, ImportOptions
from edgead.importers.steps import CenterCrop, Resize, Step
from edgead.importers.transforms import follow
from edgead.importers.weights import check_numbers, fold_norm
from edgead.models.backbones import load_backbone
from edgead.models.patches import build_features
from edgead.published import published

SMOOTH = {"upsample": "bilinear", "sigma": 4.0, "radius": 16, "border": "symmetric"}
DEFAULT_SIZE = (288, 288)


def import_simplenet(path: Path, content: Mapping[str, Any], options: ImportOptions) -> Imported:
    """SimpleNet as its authors save it.

    Args:
        path: the file, for messages.
        content: what :func:`edgead.models.torchfile.read_torch_file` read: {discriminator, pre_projection}.

    Raises:
        BadInput: another depth of discriminator or adaptor than the authors' defaults, or a backbone that does not fit.
    """
    head, adaptor = content.get("discriminator"), content.get("pre_projection", {})
    if not isinstance(head, dict) or not isinstance(adaptor, dict):
        raise BadInput(f"{path} has no discriminator", hint="give the ckpt.pth that SimpleNet's training wrote")
    blocks = sorted({name.split(".")[1] for name in head if name.startswith("body.")})
    if blocks != ["block1"] or any(not name.startswith("layers.0fc.") for name in adaptor):
        raise BadInput(
            f"{path} has {len(blocks)} hidden layers and {len(adaptor) // 2} adaptor layers; edgead takes 1 and at most 1",
            hint="train with --dsc_layers 2 --pre_proj 1",
        )
    check_numbers(path, {k: v for k, v in {**head, **adaptor}.items() if isinstance(v, Tensor)})
    name = options.backbone or "wide_resnet50_2"
    layers = options.layers or published(name).layers
    width, height = options.size or DEFAULT_SIZE
    hidden, channels = head["body.block1.0.weight"].shape
    backbone = load_backbone(name, layers, options.weights)
    check_numbers(options.weights or Path(name), backbone.state_dict())
    config = {
        "backbone": name, "layers": list(layers), "channels": int(channels), "hidden": int(hidden),
        "features": {"kind": "binned", "layer_bins": int(channels), "channels": int(channels)}, "map": SMOOTH,
    }  # fmt: skip
    build_features(config, backbone)  # a wrong layer is told before the heads
    detector = SimpleNet(config, (height, width), backbone)
    features = {f"features.{k}": v for k, v in detector.features.state_dict().items()}
    load(detector, {**features, **fold(head, adaptor)})
    assumptions = [
        f"backbone {name}, layers {', '.join(layers)}, {width} x {height} px: as stated, or the authors' defaults",
        f"backbone weights: {'those of torchvision (ImageNet, V1)' if options.weights is None else options.weights.name}",
    ]
    steps: tuple[Step, ...] = (Resize((height, width)),)
    if options.size is None:
        steps = (Resize((329,)), CenterCrop(DEFAULT_SIZE))
        assumptions.append("shorter side resized to 329 px, middle 288 x 288 px cut out, as the authors' data sets do")
    detector.requires_grad_(False)
    followed = follow(steps, options)
    source = f"SimpleNet ckpt.pth: {name} {'+'.join(layers)}, {channels} channels, {width} x {height} px"
    files = (path, *([options.weights] if options.weights else []))
    return Imported(followed.place(detector.eval()), followed.recipe, None, source, files, assumptions)


def fold(head: Mapping[str, Tensor], adaptor: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adaptor, first layer and batch norm as one 1 x 1 convolution, the tail's sign turned (larger is more anomalous).

    Raises:
        BadInput: a weight is missing.
    """
    first = fold_norm(head, "body.block1.0", "body.block1.1", "hidden")
    weight, bias = first["hidden.weight"].double(), first["hidden.bias"].double()
    if adaptor:
        bias = bias + weight @ adaptor["layers.0fc.bias"].double()
        weight = weight @ adaptor["layers.0fc.weight"].double()
    tail = head["tail.weight"]
    return {
        "hidden.weight": weight.float()[:, :, None, None], "hidden.bias": bias.float(),
        "anomaly.weight": -tail[:, :, None, None], "anomaly.bias": tail.new_zeros(1),
    }  # fmt: skip
