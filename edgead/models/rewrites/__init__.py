"""Rewrites: named changes of a trained detector that give the same answers with less work, or nearly the same with much less.

*Exact* rewrites give the master's answers up to float rounding. They are on by default, each is checked against the detector
before it, and `--no-rewrite NAME` leaves one out. *Lossy* ones (a lower rank, a smaller bank) run only when they are asked for,
by `--rewrite NAME=VALUE` or by the budget search, and are judged like an INT8 engine: against the trained model, within limits.

The trained model on the disk stays as it is: a bundle's manifest tells which rewrites were applied, with their settings, and the
same rewrites of the same model and calibration pictures give the same graph again. Which there are for a family, and how they are
applied: :mod:`edgead.families.rewriting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgead.models.detector import Detector
from edgead.types import Image

Setting = bool | int | float | str
"""JSON-able; True for rewrites that have nothing to choose."""


@dataclass(frozen=True, slots=True)
class Material:
    """What fitted rewrites may look at: `batches` gives float32 N x 3 x H x W pixels (RGB, 0 to 255) of good pictures, the same
    ones each time it is called."""

    batches: Callable[[], Iterator[Tensor]]

    @classmethod
    def of(cls, images: Sequence[Image], batch: int = 4) -> Material:
        """From good pictures at model size, H x W x 3 uint8 BGR."""

        def batches() -> Iterator[Tensor]:
            for start in range(0, len(images), batch):
                stacked = np.stack(images[start : start + batch])
                yield torch.from_numpy(stacked).to(torch.float32).permute(0, 3, 1, 2).flip(1)

        return cls(batches)


def _nothing(config: Mapping[str, Any]) -> tuple[Setting, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rewrite. It is for the family in whose room it lies, or for all of them (:mod:`edgead.models.rewrites.maps`).

    Attributes:
        name: how it is asked for.
        exact: gives the same answers up to rounding.
        summary: one line for the user.
        parse: the text of ``NAME=VALUE`` -> setting; raises ValueError when it is none.
        apply: (detector, setting, material) -> a new detector, the given one untouched; None when there is nothing to do.
        default: setting of an exact rewrite that is applied unless it is left out; None: only when asked for.
        tries: config of the trained detector -> settings that a search tries, each faster and less exact than the one before:
            those between which accuracy was seen to move (docs/budget.md); none where there is nothing to gain.
    """

    name: str
    exact: bool
    summary: str
    parse: Callable[[str], Setting]
    apply: Callable[[Detector, Setting, Material], Detector | None]
    default: Setting | None = None
    tries: Callable[[Mapping[str, Any]], tuple[Setting, ...]] = _nothing


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one rewrite: `error` is what it added to score and map relative to the maps' range on the checked pictures;
    `kept` is False when an exact one was not exact here."""

    name: str
    setting: Setting
    exact: bool
    error: float
    kept: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
