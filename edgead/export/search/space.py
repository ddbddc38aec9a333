"""What a search may choose between: backends, precisions, rewrites with their settings, input sizes, threads."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgead.families import find
from edgead.families.rewriting import known
from edgead.models.rewrites import Setting

Size = tuple[int, int]
"""Width and height in pixels."""

SMALLEST_PX, STEP_PX = 64, 32
SHARES = (7 / 8, 3 / 4, 5 / 8, 1 / 2)
"""Input sizes that are tried, of the trained one; sides are rounded to `STEP_PX`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run the model.

    Attributes:
        backend, precision: of :data:`edgead.export.builds.BUILDS`.
        rewrites: (name, setting) asked for beyond those that are on by default, by name.
        size: width and height of a model trained again; None is the trained one.
        threads: CPU threads of one inference; None takes all cores.
        keep_float: nodes of the float graph that INT8 leaves in float.
    """

    backend: str
    precision: str
    rewrites: tuple[tuple[str, Setting], ...] = ()
    size: Size | None = None
    threads: int | None = None
    keep_float: tuple[str, ...] = ()

    @property
    def job(self) -> tuple[str, str]:
        return self.backend, self.precision

    @property
    def settings(self) -> dict[str, Setting]:
        return dict(self.rewrites)

    @property
    def key(self) -> str:
        """The same for equal choices, another one for others."""
        return json.dumps(self.to_json(), sort_keys=True)

    def rewritten(self, settings: Mapping[str, Setting]) -> Choice:
        """With these rewrites, and those that it has under other names."""
        return replace(self, rewrites=tuple(sorted((self.settings | dict(settings)).items())))

    def __str__(self) -> str:
        parts = [f"{self.backend}-{self.precision}"]
        parts += [name if setting is True else f"{name}={setting}" for name, setting in self.rewrites]
        if self.size is not None:
            parts.append(f"{self.size[0]}x{self.size[1]} px")
        if self.keep_float:
            parts.append(f"{len(self.keep_float)} layers float")
        if self.threads is not None:
            parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        return {
            "backend": self.backend,
            "precision": self.precision,
            "rewrites": dict(self.rewrites),
            "size": list(self.size) if self.size else None,
            "threads": self.threads,
            "keep_float": list(self.keep_float),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Choice:
        """What `to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
        width_height = data["size"]
        return cls(
            str(data["backend"]),
            str(data["precision"]),
            tuple(sorted(dict(data["rewrites"]).items())),
            None if width_height is None else (int(width_height[0]), int(width_height[1])),
            None if data["threads"] is None else int(data["threads"]),
            tuple(str(name) for name in data["keep_float"]),
        )


@dataclass(frozen=True, slots=True)
class Axis:
    """A rewrite and its settings, each faster and less exact than the one before."""

    name: str
    settings: tuple[Setting, ...]


Levels = tuple[int, ...]
"""For each axis: 0 leaves the rewrite out, k takes its k-th setting."""


def axes_for(family: str, config: Mapping[str, Any], taken: Iterable[str] = ()) -> tuple[Axis, ...]:
    """The rewrites of a family that are worth trying, the least lossy first, with settings that suit this model.

    Args:
        config: of the trained detector.
        taken: those that the user chose or left out himself.
    """
    rewrites = {one.name: one for one in known(family)}
    found = [Axis(name, rewrites[name].tries(config)) for name in find(family).tried if name not in set(taken)]
    return tuple(axis for axis in found if axis.settings)


def combinations(axes: Sequence[Axis]) -> list[Levels]:
    """All levels but none at all, the least lossy first: by the sum of the levels' shares of their axes."""
    every = itertools.product(*(range(len(axis.settings) + 1) for axis in axes))

    def depth(levels: Levels) -> tuple[float, float]:
        shares = [level / len(axis.settings) for level, axis in zip(levels, axes, strict=True)]
        return sum(shares), max(shares, default=0.0)

    return sorted((levels for levels in every if any(levels)), key=depth)


def settings_at(axes: Sequence[Axis], levels: Levels) -> dict[str, Setting]:
    """The rewrites that some levels stand for."""
    return {axis.name: axis.settings[level - 1] for axis, level in zip(axes, levels, strict=True) if level}


def deeper(one: Levels, other: Levels) -> bool:
    """Whether `one` is at least as deep as `other` on every axis, so that it should be no slower."""
    return all(a >= b for a, b in zip(one, other, strict=True))


def smaller_sizes(size: Size) -> list[Size]:
    """Input sizes below `size`, the largest first, in its proportions."""
    found: list[Size] = []
    for share in SHARES:
        smaller = tuple(max(STEP_PX, STEP_PX * round(side * share / STEP_PX)) for side in size)
        pair = (smaller[0], smaller[1])
        if min(pair) >= SMALLEST_PX and pair < size and pair not in found:
            found.append(pair)
    return found


def thread_counts(cores: int) -> list[int]:
    """Powers of two below the number of cores; all cores is the default of every engine."""
    return [count for count in (1 << i for i in range(12)) if count < cores]
