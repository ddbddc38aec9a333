"""Teachers of the paper's patch networks: they learn to describe a patch as a larger, pretrained network does (section 3.1).

Loss: the distance of a linear decoding of the teacher's numbers to the network's (knowledge distillation), and the correlation
between the teacher's numbers over a batch (compactness). The paper's triplet loss, the third one, is not built.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.families.contract import FitData
from edgead.families.efficientad.network import load_teacher
from edgead.families.efficientad.pdn import TEACHER_CHANNELS, build_pdn
from edgead.families.students.network import PDN
from edgead.families.students.options import StudentsOptions
from edgead.families.students.patchnets import patch_network
from edgead.models.backbones import TORCHVISION_MEAN, TORCHVISION_STD, load_backbone
from edgead.models.learning.outside import Outside
from edgead.models.learning.steps import run
from edgead.models.rows import to_pixels

WHOLE = 8
"""The stride of a patch network that keeps all of its poolings: what it says of a patch is one vector."""

RESNET_PX = 64
"""Patches are enlarged to this side before ResNet-18 describes them."""

Describe = Callable[[Tensor], Tensor]


def distilled(side: int, data: FitData, options: StudentsOptions, generator: torch.Generator) -> dict[str, Tensor]:
    """The weights of a trained teacher of patches of `side` px. It tells the stage "teacher of SIDE px".

    Raises:
        BadInput: unusable weights or outside pictures, or the training diverged.
    """
    outside, describe, numbers = Outside(options.outside), *_described_by(options, data.device)
    network = patch_network(side, options.channels, WHOLE).to(data.device)
    decoder = nn.Linear(options.channels, numbers).to(data.device)
    both = nn.ModuleList([network, decoder])
    optimizer = torch.optim.Adam(both.parameters(), options.teacher_lr, weight_decay=options.weight_decay)

    def step(i: int) -> float:
        rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator)))
        pixels = to_pixels([outside.crop(side, rng) for _ in range(options.teacher_batch)]).to(data.device)
        with torch.no_grad():
            wanted = describe(pixels)
        said = network(_normalized(pixels)).flatten(2)[..., 0]
        loss = (decoder(said) - wanted).square().mean() + compactness(said)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    run(
        step, options.teacher_steps, {"both": both, "optimizer": optimizer}, generator, report=data.report,
        checkpoint=data.checkpoint, stage=f"teacher of {side} px", curves=data.curves,
    )  # fmt: skip
    return network.state_dict()


def compactness(said: Tensor) -> Tensor:
    """Mean absolute correlation of different channels over a batch, N x d."""
    centred = said - said.mean(0)
    unit = centred / centred.norm(dim=0).clamp_min(1e-6)
    correlation = unit.T @ unit
    off: Tensor = correlation.abs().sum() - correlation.diagonal().abs().sum()
    return off / (said.shape[1] * (said.shape[1] - 1))


def _described_by(options: StudentsOptions, device: str) -> tuple[Describe, int]:
    """What describes patches (pixels N x 3 x s x s -> N x numbers, about 1 large), and how many numbers it says."""
    if options.taught_by == "resnet18":
        backbone = load_backbone("resnet18", ("layer4",), options.weights).to(device)
        numbers = backbone.channels[0]
        return lambda pixels: backbone(_sized(pixels, RESNET_PX))[0].mean((2, 3)), numbers
    pdn = build_pdn("small")
    pdn.load_state_dict(load_teacher(None, "small"))
    pdn.to(device).eval()
    return lambda pixels: pdn(_normalized(_sized(pixels, PDN.side)))[:, :, 0, 0], TEACHER_CHANNELS


def _sized(pixels: Tensor, side: int) -> Tensor:
    return pixels if pixels.shape[-1] == side else F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False)


def _normalized(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (TORCHVISION_MEAN, TORCHVISION_STD))
    return (pixels - mean) / std
