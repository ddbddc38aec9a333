"""What the models of anomalib's checkpoints are read with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from edgead.errors import BadInput
from edgead.importers.model import ImportOptions
from edgead.importers.steps import shown
from edgead.importers.transforms import Followed
from edgead.importers.weights import check_layers
from edgead.models.backbones import Backbone
from edgead.models.detector import Detector
from edgead.models.streams import Record

State = dict[str, Tensor]


def normalization(followed: Followed, backbone: Backbone) -> dict[str, Any]:
    """The configuration of patch features for the file's normalisation; empty when it is the backbone's own."""
    told = {"mean": followed.mean, "std": followed.std}
    if all(np.allclose(getattr(backbone, name).flatten(), values, atol=1e-3) for name, values in told.items()):
        return {}
    return {"normalize": {name: list(values) for name, values in told.items()}}


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


def backbone_of(
    hyper: Mapping[str, Any],
    options: ImportOptions,
    assumptions: list[str],
    usual: tuple[str, tuple[str, ...]] = ("wide_resnet50_2", ("layer2", "layer3")),
) -> tuple[str, tuple[str, ...]]:
    """Name and layers of a model's backbone.

    Args:
        usual: what anomalib takes when it is not asked for another.

    Raises:
        BadInput: the file tells what no backbone has.
    """
    name = options.backbone or hyper.get("backbone")
    layers = options.layers or hyper.get("layers")
    if not name:
        name = usual[0]
        assumptions.append(f"the file does not name its backbone: {name} assumed")
    if not layers:
        layers = usual[1]
        assumptions.append(f"the file does not name its layers: {', '.join(layers)} assumed")
    name = value_of(name)
    if not isinstance(name, str) or not isinstance(layers, (list, tuple)):
        raise BadInput(f"the file tells backbone {shown(name)} and layers {shown(layers)}", hint="give --backbone and --layers")
    return name.split(".")[0], check_layers(layers)


def value_of(value: Any) -> Any:
    """The value of a recorded enum."""
    return value.arguments[0] if isinstance(value, Record) and value.arguments else value


def px(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} px"
