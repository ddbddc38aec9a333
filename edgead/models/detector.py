"""What every trained detector shares: the graph contract, and what others ask of it, so that nobody needs to know its family."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn


class Memory(Protocol):
    """What a network remembers of each picture that it was trained on, so that one can be taken away for a while."""

    def look_at(self, picture: int) -> None:
        """What the network is asked about from now on is this picture of the training."""

    def close(self) -> None:
        """No more pictures will be looked at."""

    def left_without(self, picture: int) -> bool:
        """Whether anything is left when a picture is taken away."""

    def without(self, picture: int) -> AbstractContextManager[None]:
        """The network answers as if it had not seen a picture."""


class Detector(nn.Module):
    """A trained anomaly detector; `forward` is exactly what is exported.

    A family must define `family`, :meth:`build` and :meth:`detect`; what the other members say suits most.

    Attributes:
        family: name of the model family.
        exports: how its graph comes about: ``"torch"`` is traced, ``"onnx"`` has a file of its own (:meth:`serialized`), and so
            has ``"openvino"`` (:meth:`write_ir`), which runs there only.
        float_parts: names of its modules whose products stay float in INT8 (:mod:`edgead.calibration.int8.products`).
        two_graphs: on the CPU it is served by two graphs, of a coarse look and of a tile (:mod:`edgead.export.coarse`).
        config: JSON-able arguments that rebuild the architecture with :meth:`build` (before the weights are loaded).
        image_size: (height, width) of its input in pixels.
    """

    family: ClassVar[str]
    exports: ClassVar[Literal["torch", "onnx", "openvino"]] = "torch"
    float_parts: ClassVar[tuple[str, ...]] = ()
    two_graphs: ClassVar[bool] = False

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

    @property
    def enlarging(self) -> str:
        """Name of the module that does nothing but enlarge the map from cells to the picture, which does not change the score;
        "" where there is none, or it does more (smooths)."""
        return ""

    def unenlarged(self) -> Detector | None:
        """The same one that tells its map at the resolution of its cells; None where there is no such map. The score stays."""
        if not self.enlarging:
            return None
        changed = copy.deepcopy(self)
        setattr(changed, self.enlarging, nn.Identity())
        return changed

    def seen(self, pixels: Tensor) -> Tensor:
        """What it is made of sees in each cell of a picture, frozen features N x C x h x w: odd pictures are found by it. By
        default the pixels themselves."""
        return pixels

    def memory(self) -> Memory | None:
        """What it remembers of each picture; None where only a training without a picture tells what it is without that one."""
        return None

    def store(self, model: Any, name: str) -> None:
        """Change how its weights are stored in an exported ONNX model, in place.

        Args:
            name: of this module in the exported detector; "" for itself.

        Raises:
            EngineError: they are not in it as expected.
        """

    def serialized(self) -> bytes:
        """Its own ONNX file, that follows the graph contract."""
        raise NotImplementedError

    def write_ir(self, xml: Path) -> None:
        """Write its own OpenVINO IR, that follows the graph contract: `xml` and the ``.bin`` beside it."""
        raise NotImplementedError


class Wrapper(Detector):
    """What is put around another detector, whose family it is of.

    Attributes:
        inner: that one.
    """

    inner: Detector

    def __init__(self, inner: Detector, config: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__(config, image_size)
        self.family = inner.family  # type: ignore[misc]
        self.inner = inner

    def inner_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels of a picture -> the inner detector's."""
        raise NotImplementedError

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner.detect(self.inner_pixels(pixels))


def networks(detector: Detector) -> list[Detector]:
    """The detectors that a detector is made of, without what is put around them; itself when nothing is."""
    return [module for module in detector.modules() if isinstance(module, Detector) and not isinstance(module, Wrapper)]
