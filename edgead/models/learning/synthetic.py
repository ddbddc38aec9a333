"""Defects made up for training: pictures -> pictures with something on them, and where.

What a method learns from them it must not be judged by: INT8, thresholds and input sizes are judged by other ones, drawn in
another way (:mod:`edgead.calibration.judging.defects`).

A square of one colour teaches "brighter or darker than usual", which mere light is as well. So half of all draws of every kind
here leave the mean of what they cover as it was. Nor are there colours on pictures that have none.

Everything random is drawn on the CPU, so that a seed gives the same defects on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.errors import BadInput
from edgead.models.learning.outside import draw_picture

Synthetic = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""float32 N x 3 x H x W, 0 to 255 (any channel order) -> the same with a defect on each picture, and float32 N x 1 x H x W: 1
where the defect is, else 0. The given batch stays."""

LEAST_PX = 16
"""Smallest side of a picture that defects are drawn onto."""


def confetti(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coloured squares, many small ones or a few big ones, added to the picture (Liznerski et al. 2021, FCDD).

    Sides are 1 to 2 % of the picture's (at least 2 px), and up to a fifth for big ones. A square that leaves the mean is light in
    one half and dark in the other.
    """
    height, width = _sides(batch)
    side, out, mask = min(height, width), batch.clone(), _nothing(batch)
    for i in range(len(batch)):
        big, even = _below(2, generator) == 0, _below(2, generator) == 0
        for _ in range(1 + _below(3 if big else 12, generator)):
            low, high = (max(3, side // 20), max(4, side // 5)) if big else (2, max(3, side // 50))
            length = low + _below(high - low + 1, generator)
            top, left = _below(height - length + 1, generator), _below(width - length + 1, generator)
            place = (i, slice(None), slice(top, top + length), slice(left, left + length))
            grey = bool((batch[i] == batch[i][:1]).all()) or _below(2, generator) == 0
            colour = (torch.rand(1 if grey else 3, 1, 1, generator=generator) * 2 - 1) * 255
            sign = torch.ones(length, length)
            if even:
                sign = _halves(length, length)
                sign = sign.T if _below(2, generator) == 0 else sign
                room = batch[place].mean().clamp(0, 255)
                colour = colour * (torch.minimum(room, 255 - room).cpu() / 255)  # so that hardly anything is cut off
            out[place] += (colour * sign).to(batch.device)
            mask[place] = 1
    return _finished(out, batch), mask


def cut_paste(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A block of the picture, turned and in another light, at another place, with hard edges (Li et al. 2021, CutPaste)."""
    return _pasted(batch, generator, feather=0.0)


def smooth_blend(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same with edges that fade (Zou et al. 2022, SPot-the-Difference): small changes that a contrast to the whole picture
    does not show."""
    return _pasted(batch, generator, feather=0.25)


def stripes(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One to three bars of another light, upright or level, as wide as 1/64 to 1/16 of the picture (the masks of Yan et al. 2021,
    SCADN, as defects). A bar that leaves the mean is light on one side and dark on the other."""
    height, width = _sides(batch)
    out, mask = batch.clone(), _nothing(batch)
    for i in range(len(batch)):
        level, even = _below(2, generator) == 0, _below(2, generator) == 0
        along, across = (width, height) if level else (height, width)
        for _ in range(1 + _below(3, generator)):
            thick = max(2, int(across * _between(1 / 64, 1 / 16, generator)))
            length = int(along * _between(0.2, 1.0, generator))
            start, first = _below(along - length + 1, generator), _below(across - thick + 1, generator)
            rows, columns = slice(first, first + thick), slice(start, start + length)
            place = (i, slice(None), rows, columns) if level else (i, slice(None), columns, rows)
            light = _between(30, 160, generator) * (1 if _below(2, generator) else -1)
            bar = light * (_halves(thick, length) if even else torch.ones(thick, length))
            out[place] += (bar if level else bar.T).to(batch.device)
            mask[place] = 1
    return _finished(out, batch), mask


def perlin(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texture of something else, shown through a mask of gradient noise (Zavrtanik et al. 2021, DRAEM).

    The paper takes pictures of textures; here they are drawn (:func:`edgead.models.learning.outside.draw_picture`), or the
    picture itself, mirrored and shifted, or in another light (a stain). What shows through is 0.1 to 0.8 of the picture, as in
    the paper.
    """
    height, width = _sides(batch)
    out, mask = batch.clone(), _nothing(batch)
    for i in range(len(batch)):
        scale = [2 ** _below(max(1, int(math.log2(min(length, 256))) - 2), generator) for length in (height, width)]
        noise = _perlin_noise((height, width), (scale[0], scale[1]), generator)
        angle = _below(4, generator)
        noise = noise if angle % 2 else noise.flip(0)
        where = (noise > 0.5).float()
        if not bool(where.any()):
            where = (noise >= noise.max() * 0.8).float()
        where = where.to(batch.device)
        other = _texture(batch[i], generator)
        if _below(2, generator) == 0:
            other = _balanced(other, batch[i], where)
        share = _between(0.1, 0.8, generator)
        out[i] = batch[i] * (1 - where) + where * ((1 - share) * other + share * batch[i])
        mask[i] = where
    return _finished(out, batch), mask


KINDS: Mapping[str, Synthetic] = {
    "confetti": confetti, "cut_paste": cut_paste, "smooth_blend": smooth_blend, "stripes": stripes, "perlin": perlin,
}  # fmt: skip


def mixed(kinds: Sequence[str]) -> Synthetic:
    """Each picture gets a defect of one of these kinds.

    Raises:
        BadInput: an unknown kind, or none.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise BadInput(f"unknown synthetic defects {unknown[0]!r}", hint=f"choose from {', '.join(KINDS)}")
    if not kinds:
        raise BadInput("no kind of synthetic defects is named", hint=f"choose from {', '.join(KINDS)}")

    def draw(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = [KINDS[kinds[_below(len(kinds), generator)]](batch[i : i + 1], generator) for i in range(len(batch))]
        return torch.cat([one for one, _ in drawn]), torch.cat([mask for _, mask in drawn])

    return draw


def _pasted(batch: Tensor, generator: torch.Generator, feather: float) -> tuple[Tensor, Tensor]:
    """`feather`: how far an edge fades, as a share of the block's shorter side."""
    height, width = _sides(batch)
    out, mask = batch.clone(), _nothing(batch)
    for i in range(len(batch)):
        area, aspect = _between(0.002, 0.04, generator) * height * width, math.exp(_between(-1.2, 1.2, generator))
        h = min(max(4, round(math.sqrt(area / aspect))), height // 2)
        w = min(max(4, round(math.sqrt(area * aspect))), width // 2)
        top, left = _below(height - h + 1, generator), _below(width - w + 1, generator)
        y, x = _below(height - h + 1, generator), _below(width - w + 1, generator)
        block = batch[i][:, top : top + h, left : left + w]
        block = [block, block.flip(1), block.flip(2), block.flip(1, 2)][_below(4, generator)]
        alpha = _faded((h, w), feather).to(batch.device)
        there = batch[i][:, y : y + h, x : x + w]
        middle, gain = block.mean((1, 2), keepdim=True), _between(0.6, 1.5, generator)
        tint = torch.rand(3, 1, 1, generator=generator).to(batch.device) * 60 - 30
        jittered = (block - middle) * gain + middle + tint
        if _below(2, generator) == 0:
            jittered = _balanced(jittered, there, torch.ones(h, w, device=batch.device))
        out[i][:, y : y + h, x : x + w] = there + alpha * (jittered - there)
        mask[i][:, y : y + h, x : x + w] = (alpha > 0.1).float()
    return _finished(out, batch), mask


def _finished(out: Tensor, batch: Tensor) -> Tensor:
    """As a camera gives it: 0 to 255, and without colours where the picture has none, which would give every defect away."""
    apart = (batch - batch.mean(1, keepdim=True)).abs().amax((1, 2, 3), keepdim=True)
    return torch.where(apart < 0.5, out.mean(1, keepdim=True), out).clamp(0, 255)


def _halves(height: int, width: int) -> Tensor:
    """-1 in the upper half, 1 in the lower one, 0 in a middle row: no light in all."""
    sign = torch.zeros(height, width)
    sign[: height // 2], sign[height - height // 2 :] = -1, 1
    return sign


def _faded(size: tuple[int, int], feather: float) -> Tensor:
    """1 in the middle of a block, falling to 0 at its edges on half a cosine."""
    reach = feather * min(size)
    ramps = []
    for length in size:
        from_edge = torch.minimum(torch.arange(length) + 0.5, length - torch.arange(length) - 0.5)
        ramps.append(0.5 - 0.5 * torch.cos(math.pi * (from_edge / reach).clamp(max=1)) if reach else torch.ones(length))
    return ramps[0][:, None] * ramps[1][None]


def _balanced(other: Tensor, picture: Tensor, where: Tensor) -> Tensor:
    """`other` (3 x h x w) with the mean that `picture` has in each channel `where` (h x w) it is shown."""
    area = where.sum().clamp_min(1)
    return other + ((picture - other) * where).sum((1, 2), keepdim=True) / area


def _texture(picture: Tensor, generator: torch.Generator) -> Tensor:
    """A texture of the size of a picture (3 x H x W)."""
    height, width = int(picture.shape[1]), int(picture.shape[2])
    kind = _below(3, generator)
    if kind == 0:
        shifts = (_below(height, generator), _below(width, generator))
        return picture.flip(1 + _below(2, generator)).roll(shifts, (1, 2))
    if kind == 1:
        light = _between(0.2, 0.8, generator)
        return picture * light if _below(3, generator) else 255 - (255 - picture) * light  # mostly darker
    drawn = draw_picture(128, np.random.default_rng(_below(2**31 - 1, generator)))
    found = torch.from_numpy(drawn).permute(2, 0, 1)[None].float().to(picture.device)
    return F.interpolate(found, (height, width), mode="bilinear", align_corners=False)[0]


def _perlin_noise(size: tuple[int, int], cells: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Gradient noise (Perlin 1985) of about -1 to 1 with so many cells down and across: h x w."""
    angles = 2 * math.pi * torch.rand(cells[0] + 1, cells[1] + 1, generator=generator)
    y, x = ((torch.arange(length) + 0.5) * count / length for length, count in zip(size, cells, strict=True))
    row, column = y.floor().long(), x.floor().long()
    v, u = (y - row)[:, None], (x - column)[None]
    corners = []
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        angle = angles[row + down][:, column + right]
        corners.append(torch.cos(angle) * (u - right) + torch.sin(angle) * (v - down))
    fade_v, fade_u = (t * t * t * (t * (t * 6 - 15) + 10) for t in (v, u))
    upper = corners[0] + fade_u * (corners[1] - corners[0])
    lower = corners[2] + fade_u * (corners[3] - corners[2])
    return math.sqrt(2) * (upper + fade_v * (lower - upper))


def _sides(batch: Tensor) -> tuple[int, int]:
    height, width = int(batch.shape[2]), int(batch.shape[3])
    if min(height, width) < LEAST_PX:
        raise BadInput(f"defects cannot be drawn onto pictures of {width} x {height} px", hint=f"{LEAST_PX} px or more a side")
    return height, width


def _nothing(batch: Tensor) -> Tensor:
    return torch.zeros(len(batch), 1, *batch.shape[2:], device=batch.device)


def _below(count: int, generator: torch.Generator) -> int:
    """0 to count - 1."""
    return int(torch.randint(count, (1,), generator=generator))


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))
