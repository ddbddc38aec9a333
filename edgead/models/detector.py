"""What every trained detector shares: the graph contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


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
