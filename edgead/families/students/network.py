"""Uninformed Students (Bergmann et al. 2020): where students fail to tell what a teacher says of a patch, and differ in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.families.efficientad.pdn import build_pdn
from edgead.families.students.patchnets import Form, patch_network, thin_pdn
from edgead.models.backbones import TORCHVISION_MEAN, TORCHVISION_STD
from edgead.models.detector import Detector
from edgead.models.parts.scores import reduced

KINDS = ("closed", "thin", "patches")
SMALLEST_PX = 64
PDN = Form(33, 4)


class Scale(nn.Module):
    """What one size of patches tells: N x 3 x H x W (normalised) -> N x 1 x h x w on its own grid.

    Attributes:
        form: where its cells lie.
        center, spread: mean and deviation of error and disagreement in cells of held-out good pictures.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("center", torch.zeros(2))
        self.register_buffer("spread", torch.ones(2))

    def told(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Error: squared length of teacher - mean student; disagreement: mean squared length of student - mean student. Both are
        taken per channel, N x 1 x h x w."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        error, disagreement = self.told(x)
        normal = (error - self.center[0]) / self.spread[0]
        return normal + (disagreement - self.center[1]) / self.spread[1]


class Closed(Scale):
    """Teacher and students share the PDN teacher's hidden layers, so that all differences are one convolution of one map: no
    second network, and no difference of large numbers.

    Its output channels are teacher - mean student, and each student - mean student.
    """

    def __init__(self, channels: int, students: int) -> None:
        super().__init__(PDN)
        pdn = build_pdn("small")
        last = pdn[-1]
        assert isinstance(last, nn.Conv2d)
        self.channels, self.students, self.trunk = channels, students, pdn[:-1]
        self.apart = nn.Conv2d(last.in_channels, (1 + students) * channels, int(last.kernel_size[0]))

    def told(self, x: Tensor) -> tuple[Tensor, Tensor]:
        squares = self.apart(self.trunk(x)).square()
        return squares[:, : self.channels].mean(1, keepdim=True), squares[:, self.channels :].mean(1, keepdim=True)


class Trained(Scale):
    """A teacher and students that are networks of their own."""

    def __init__(self, form: Form, teacher: nn.Module, students: Sequence[nn.Module]) -> None:
        super().__init__(form)
        self.teacher, self.students = teacher, nn.ModuleList(students)

    def told(self, x: Tensor) -> tuple[Tensor, Tensor]:
        said = [student(x) for student in self.students]
        mean = sum(said[1:], said[0]) / len(said)
        others = [(one - mean).square().mean(1, keepdim=True) for one in said]
        return (self.teacher(x) - mean).square().mean(1, keepdim=True), sum(others[1:], others[0]) / len(others)


class Enlarge(nn.Module):
    """Cells to the picture, bilinear: N x h x w -> N x H x W."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.image_size = image_size

    def forward(self, cells: Tensor) -> Tensor:
        return F.interpolate(cells.unsqueeze(1), self.image_size, mode="bilinear", align_corners=False).squeeze(1)


class Students(Detector):
    """Config keys: ``kind`` (of `KINDS`), ``channels`` of what the teacher says, ``students``, ``score`` (of
    :mod:`edgead.models.parts.scores`); of ``"patches"`` also ``sides`` and ``stride`` (of :mod:`.patchnets`)."""

    family = "students"
    mean: Tensor
    std: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        if min(image_size) < SMALLEST_PX:
            told = f"{image_size[0]} x {image_size[1]} px"
            raise BadInput(f"students cannot take pictures of {told}", hint=f"at least {SMALLEST_PX} px a side: --size")
        super().__init__(config, image_size)
        scales = _scales(config)
        self.strides = [scale.form.stride for scale in scales]
        self.scales = nn.ModuleList(scales)
        self.to_model_size: nn.Module = Enlarge(image_size)
        self.register_buffer("mean", torch.tensor(TORCHVISION_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(TORCHVISION_STD).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> Students:
        return cls(config, image_size)

    @property
    def enlarging(self) -> str:
        return "to_model_size"

    def normalize(self, pixels: Tensor) -> Tensor:
        """N x 3 x H x W RGB 0..255 -> as ImageNet networks expect."""
        normalized: Tensor = (pixels - self.mean) / self.std
        return normalized

    def seen(self, pixels: Tensor) -> Tensor:
        first, x = self.scales[0], self.normalize(pixels)
        hidden: Tensor = first.trunk(x) if isinstance(first, Closed) else first.teacher(x)  # type: ignore[operator]
        return hidden

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.normalize(pixels)
        maps = [self._placed(scale(x), self.strides[i]) for i, scale in enumerate(self.scales)]
        cells = sum(maps[1:], maps[0]) / len(maps)
        return self.to_model_size(cells.squeeze(1)), reduced(cells, str(self.config["score"]))

    def _placed(self, cells: Tensor, stride: int) -> Tensor:
        """Cells whose patches hang over the edge of the picture, which networks without padding do not have, are as their
        neighbours."""
        rows, columns = (side // stride - int(have) for side, have in zip(self.image_size, cells.shape[-2:], strict=True))
        return F.pad(cells, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), mode="replicate")


def _scales(config: Mapping[str, Any]) -> list[Scale]:
    kind, channels, count = str(config["kind"]), int(config["channels"]), int(config["students"])
    if kind == "closed":
        return [Closed(channels, count)]
    if kind == "thin":
        return [Trained(PDN, build_pdn("small", channels), [thin_pdn(channels) for _ in range(count)])]
    if kind == "patches":
        stride = int(config["stride"])
        return [
            Trained(Form(side, stride), *_first([patch_network(side, channels, stride) for _ in range(count + 1)]))
            for side in config["sides"]
        ]
    raise BadInput(f"unknown kind of students {kind!r}", hint=f"known: {', '.join(KINDS)}")


def _first(networks: list[nn.Sequential]) -> tuple[nn.Module, list[nn.Sequential]]:
    return networks[0], networks[1:]
