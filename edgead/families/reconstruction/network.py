"""Reconstruction: a network that was trained on good pictures alone rebuilds a picture; where it fails, something is odd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.reconstruction.kinds import PARTS
from edgead.models.detector import Detector
from edgead.models.parts.convnets import fold_norms
from edgead.models.parts.errors import Smooth, WeightedError, odd_side
from edgead.models.parts.masks import Masking
from edgead.models.parts.necks import Neck
from edgead.models.parts.partial import PartialUNet
from edgead.models.parts.project import Projection

CELL = 4
"""Side, px, of the means whose highest hundredth is the score ``top``."""

TOP = 0.01

FLOOR = 0.1
"""Share of the mean error of good pictures that is added to that of each place, which is divided by (``relative``)."""


class Reconstruction(Detector):
    """Network x masking x neck x error.

    A picture x from 0 to 1 -> what the masking shows of it -> code -> neck -> rebuilt y -> error(x, y) -> smoothed map.

    Config keys: ``network``, ``masking``, ``neck``: each {``kind``: of :mod:`edgead.families.reconstruction.kinds`, and its
    arguments}; ``seed`` of the masks; ``error``: weights by name; ``smooth``: side of the mean filter, px of this picture;
    ``score``, ``reference``, ``light``: see :class:`edgead.families.reconstruction.options.ReconstructionOptions`;
    ``neck_share``: a of map = (1 - a) (error - mean) / deviation + a (distance - mean) / deviation, with the neck's own distance,
    and means and deviations over good pictures; at 0 the map is the error itself.

    Args:
        norm: batch norms behind convolutions, for training; :meth:`fold` takes them away again.
    """

    family: ClassVar[str] = "reconstruction"
    network: Any
    masking: Masking
    neck: Neck
    usual: Tensor
    scales: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int], norm: bool = False) -> None:
        super().__init__(config, image_size)
        self.network = _make("network", config, image_size, norm=norm)
        stride = self.network.stride
        if any(px % stride for px in image_size):
            near = " x ".join(str(max(stride, round(px / stride) * stride)) for px in image_size)
            raise BadInput(
                f"this network cannot take pictures of {image_size[0]} x {image_size[1]} px",
                hint=f"height and width must be multiples of {stride}, e.g. {near}",
            )
        self.masking = _make("masking", config, image_size, int(config["seed"]))
        grid = (image_size[0] // stride, image_size[1] // stride)
        self.neck = _make("neck", config, self.network.channels, grid, 3 * image_size[0] * image_size[1])
        self.error = WeightedError(config["error"])
        self.projection = Projection(self.network, **config["projection"]) if config.get("projection") else None
        self.smooth = Smooth(odd_side(int(config["smooth"]), min(image_size)))
        self.share = float(config["neck_share"])
        if config["reference"] != "none":
            self.register_buffer("usual", torch.zeros(1, 1, *image_size))  # the mean error of good pictures at each place
        if self.share:
            self.register_buffer("scales", torch.tensor([0.0, 1.0, 0.0, 1.0]))  # mean and deviation of error, of distance

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> Reconstruction:
        made = cls(config, image_size)
        made.fix()
        return made

    def fold(self) -> None:
        """Training is over: batch norms become part of their convolutions."""
        fold_norms(self)
        if self.projection is not None:
            self.projection.learn(self.network)
        self.fix()

    def fix(self) -> None:
        """What is visible does not change any more."""
        visible = self.masking.visible()
        if isinstance(self.network, PartialUNet) and visible is not None:
            self.network.fix(visible)

    def pictures(self, pixels: Tensor) -> Tensor:
        """float32 N x 3 x H x W, 0 to 255 -> from 0 to 1 (``light`` even: their mean at 0.5, so perhaps a little beyond)."""
        if self.config["light"] != "even":
            return pixels * (1.0 / 255.0)
        mean = pixels.mean(3, keepdim=True).mean((1, 2), keepdim=True)  # sums of whole numbers, the same in every engine
        return (pixels - mean) * (1.0 / 255.0) + 0.5

    def differences(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """The smoothed error N x 1 x H x W, and the neck's distance B x 1 x h x w where it is asked for.

        With a projection y is the picture that x was moved to, towards what the network can rebuild.
        """
        if self.projection is not None:
            x = self.pictures(pixels)
            return self.smooth(self.error(x, self.projection(x, self.network, self.neck))), None
        x, rebuilt, code = self.rebuilt(pixels)
        error = self.smooth(self.masking.tell(x, rebuilt, self.error))
        return error, self.neck.distance(code) if self.share else None

    def rebuilt(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures x, what was rebuilt in all passes, and the codes."""
        x = self.pictures(pixels)
        code, skips = self.network.encode(self.masking.see(x), self.masking.visible())
        return x, self.network.decode(self.neck(code), skips), code

    def combined(self, error: Tensor, distance: Tensor | None) -> Tensor:
        """The map, N x 1 x H x W."""
        if self.config["reference"] == "excess":
            error = (error - self.usual).clamp_min(0.0)
        elif self.config["reference"] == "squared":
            error = (error - self.usual).square()
        elif self.config["reference"] == "relative":
            error = error / (self.usual + FLOOR * self.usual.mean()).clamp_min(1e-6)
        if distance is None:
            return error
        distance = torch.unflatten(distance, 0, (-1, self.masking.passes)).mean(1)
        if distance.shape[2:].numel() > 1:
            distance = F.interpolate(distance, self.image_size, mode="bilinear", align_corners=False)
        own = (1.0 - self.share) * (error - self.scales[0]) / self.scales[1]
        return own + self.share * (distance - self.scales[2]) / self.scales[3]

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        anomaly_map = self.combined(*self.differences(pixels)).squeeze(1)
        return anomaly_map, self.reduced(anomaly_map)

    def reduced(self, anomaly_map: Tensor) -> Tensor:
        """The score of a map, N x H x W -> N."""
        how = self.config["score"]
        if how == "max":
            return anomaly_map.amax((1, 2))
        if how == "mean":
            return anomaly_map.mean((1, 2))
        cells = F.avg_pool2d(anomaly_map[:, None], CELL).flatten(1)
        return cells.topk(max(1, round(TOP * cells.shape[1])), 1).values.mean(1)


def _make(part: str, config: Mapping[str, Any], *args: Any, **more: Any) -> Any:
    told = dict(config[part])
    kind = str(told.pop("kind"))
    if kind not in PARTS[part]:
        raise BadInput(f"unknown {part} {kind!r}", hint=f"known: {', '.join(PARTS[part])}")
    return PARTS[part][kind].load()(*args, **told, **more)
