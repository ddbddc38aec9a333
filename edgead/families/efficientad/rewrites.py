"""Rewrites of EfficientAD (docs/rewrites.md). All work on a
:class:`edgead.families.efficientad.compact.CompactEfficientAd`, which the first of them makes; the others make it when that one
is left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.efficientad.compact import CompactEfficientAd
from edgead.families.efficientad.network import EfficientAd
from edgead.families.efficientad.pdn import TEACHER_CHANNELS
from edgead.models.detector import Detector
from edgead.models.rewrites import Material, Rewrite, Setting
from edgead.models.rewrites.settings import count, flag

PICTURES = 32
"""At most so many are fitted on."""

CROP_PX = 128
RANKS = (16, 32, 48, 64, 96, 128, 192, 256)
"""That `rotate=auto` chooses from."""

AUTO_ERROR = 0.02
"""Largest change of a picture's largest value, relative to it, that `rotate=auto` accepts on average."""


def _fold(detector: Detector, setting: Setting, material: Material) -> Detector | None:
    return CompactEfficientAd.of(detector) if isinstance(detector, EfficientAd) else None


def _first_conv(detector: Detector, setting: Setting, material: Material) -> Detector | None:
    compact = CompactEfficientAd.of(detector)
    return None if len(compact.trunks) == 1 or compact.stem is not None else compact.with_one_stem()


def _conv2(detector: Detector, setting: Setting, material: Material) -> Detector | None:
    compact = CompactEfficientAd.of(detector)
    pixels = torch.cat(_pictures(material))
    return compact.factorised("conv2", int(setting), _cropped(pixels).flip(1) - compact.mean)


def _rotate(detector: Detector, setting: Setting, material: Material) -> Detector | None:
    compact = CompactEfficientAd.of(detector)
    local, whole = zip(*(compact.differences(batch.flip(1)) for batch in _pictures(material)), strict=True)
    if setting == "auto":
        return compact.rotated(_auto_basis(local), _auto_basis(whole))
    ranks = _ranks(str(setting))
    return compact.rotated(_basis(_axes(local), ranks[0]), _basis(_axes(whole), ranks[1]))


def _axes(differences: Sequence[Tensor]) -> Tensor:
    """Orthonormal directions, C x C rows, from those that hold the largest share of a cell's energy down. Shares, since each cell
    may be the one that decides a score, however large the others are."""
    flat = [F.normalize(one.transpose(0, 1).flatten(1), dim=0) for one in differences]
    moment = torch.stack([one @ one.T for one in flat]).sum(0)
    axes: Tensor = torch.linalg.eigh(moment.double()).eigenvectors.flip(1).T.float()
    return axes


def _basis(axes: Tensor, rank: int) -> Tensor:
    """`rank` rows x C whose squared products with a difference add up to nearly its energy.

    Three quarters are the main directions. Leaving out the others would make every defect look smaller, and defects of a kind
    that good pictures do not show most of all. So the last quarter are sums of all other directions, each in one sum: since
    directions are uncorrelated, the energy of a sum is the sum of their energies on average (a count sketch). At full rank a
    sum is one direction, and nothing is lost.

    Raises:
        BadInput: there are not so many directions.
    """
    if rank > len(axes):
        raise BadInput(f"a rank of {rank} is more than the {len(axes)} there are", hint="start from the trained model")
    sums = max(1, rank // 4)
    rest = axes[rank - sums :]
    return torch.cat([axes[: rank - sums], *(rest[k::sums].sum(0, keepdim=True) for k in range(sums))])


def _auto_basis(differences: Sequence[Tensor]) -> Tensor:
    """The fewest rows that change each picture's largest energy by at most `AUTO_ERROR` on average; all of them if none do."""
    axes = _axes(differences)
    peaks = _peaks(differences, axes)
    for rank in RANKS:
        basis = _basis(axes, rank)
        if float(((_peaks(differences, basis) - peaks).abs() / peaks.clamp_min(1e-30)).mean()) <= AUTO_ERROR:
            return basis
    return axes


def _peaks(differences: Sequence[Tensor], basis: Tensor) -> Tensor:
    """Each picture's largest energy along the rows of a basis, N."""
    return torch.cat([torch.einsum("rc,nchw->nrhw", basis, one).square().sum(1).amax((1, 2)) for one in differences])


def _ranks(text: str) -> tuple[int, int]:
    """``"64"`` or ``"64,32"`` -> ranks of teacher minus student and of autoencoder minus student.

    Raises:
        ValueError: it is neither.
    """
    parts = text.split(",")
    if len(parts) > 2 or not all(part.isdigit() and 1 <= int(part) <= TEACHER_CHANNELS for part in parts):
        raise ValueError(f"give one rank or two from 1 to {TEACHER_CHANNELS}, as in 64 or 64,16, or auto")
    return int(parts[0]), int(parts[-1])


def _pictures(material: Material) -> list[Tensor]:
    """Good pictures, each with some disturbed places, RGB 0 to 255."""
    generator = torch.Generator().manual_seed(0)
    return [disturbed(batch, generator) for batch in islice(material.batches(), PICTURES // 4)]


def disturbed(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with six places each where they look as no good part does: another part of the picture, noise, a flat grey, a
    brighter or darker or inverted patch. What a rewrite keeps must hold there too, and good pictures alone do not show it.

    Args:
        pixels: float32 N x 3 x H x W, 0 to 255; it stays as it is.
    """
    pixels = pixels.clone()
    height, width = pixels.shape[2:]

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    for picture in pixels:
        for kind in range(6):
            h, w = (number(4, size // 5) for size in (height, width))
            tops, lefts = (number(0, height - h), number(0, height - h)), (number(0, width - w), number(0, width - w))
            place = picture[:, tops[0] : tops[0] + h, lefts[0] : lefts[0] + w]
            other = picture[:, tops[1] : tops[1] + h, lefts[1] : lefts[1] + w].flip(1)
            noise = torch.randn(place.shape, generator=generator) * 25.0
            grey = torch.full_like(place, float(number(0, 256)))
            changed = (
                other,
                place + noise,
                grey,
                place * (number(4, 17) / 10.0),
                255.0 - place,
                0.5 * (place + other) + noise / 2,
            )
            place.copy_(changed[kind].clamp(0.0, 255.0))
    return pixels


def _cropped(pixels: Tensor) -> Tensor:
    """One crop of each picture."""
    generator = torch.Generator().manual_seed(0)
    crops = []
    for picture in pixels:
        top, left = (int(torch.randint(0, size - CROP_PX + 1, (), generator=generator)) for size in picture.shape[1:])
        crops.append(picture[:, top : top + CROP_PX, left : left + CROP_PX])
    return torch.stack(crops)


def _parse_ranks(text: str) -> Setting:
    if text != "auto":
        _ranks(text)
    return text


REWRITES: tuple[Rewrite, ...] = (
    Rewrite(
        "fold", True, "normalisation, teacher statistics and quantiles in the weights; one map is enlarged, not two",
        flag, _fold, default=True,
    ),
    Rewrite("first_conv", True, "the first convolutions of teacher and student as one", flag, _first_conv),
    Rewrite("conv2", False, "the second convolution as two thin ones: conv2=64 channels between", count, _conv2,
        tries=lambda config: (96, 64, 48)),
    Rewrite(
        "rotate", False,
        "the last layers with fewer outputs of the same energy: rotate=64, rotate=64,16 (student, autoencoder) or rotate=auto",
        _parse_ranks, _rotate, tries=lambda config: ("128,32", "64,16", "48,16"),
    ),
)  # fmt: skip
