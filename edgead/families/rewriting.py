"""Which rewrites (:mod:`edgead.models.rewrites`) a family has, which of them a model gets, and that "exact" is checked."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import numpy as np
import torch

from edgead.errors import BadInput
from edgead.families import FAMILIES, find, names
from edgead.models.detector import Detector, Wrapper
from edgead.models.rewrites import Applied, Material, Rewrite, Setting, maps

EXACT_LIMIT = 1e-4
"""Largest error that an exact rewrite may add to score and map, relative to the range of the maps on the checked pictures."""

_CHECKED = 2


def known(family: str) -> tuple[Rewrite, ...]:
    """The rewrites for a family, in the order in which they are applied (errors as :func:`edgead.families.find`)."""
    entry = find(family)
    return (*entry.own_rewrites(), *(maps.REWRITES if entry.rewritten else ()))


def by_name(wanted: Iterable[str]) -> dict[str, Rewrite]:
    """All rewrites of all families. Those of other packages are read only for a wanted name that none of ours has."""
    found = {one.name: one for name in FAMILIES for one in FAMILIES[name].own_rewrites()}
    found |= {one.name: one for one in maps.REWRITES}
    if set(wanted) - set(found):
        others = [one for name in names() if name not in FAMILIES for one in find(name).own_rewrites()]
        found |= {one.name: one for one in others if one.name not in found}
    return found


def plan_for(family: str, asked: Mapping[str, Setting], left_out: Iterable[str] = ()) -> dict[str, Setting]:
    """The rewrites to apply: those that are on by default and those asked for, in order.

    Raises:
        BadInput: a name is unknown, is not for this family, or is both asked for and left out.
    """
    rewrites = {rewrite.name: rewrite for rewrite in known(family)}
    for name in (*asked, *left_out):
        if name not in rewrites:
            usable = ", ".join(rewrites) or "none"
            raise BadInput(f"there is no rewrite {name!r} for {family} models", hint=f"known for it: {usable}")
    if both := set(asked) & set(left_out):
        raise BadInput(f"the rewrite {min(both)!r} is both asked for and left out", hint="give one of the two")
    plan: dict[str, Setting] = {}
    for name, rewrite in rewrites.items():
        if name in asked:
            plan[name] = asked[name]
        elif rewrite.default is not None and name not in set(left_out):
            plan[name] = rewrite.default
    return plan


def parse(texts: Iterable[str]) -> dict[str, Setting]:
    """``NAME=VALUE`` or ``NAME`` each -> settings.

    Raises:
        BadInput: unknown name or unusable value.
    """
    pairs = [(text, *text.partition("=")[::2]) for text in texts]
    rewrites = by_name([name for _, name, _ in pairs])
    settings: dict[str, Setting] = {}
    for text, name, value in pairs:
        if name not in rewrites:
            raise BadInput(f"there is no rewrite {name!r}", hint=f"known: {', '.join(rewrites)}")
        try:
            settings[name] = rewrites[name].parse(value)
        except ValueError as error:
            raise BadInput(f"{text!r} is not usable: {error}", hint=f"{name}: {rewrites[name].summary}") from error
    return settings


def rewrite(detector: Detector, plan: Mapping[str, Setting], material: Material) -> tuple[Detector, tuple[Applied, ...]]:
    """Apply a plan of :func:`plan_for`, each rewrite checked against the detector before it.

    A detector behind another one (resized, tiled) is rewritten where it stands.

    Raises:
        BadInput: a setting does not suit this detector.
    """
    rewrites = {one.name: one for one in known(detector.family)}
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
    if not isinstance(detector, Wrapper):
        changed = one.apply(detector, setting, material)
        return None if changed is None else changed.eval().requires_grad_(False)
    inside = Material(lambda: map(detector.inner_pixels, material.batches()))
    changed = _apply(detector.inner, one, setting, inside)
    if changed is None:
        return None
    memo = {id(detector.inner): changed}  # the copy gets the changed one in the place of the old
    return copy.deepcopy(detector, memo)


def _difference(before: Detector, after: Detector, material: Material) -> float:
    pixels = torch.cat([batch for _, batch in zip(range(_CHECKED), material.batches(), strict=False)])[:_CHECKED]
    (old_map, old_score), (new_map, new_score) = before.detect(pixels), after.detect(pixels)
    if new_map.shape != old_map.shape:  # a map at another resolution: the score tells
        new_map = old_map
    reach = float(old_map.max() - old_map.min()) or 1.0
    worst = max(float((new_map - old_map).abs().max()), float((new_score - old_score).abs().max())) / reach
    return worst if np.isfinite(worst) else float("inf")
