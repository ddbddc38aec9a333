"""Rewrites: named changes of a trained detector that give the same answers with less work, or nearly the same with much less.

*Exact* rewrites give the master's answers up to float rounding. They are on by default, each is checked against the detector
before it, and `--no-rewrite NAME` leaves one out. *Lossy* ones (a lower rank, a smaller bank) run only when they are asked for,
by `--rewrite NAME=VALUE` or by the budget search, and are judged like an INT8 engine: against the trained model, within limits.

The trained model on the disk stays as it is: a bundle's manifest tells which rewrites were applied, with their settings, and the
same rewrites of the same model and calibration pictures give the same graph again.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.models.detector import Detector
from edgead.types import Image

Setting = bool | int | float | str
"""JSON-able; True for rewrites that have nothing to choose."""

EXACT_LIMIT = 1e-4
"""Largest error that an exact rewrite may add to score and map, relative to the range of the maps on the checked pictures."""

_CHECKED = 2


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


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rewrite.

    Attributes:
        name: how it is asked for.
        families: the model families that it is for.
        exact: gives the same answers up to rounding.
        summary: one line for the user.
        parse: the text of ``NAME=VALUE`` -> setting; raises ValueError when it is none.
        apply: (detector, setting, material) -> a new detector, the given one untouched; None when there is nothing to do.
        default: setting of an exact rewrite that is applied unless it is left out; None: only when asked for.
    """

    name: str
    families: tuple[str, ...]
    exact: bool
    summary: str
    parse: Callable[[str], Setting]
    apply: Callable[[Detector, Setting, Material], Detector | None]
    default: Setting | None = None


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


_MODULES = ("edgead.models.rewrites.patches", "edgead.families.efficientad.rewrites", "edgead.models.rewrites.maps")
"""Each has `REWRITES`, a tuple of Rewrite; they are applied in this order."""


def known() -> tuple[Rewrite, ...]:
    """All rewrites, in the order in which they are applied."""
    return tuple(rewrite for module in _MODULES for rewrite in importlib.import_module(module).REWRITES)


def plan_for(family: str, asked: Mapping[str, Setting], left_out: Iterable[str] = ()) -> dict[str, Setting]:
    """The rewrites to apply: those that are on by default and those asked for, in order.

    Raises:
        BadInput: a name is unknown, is not for this family, or is both asked for and left out.
    """
    rewrites = {rewrite.name: rewrite for rewrite in known()}
    for name in (*asked, *left_out):
        if name not in rewrites or family not in rewrites[name].families:
            usable = ", ".join(n for n, r in rewrites.items() if family in r.families)
            raise BadInput(f"there is no rewrite {name!r} for {family} models", hint=f"known for it: {usable or 'none'}")
    if both := set(asked) & set(left_out):
        raise BadInput(f"the rewrite {min(both)!r} is both asked for and left out", hint="give one of the two")
    plan: dict[str, Setting] = {}
    for name, rewrite in rewrites.items():
        if name in asked:
            plan[name] = asked[name]
        elif rewrite.default is not None and family in rewrite.families and name not in set(left_out):
            plan[name] = rewrite.default
    return plan


def parse(texts: Iterable[str]) -> dict[str, Setting]:
    """``NAME=VALUE`` or ``NAME`` each -> settings.

    Raises:
        BadInput: unknown name or unusable value.
    """
    rewrites = {rewrite.name: rewrite for rewrite in known()}
    settings: dict[str, Setting] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in rewrites:
            raise BadInput(f"there is no rewrite {name!r}", hint=f"known: {', '.join(rewrites)}")
        try:
            settings[name] = rewrites[name].parse(value)
        except ValueError as error:
            raise BadInput(f"{text!r} is not usable: {error}", hint=f"{name}: {rewrites[name].summary}") from error
    return settings


def rewrite(detector: Detector, plan: Mapping[str, Setting], material: Material) -> tuple[Detector, tuple[Applied, ...]]:
    """Apply a plan of :func:`plan_for`, each rewrite checked against the detector before it.

    A detector behind another one (`inner`: resized, tiled) is rewritten where it stands; such a wrapper has `inner_pixels`, which
    gives the inner detector's pixels for its own.

    Raises:
        BadInput: a setting does not suit this detector.
    """
    rewrites = {one.name: one for one in known()}
    applied: list[Applied] = []
    with torch.no_grad():
        for name, setting in plan.items():
            changed = _apply(detector, rewrites[name], setting, material)
            if changed is None:
                continue
            error = _difference(detector, changed, material)
            kept = not rewrites[name].exact or error <= EXACT_LIMIT
            applied.append(Applied(name, setting, rewrites[name].exact, error, kept))
            detector = changed if kept else detector
    return detector, tuple(applied)


def _apply(detector: Detector, one: Rewrite, setting: Setting, material: Material) -> Detector | None:
    inner = getattr(detector, "inner", None)
    if inner is None:
        changed = one.apply(detector, setting, material)
        return None if changed is None else changed.eval().requires_grad_(False)
    inner_pixels: Any = detector.inner_pixels
    inside = Material(lambda: map(inner_pixels, material.batches()))
    changed = _apply(inner, one, setting, inside)
    if changed is None:
        return None
    memo = {id(inner): changed}  # the copy gets the changed one in the place of the old
    return copy.deepcopy(detector, memo)


def _difference(before: Detector, after: Detector, material: Material) -> float:
    pixels = torch.cat([batch for _, batch in zip(range(_CHECKED), material.batches(), strict=False)])[:_CHECKED]
    (old_map, old_score), (new_map, new_score) = before.detect(pixels), after.detect(pixels)
    if new_map.shape != old_map.shape:  # a map at another resolution: the score tells
        new_map = old_map
    reach = float(old_map.max() - old_map.min()) or 1.0
    worst = max(float((new_map - old_map).abs().max()), float((new_score - old_score).abs().max())) / reach
    return worst if np.isfinite(worst) else float("inf")
