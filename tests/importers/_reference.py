"""References that share no code with edgead: ResNet-18 in torchvision's layout and the steps of the papers' repositories."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def resnet18_state(seed: int = 0) -> dict[str, Tensor]:
    """Random weights with torchvision's names, up to layer3, with values that keep activations near 1."""
    g = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def conv(name: str, out: int, into: int, k: int) -> None:
        state[f"{name}.weight"] = torch.randn(out, into, k, k, generator=g) * (1.6 / (into * k * k) ** 0.5)

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = 0.8 + 0.4 * torch.rand(channels, generator=g)
        state[f"{name}.bias"] = 0.2 * torch.randn(channels, generator=g)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(channels, generator=g)
        state[f"{name}.running_var"] = 0.7 + 0.6 * torch.rand(channels, generator=g)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    into = 64
    for stage, width in ((1, 64), (2, 128), (3, 256)):
        for block in range(2):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", width, into, 3)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width)
            if into != width:
                conv(f"{name}.downsample.0", width, into, 1)
                norm(f"{name}.downsample.1", width)
            into = width
    return state


def resnet18(state: dict[str, Tensor], x: Tensor, layers: tuple[str, ...]) -> list[Tensor]:
    """Outputs of the layers for normalised pictures."""

    def norm(x: Tensor, name: str) -> Tensor:
        s = state
        return F.batch_norm(x, s[f"{name}.running_mean"], s[f"{name}.running_var"], s[f"{name}.weight"], s[f"{name}.bias"])

    x = F.relu(norm(F.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    found = {}
    for stage in (1, 2, 3):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            y = norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in state:
                x = norm(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1")
            x = F.relu(x + y)
        found[f"layer{stage}"] = x
    return [found[layer] for layer in layers]


def normalised(image: npt.NDArray[np.uint8]) -> Tensor:
    """H x W x 3 uint8 BGR -> 1 x 3 x H x W as torchvision's ToTensor and Normalize give it."""
    rgb = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1])).permute(2, 0, 1)[None].float() / 255
    return (rgb - MEAN) / STD


def binned_patches(maps: list[Tensor], layer_bins: int, channels: int) -> Tensor:
    """Patches as in patchcore-inspection: unfold 3 x 3, resize to the first grid, adaptive pooling twice. P x channels."""
    grid = maps[0].shape[-2:]
    columns = []
    for x in maps:
        unfolded = F.unfold(x, 3, padding=1).view(1, -1, *x.shape[-2:])
        resized = F.interpolate(unfolded, grid, mode="bilinear", align_corners=False)
        rows = resized.flatten(2)[0].T  # P x 9 C
        columns.append(F.adaptive_avg_pool1d(rows[:, None], layer_bins)[:, 0])
    return F.adaptive_avg_pool1d(torch.stack(columns, 1).flatten(1)[:, None], channels)[:, 0]


def smoothed(patch_scores: Tensor, size: int) -> npt.NDArray[np.float32]:
    """Bilinear to size x size, then a Gaussian of 4 pixels cut at 16 with mirrored borders, by plain convolution in numpy."""
    whole = F.interpolate(patch_scores[None, None], (size, size), mode="bilinear", align_corners=False)[0, 0].numpy()
    steps = np.arange(-16, 17)
    kernel = np.exp(-0.5 * (steps / 4.0) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(whole, [(16, 16) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
        whole = np.apply_along_axis(lambda line: np.convolve(line, kernel, mode="valid"), axis, padded)
    return whole.astype(np.float32)


def pictures(count: int, size: int, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    """Smooth random pictures, H x W x 3 uint8."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=g) * 255
    fine = F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255) + 8 * torch.randn(count, 3, size, size, generator=g)
    return [np.ascontiguousarray(p) for p in fine.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()]
