"""What every trained detector shares: the graph contract, and saving without pickle (safetensors plus JSON)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypedDict

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgead import __version__, disk
from edgead.errors import BadInput, EdgeadError
from edgead.manifest import Origin
from edgead.models.backbones import read_state
from edgead.preprocess import PreprocessRecipe
from edgead.typed import MAX_BYTES, Between, Count, Single, Wrong, loads, read
from edgead.words import unicode_only

InputSide = Annotated[int, Between(1, 8192)]

ROOM_BYTES = 64 << 20
"""What a model may hold besides its stored weights: constants that it computes when it is built."""

_UNUSABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
             ValueError, EdgeadError)  # fmt: skip
"""What building a network from a config that is not of this network raises."""


class Detector(nn.Module):
    """A trained anomaly detector; `forward` is exactly what is exported.

    Attributes:
        family: name of the model family.
        config: JSON-able arguments that rebuild the architecture with :meth:`build` (before the weights are loaded).
        image_size: (height, width) of its input in pixels.
    """

    family: ClassVar[str]

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__()
        self.config = dict(config)
        self.image_size = image_size

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> Detector:
        """The architecture with weights of the right shapes, ready for `load_state_dict`."""
        raise NotImplementedError

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly map and score.

        Args:
            pixels: float32, N x 3 x H x W, RGB, 0 to 255.

        Returns:
            anomaly map float32 N x H x W and score float32 N, both raw model units, larger is more anomalous.
        """
        raise NotImplementedError

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The graph contract: uint8 N x H x W x 3 BGR -> (anomaly_map N x H x W, score N)."""
        pixels = image.to(torch.float32)  # first, since TensorRT moves no uint8 around: it takes it into a Cast and nowhere else
        return self.detect(pixels.permute(0, 3, 1, 2).flip(1))


class CardThreshold(TypedDict):
    """The trained model's threshold."""

    value: Single
    method: str


class ModelCard(TypedDict):
    """What ``model.json`` must hold to be loaded."""

    family: str
    config: dict[str, Any]
    image_size: tuple[InputSide, InputSide]


class CrossFitted(TypedDict):
    """What the threshold of a model comes from, when pictures of training take part (:mod:`edgead.training.crossfit`)."""

    how: str
    heldout: Count
    scores: list[Single]
    files: list[Any]
    odd: list[Any]


class ExportCard(ModelCard, total=False):
    """The same with what an export reads."""

    name: str
    preprocess: PreprocessRecipe
    threshold: CardThreshold
    origin: Origin
    metrics: dict[str, Any]
    crossfit: CrossFitted
    labelled_root: str | None


def save_detector(folder: Path, detector: Detector, info: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and, last, ``model.json`` (family, config, image size and `info`) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    save_file(state, folder / "model.safetensors.part")
    os.replace(folder / "model.safetensors.part", folder / "model.safetensors")
    head = {"edgead_model": 1, "family": detector.family, "config": detector.config, "image_size": list(detector.image_size)}
    (folder / "model.json.part").write_text(json.dumps(unicode_only({**head, **info}), indent=2) + "\n", "utf-8")
    os.replace(folder / "model.json.part", folder / "model.json")


def load_detector(folder: Path, *, to_export: bool = False) -> tuple[Detector, dict[str, Any]]:
    """A detector saved by :func:`save_detector`, in evaluation mode, and the content of its ``model.json``.

    Args:
        to_export: its name, recipe, threshold and origin are needed, too.

    Raises:
        BadInput: no trained model there, or damaged.
    """
    file = folder / "model.json"
    if not file.is_file():
        raise BadInput(
            f"{folder} holds no trained model (no model.json)", hint="train one with: edgead train MODEL GOOD_DIR -o DIR"
        )
    from edgead.models.wrappers.resized import build

    info = _read_card(file, ("name", "preprocess", "threshold", "origin") if to_export else ())
    try:
        family = _families()[info["family"]]
    except KeyError as error:
        known = ", ".join(sorted(_families()))
        raise BadInput(
            f"{folder} holds a model of the family {info['family'][:40]!r}, which this edgead {__version__} does not know",
            hint=f"install the edgead that made it, or train one that is known here: {known}",
        ) from error
    height, width = info["image_size"]
    try:
        with torch.device("meta"):  # shapes without memory, whatever sizes the file dreams of
            empty = _built(build, family, info["config"], (height, width)).state_dict().values()
        dreamt = sum(tensor.numel() * tensor.element_size() for tensor in empty)
        if dreamt > 2 * (folder / "model.safetensors").stat().st_size + ROOM_BYTES:
            raise ValueError(f"its config makes {dreamt:,} bytes of weights, far more than there are")
        detector = build(family, info["config"], (height, width))
        detector.load_state_dict(read_state(folder / "model.safetensors"))
    except _UNUSABLE as error:
        raise BadInput(f"the trained model in {folder} is damaged: {str(error)[:200]}", hint="train it again") from error
    detector.requires_grad_(False)
    return detector.eval(), info


def _built(make: Any, family: type[Detector], config: Mapping[str, Any], image_size: tuple[int, int]) -> Detector:
    """The network; raises ValueError that says so when its config is to blame."""
    try:
        detector: Detector = make(family, config, image_size)
    except _UNUSABLE as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ValueError(f"model.json: config: {what}") from error
    return detector


def _read_card(file: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    try:
        info: dict[str, Any] = loads(disk.read_file(file, MAX_BYTES), nan_is_none=True)
        read(ExportCard, info)
        if missing := [key for key in needed if key not in info]:
            raise Wrong(f"{missing[0]} is missing")
    except (OSError, Wrong) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"{file} is not the card of a trained model: {reason}", hint="train or import it again") from error
    return info


def _families() -> dict[str, type[Detector]]:
    from edgead.families.efficientad.network import EfficientAd
    from edgead.families.foreign.network import GraphDetector, IrDetector
    from edgead.families.patchcore.network import PatchCore
    from edgead.families.simplenet.network import SimpleNet
    from edgead.families.supersimplenet.network import SuperSimpleNet

    return {family.family: family for family in (PatchCore, SimpleNet, EfficientAd, SuperSimpleNet, GraphDetector, IrDetector)}
