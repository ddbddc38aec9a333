"""A detector behind a resize inside the graph: for models whose training resized in float, where rounding to uint8 costs 1e-3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edgead.models.detector import Detector, Wrapper
from edgead.models.separable import Separable, resize_matrix
from edgead.models.wrappers import prepared
from edgead.models.wrappers.coarse import build_coarse
from edgead.models.wrappers.tiled import Tiled


class Resized(Wrapper):
    """Frames of one fixed size, resized in float to the inner detector's size; the map stays at the inner size.

    Config: the inner detector's, plus ``resize``: {``to``: [height, width] of the inner detector, ``antialias``: bool}.
    """

    def __init__(self, inner: Detector, frame_size: tuple[int, int], antialias: bool) -> None:
        resize = {"to": list(inner.image_size), "antialias": antialias}
        super().__init__(inner, {**inner.config, "resize": resize}, frame_size)
        self.resize = Separable(
            resize_matrix(frame_size[0], inner.image_size[0], antialias=antialias),
            resize_matrix(frame_size[1], inner.image_size[1], antialias=antialias),
        )

    def inner_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels of a frame -> the inner detector's."""
        resized: Tensor = self.resize(pixels)
        return resized


def build(family: type[Detector], config: Mapping[str, Any], image_size: tuple[int, int]) -> Detector:
    """A detector of `family`, and around it what its config asks for: from inside to outside :class:`Resized` or
    :class:`~edgead.models.wrappers.prepared.Prepared`, :class:`~edgead.models.wrappers.tiled.Tiled`,
    :class:`~edgead.models.wrappers.coarse.CoarseToFine`.

    Raises:
        BadInput: tiles that do not fit the picture.
    """
    if "tiles" in config:
        height, width = config["tiles"]["size"]
        one = {key: value for key, value in config.items() if key not in {"tiles", "coarse"}}
        tiled = Tiled(build(family, one, (int(height), int(width))), image_size, int(config["tiles"]["overlap"]))
        return build_coarse(family, config["coarse"], tiled) if "coarse" in config else tiled
    if "prepare" in config:
        inside = {key: value for key, value in config.items() if key != "prepare"}
        height, width = config["prepare"]["to"]
        inner = family.build(inside, (int(height), int(width)))
        return prepared.Prepared(inner, image_size, prepared.read(config["prepare"])).eval()
    if "resize" not in config:
        return family.build(config, image_size)
    inside = {key: value for key, value in config.items() if key != "resize"}
    height, width = config["resize"]["to"]
    return Resized(family.build(inside, (int(height), int(width))), image_size, bool(config["resize"]["antialias"]))
