"""Fastflow in checkpoints of anomalib."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.fastflow.network import FastFlow
from edgead.importers.anomalib.reading import State, backbone_of, load, normalization, px
from edgead.importers.model import ImportOptions
from edgead.importers.transforms import Followed
from edgead.importers.weights import backbone_with
from edgead.models.detector import Detector

MARK, TITLE, NORMALIZED = "fast_flow_blocks.", "Fastflow", True

LAYERS = ("layer1", "layer2", "layer3")
BACKBONES = ("resnet18", "wide_resnet50_2")
_STEP = re.compile(rf"fast_flow_blocks\.{len(LAYERS) - 1}\.module_list\.(\d{{1,3}})\.subnet\.0\.weight")


def build(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    """The detector of a checkpoint's weights and hyperparameters, and what it is in a few words. Raises BadInput."""
    name, layers = backbone_of({"backbone": "resnet18", **hyper, "layers": LAYERS}, options, assumptions)
    if not (hyper.get("backbone") or options.backbone):
        assumptions.append("the file does not name its backbone: resnet18 assumed")
    if name not in BACKBONES or layers != LAYERS:
        raise BadInput(
            f"a Fastflow on {'+'.join(layers)} of {name} is not rebuilt",
            hint=f"known: the three layers of {' and '.join(BACKBONES)}",
        )
    prefix = "feature_extractor."
    backbone = backbone_with(name, layers, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    kernels, ratio = _steps(state)
    config = {
        "backbone": name, "layers": list(layers), "features": {"kind": "raw"}, "kernels": kernels, "ratio": ratio,
        "norm": "layer", "density": True, "score": "max", **normalization(followed, backbone),
    }  # fmt: skip
    detector = FastFlow(config, followed.size, backbone)
    found = {f"features.{k}": v for k, v in detector.features.state_dict().items()}
    for i in range(len(layers)):
        found |= {f"norms.{i}.{part}": _of(state, f"norms.{i}.{part}") for part in ("weight", "bias")}
        for j in range(len(kernels)):
            at = f"fast_flow_blocks.{i}.module_list.{j}."
            found |= {f"flows.{i}.steps.{j}.{name}": tensor for name, tensor in _step(state, at).items()}
    load(detector, found)
    return detector, f"Fastflow, {name}, {len(kernels)} steps, {px(followed.size)}"


def _steps(state: State) -> tuple[list[int], float]:
    """Kernels of the couplings, and the share of hidden channels: the last layer is the widest, and tells it best."""
    numbers = sorted(int(match[1]) for match in map(_STEP.fullmatch, state) if match)
    if numbers != list(range(len(numbers))) or not numbers:
        raise BadInput("the file lacks couplings of its flow", hint="it is incomplete")
    weights = [_of(state, f"fast_flow_blocks.{len(LAYERS) - 1}.module_list.{i}.subnet.0.weight") for i in numbers]
    if any(weight.ndim != 4 or weight.shape[2] not in (1, 3) for weight in weights):
        raise BadInput(
            "the file's flow is none of 1 x 1 and 3 x 3 convolutions", hint="please report it with the anomalib version"
        )
    hidden, read = weights[0].shape[:2]
    return [int(weight.shape[2]) for weight in weights], (hidden + 1e-3) / read  # the product is rounded down


def _step(state: State, at: str) -> dict[str, Tensor]:
    """A coupling's weights under this family's names."""
    gain = 0.2 * F.softplus(0.5 * _of(state, f"{at}global_scale").double().flatten())
    order = _of(state, f"{at}w_perm").flatten(1)
    place = order.argmax(1)
    hard = torch.zeros_like(order).scatter_(1, place[:, None], 1.0)
    if order.shape[0] != order.shape[1] or not torch.equal(order, hard) or len(set(place.tolist())) < len(place):
        raise BadInput("the file's flow mixes channels by more than an order", hint="please report it with the anomalib version")
    told: dict[str, Tensor] = {
        "gain": gain.log().float()[:, None, None],
        "offset": _of(state, f"{at}global_offset").float().flatten()[:, None, None],
        "place": place,
    }
    for part in ("weight", "bias"):
        told[f"inside.{part}"] = _of(state, f"{at}subnet.0.{part}")
        told[f"scale.{part}"], told[f"shift.{part}"] = _of(state, f"{at}subnet.2.{part}").tensor_split([len(place) // 2])
    return told


def _of(state: State, name: str) -> Tensor:
    if name not in state:
        raise BadInput(f"the file has no entry {name!r}", hint="it is incomplete or of another version")
    return state[name]
