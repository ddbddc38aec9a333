"""DINOv2 vision transformers with registers, ViT-S/14 and ViT-B/14, as extractors of patch features.

Sources: ViT (Dosovitskiy et al. 2021); DINOv2 (Oquab et al. 2023); "Vision Transformers Need Registers" (Darcet et al. 2024).
Everything that the picture's size decides is decided when the model is built (:meth:`DinoV2.fix_size`), so the graph is static.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.models.backbones.base import TORCHVISION_MEAN, TORCHVISION_STD, Backbone, Shape, State, layer_index
from edgead.published import check_side

PATCH = 14
REGISTERS = 4
DEPTH = 12
TRAINED_GRID = 37
"""Patches along each side of the pictures it was trained on (518 px)."""

_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class _Plan:
    width: int
    heads: int


PLANS = {"dinov2_vits14_reg": _Plan(384, 6), "dinov2_vitb14_reg": _Plan(768, 12)}


class VitBlock(nn.Module):
    """Attention and a two-layer network, each after a layer norm and added to what went in: N x T x C -> N x T x C.

    LayerScale (Touvron et al. 2021) is folded into the layer before it, and the attention's 1 / sqrt(64) into the queries,
    which is exact.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, _EPS), nn.LayerNorm(width, _EPS)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        query, key, value = (self._split(layer(y)) for layer in (self.query, self.key, self.value))  # N x heads x T x 64
        attention = torch.matmul(query, key.transpose(2, 3)).softmax(3)
        x = x + self.out(torch.matmul(attention, value).transpose(1, 2).flatten(2))
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class DinoV2(Backbone):
    """DINOv2 up to the deepest of `layers` ("blocks.0" to "blocks.11").

    A layer's features are the tokens of the patches after that block and the network's last layer norm (the publisher's
    ``get_intermediate_layers`` with its defaults): C x H/14 x W/14, C being 384 (S) or 768 (B). Class and register tokens take
    part in the attention and are then left out. H and W must be multiples of 14.
    """

    patch_features = "tokens"
    surplus = r"mask_token|head\..+"

    def __init__(self, name: str = "dinov2_vits14_reg", layers: Sequence[str] = ("blocks.11",)) -> None:
        super().__init__(name, layers, TORCHVISION_MEAN, TORCHVISION_STD)
        plan = PLANS[name]
        choices = f"blocks.0 to blocks.{DEPTH - 1}"
        self.wanted = [layer_index(layer, r"blocks\.(\d{1,3})", name, choices, DEPTH - 1) for layer in layers]
        self.patch = nn.Conv2d(3, plan.width, PATCH, PATCH)
        self.first = nn.Parameter(torch.zeros(1, 1 + REGISTERS, plan.width))  # class token with its position, registers
        self.position = nn.Parameter(torch.zeros(1, plan.width, TRAINED_GRID, TRAINED_GRID))
        self.blocks = nn.ModuleList([VitBlock(plan.width, plan.heads) for _ in range(max(self.wanted) + 1)])
        self.norm = nn.LayerNorm(plan.width, _EPS)
        self.channels = (plan.width,) * len(layers)
        self.fixed = False

    def forward(self, pixels: Tensor) -> list[Tensor]:
        patches = self.patch(self.normalize(pixels))
        height, width = self._grid((int(pixels.shape[2]), int(pixels.shape[3])))
        tokens = (patches + self._positions(height, width)).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], 1)
        outputs: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.wanted:
                y = self.norm(x[:, 1 + REGISTERS :])
                outputs[i] = y.transpose(1, 2).reshape(y.shape[0], -1, height, width)
        return [outputs[i] for i in self.wanted]

    def fix_size(self, image_size: tuple[int, int]) -> None:
        """Put the position embedding on the grid of such pictures for good."""
        height, width = self._grid(image_size)
        with torch.no_grad():
            self.position = nn.Parameter(self._positions(height, width).clone(), self.position.requires_grad)
        self.fixed = True

    def _grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        check_side(self.name, image_size[1], image_size[0])
        return image_size[0] // PATCH, image_size[1] // PATCH

    def _positions(self, height: int, width: int) -> Tensor:
        """1 x C x h x w: bicubic with antialiasing, as the publisher does it for the networks with registers."""
        if tuple(self.position.shape[2:]) == (height, width):
            return self.position
        if self.fixed:
            fixed = " x ".join(str(PATCH * side) for side in reversed(self.position.shape[2:]))
            raise BadInput(f"this {self.name} was built for pictures of {fixed} px", hint="give it pictures of that size")
        return F.interpolate(self.position, (height, width), mode="bicubic", antialias=True)

    def entries(self) -> dict[str, Shape]:
        """As in the publisher's ``dinov2_vits14_reg4_pretrain.pth``."""
        width = int(self.first.shape[2])
        found: dict[str, Shape] = {
            "cls_token": (1, 1, width), "register_tokens": (1, REGISTERS, width), "pos_embed": (1, 1 + TRAINED_GRID**2, width),
            "patch_embed.proj.weight": (width, 3, PATCH, PATCH), "patch_embed.proj.bias": (width,),
            "norm.weight": (width,), "norm.bias": (width,),
        }  # fmt: skip
        for i in range(len(self.blocks)):
            at = f"blocks.{i}."
            for norm in ("norm1", "norm2"):
                found |= {f"{at}{norm}.weight": (width,), f"{at}{norm}.bias": (width,)}
            for layer, outputs, inputs in (
                ("attn.qkv", 3 * width, width), ("attn.proj", width, width),
                ("mlp.fc1", 4 * width, width), ("mlp.fc2", width, 4 * width),
            ):  # fmt: skip
                found |= {f"{at}{layer}.weight": (outputs, inputs), f"{at}{layer}.bias": (outputs,)}
            found |= {f"{at}ls1.gamma": (width,), f"{at}ls2.gamma": (width,)}
        return found

    def whole(self) -> Backbone:
        with torch.device("meta"):
            return DinoV2(self.name, (f"blocks.{DEPTH - 1}",))

    def renamed(self, state: State) -> State:
        """From the names of timm (``vit_small_patch14_reg4_dinov2``) or transformers (``Dinov2WithRegistersModel``)."""
        if "reg_token" in state:
            return _from_timm(state)
        prefixes = [key.removesuffix("embeddings.register_tokens") for key in state if key.endswith("embeddings.register_tokens")]
        return _from_transformers(state, prefixes[0]) if len(prefixes) == 1 else state

    def folded(self, state: State) -> dict[str, Tensor]:
        position = state["pos_embed"].float()
        patches = position[:, 1:].transpose(1, 2).reshape(1, -1, TRAINED_GRID, TRAINED_GRID)
        first = torch.cat([state["cls_token"] + position[:, :1], state["register_tokens"]], 1)
        folded: dict[str, Tensor] = {
            "first": first, "position": self._resized(patches),
            **{f"patch.{part}": state[f"patch_embed.proj.{part}"] for part in ("weight", "bias")},
            **{f"norm.{part}": state[f"norm.{part}"] for part in ("weight", "bias")},
        }  # fmt: skip
        for i, block in enumerate(self.blocks):
            assert isinstance(block, VitBlock)
            old, new = f"blocks.{i}.", f"blocks.{i}."
            for part in ("weight", "bias"):
                query, key, value = state[f"{old}attn.qkv.{part}"].chunk(3)
                folded |= {f"{new}query.{part}": query * (1.0 / math.sqrt(len(query) // block.heads))}
                folded |= {f"{new}key.{part}": key, f"{new}value.{part}": value}
                folded |= {f"{new}{norm}.{part}": state[f"{old}{norm}.{part}"] for norm in ("norm1", "norm2")}
                folded[f"{new}fc1.{part}"] = state[f"{old}mlp.fc1.{part}"]
                for layer, name, scale in (("out", "attn.proj", "ls1"), ("fc2", "mlp.fc2", "ls2")):
                    gamma = state[f"{old}{scale}.gamma"]
                    weight = state[f"{old}{name}.{part}"]
                    folded[f"{new}{layer}.{part}"] = weight * gamma.view(-1, *[1] * (weight.ndim - 1))
        return folded

    def _resized(self, patches: Tensor) -> Tensor:
        height, width = self.position.shape[2:]
        if (height, width) == (TRAINED_GRID, TRAINED_GRID):
            return patches
        return F.interpolate(patches, (height, width), mode="bicubic", antialias=True)


def _from_timm(state: State) -> dict[str, Tensor]:
    """timm adds the class token's position to it, and keeps positions of patches only."""
    renamed = {"register_tokens" if key == "reg_token" else key: tensor for key, tensor in state.items()}
    if (position := renamed.get("pos_embed")) is not None and position.ndim == 3:
        renamed["pos_embed"] = torch.cat([torch.zeros_like(position[:, :1]), position], 1)
    return renamed


_TRANSFORMERS = {
    "embeddings.cls_token": "cls_token", "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "register_tokens", "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight", "layernorm.bias": "norm.bias",
    "classifier.weight": "head.weight", "classifier.bias": "head.bias",
}  # fmt: skip
_TRANSFORMERS_LAYER = {
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}


def _from_transformers(state: State, prefix: str) -> dict[str, Tensor]:
    """Queries, keys and values become one table; the rest is renamed. What is not known keeps its name, and is refused later."""
    renamed: dict[str, Tensor] = {}
    plain = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    for key, tensor in plain.items():
        if not key.startswith("encoder.layer."):
            renamed[_TRANSFORMERS.get(key, key)] = tensor
            continue
        number, _, rest = key.removeprefix("encoder.layer.").partition(".")
        at = f"blocks.{number}."
        if rest.startswith("attention.attention.query."):
            part = rest.rpartition(".")[2]
            names = [f"encoder.layer.{number}.attention.attention.{one}.{part}" for one in ("query", "key", "value")]
            parts = [plain[name] for name in names if name in plain]
            if len(parts) == len(names) and len({one.shape for one in parts}) == 1:
                renamed[f"{at}attn.qkv.{part}"] = torch.cat(parts)
        elif not rest.startswith(("attention.attention.key.", "attention.attention.value.")):
            for old, new in _TRANSFORMERS_LAYER.items():
                rest = rest.replace(old, new)
            renamed[f"{at}{rest}"] = tensor
    return renamed
