"""ResNet-18 (He et al. 2015) and WideResNet-50-2 (Zagoruyko & Komodakis 2016), with torchvision's layer names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.backbones.base import (
    TORCHVISION_MEAN,
    TORCHVISION_STD,
    Backbone,
    Shape,
    State,
    conv_entries,
    fold,
    layer_index,
    unfold,
)

_EPS = 1e-5


class ResidualBlock(nn.Module):
    """Basic (two 3x3) or bottleneck (1x1, 3x3, 1x1) residual block with folded batch norms."""

    def __init__(self, c_in: int, width: int, c_out: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            convs = [nn.Conv2d(c_in, width, 1), nn.Conv2d(width, width, 3, stride, 1), nn.Conv2d(width, c_out, 1)]
        else:
            convs = [nn.Conv2d(c_in, width, 3, stride, 1), nn.Conv2d(width, c_out, 3, 1, 1)]
        for i, conv in enumerate(convs, 1):
            self.add_module(f"conv{i}", conv)
        self.n_convs = len(convs)
        self.downsample = nn.Conv2d(c_in, c_out, 1, stride) if stride != 1 or c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.n_convs + 1):
            y = getattr(self, f"conv{i}")(y)
            if i < self.n_convs:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


@dataclass(frozen=True, slots=True)
class _Plan:
    repeats: tuple[int, ...]
    bottleneck: bool
    base_width: int


PLANS = {"resnet18": _Plan((2, 2, 2, 2), False, 64), "wide_resnet50_2": _Plan((3, 4, 6, 3), True, 128)}


class ResNet(Backbone):
    """ResNet-18 or WideResNet-50-2 up to the deepest of `layers` ("layer1" to "layer4"); strides 4, 8, 16, 32."""

    surplus = r"fc\.(weight|bias)|.+\.num_batches_tracked"

    def __init__(self, name: str = "resnet18", layers: Sequence[str] = ("layer2", "layer3")) -> None:
        super().__init__(name, layers, TORCHVISION_MEAN, TORCHVISION_STD)
        plan = PLANS[name]
        wanted = [layer_index(layer, r"layer([1-4])", name, "layer1 to layer4", 4) for layer in layers]
        expansion = 4 if plan.bottleneck else 1
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        c_in = 64
        for stage in range(max(wanted)):
            planes = 64 << stage
            blocks = []
            for i in range(plan.repeats[stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                width = planes * plan.base_width // 64
                blocks.append(ResidualBlock(c_in, width, planes * expansion, stride, plan.bottleneck))
                c_in = planes * expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.wanted = wanted
        self.channels = tuple((64 << (i - 1)) * expansion for i in wanted)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.conv1(self.normalize(pixels))), 3, 2, 1)
        outputs: dict[int, Tensor] = {}
        for stage in range(1, max(self.wanted) + 1):
            x = getattr(self, f"layer{stage}")(x)
            outputs[stage] = x
        return [outputs[i] for i in self.wanted]

    def entries(self) -> dict[str, Shape]:
        """As torchvision and timm name them."""
        return conv_entries(self, self._names())

    def whole(self) -> Backbone:
        with torch.device("meta"):
            return ResNet(self.name, ("layer4",))

    def folded(self, state: State) -> dict[str, Tensor]:
        folded: dict[str, Tensor] = {}
        for conv, norm, new in self._names():
            folded |= fold(state, conv, norm, _EPS, new)
        return folded

    def unfolded(self) -> dict[str, Tensor]:
        return unfold(self, self._names(), _EPS)

    def _names(self) -> list[tuple[str, str, str]]:
        """Published convolution and batch norm, and the module that both become."""
        names = [("conv1", "bn1", "conv1")]
        for name, module in self.named_modules():
            if isinstance(module, ResidualBlock):
                names += [(f"{name}.conv{i}", f"{name}.bn{i}", f"{name}.conv{i}") for i in range(1, module.n_convs + 1)]
                if module.downsample is not None:
                    names.append((f"{name}.downsample.0", f"{name}.downsample.1", f"{name}.downsample"))
        return names
