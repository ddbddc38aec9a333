"""How the loss of a training went, step by step, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

POINTS = 250
"""Of the loss, about: of more steps, means of as many in a row each."""


@dataclass(slots=True)
class Curve:
    """One stage of a training.

    Attributes:
        stage: as progress tells it.
        of: steps whose mean is one point of `loss`.
        loss: the steps' own, of the pictures that are learned from; the last point may be of fewer steps than `of`.
        heldout: step, counted from 1, and loss there of good pictures that are not learned from; empty: nobody looked.
        kept: the step, counted from 1, whose state stays; 0: not known yet.
    """

    stage: str
    of: int = 1
    loss: list[float] = field(default_factory=list)
    heldout: list[tuple[int, float]] = field(default_factory=list)
    kept: int = 0

    @classmethod
    def over(cls, stage: str, count: int) -> Curve:
        """An empty one, of so many steps at most."""
        return cls(stage, max(1, math.ceil(count / POINTS)))

    def step(self, done: int, loss: float) -> None:
        """The loss of the step that is the `done`-th."""
        place, before = divmod(done - 1, self.of)
        if not before:
            self.loss.append(loss)
            return
        self.loss[place] += (loss - self.loss[place]) / (before + 1)

    def look(self, done: int, loss: float) -> None:
        """The held-out loss after so many steps; what is no number has no place in a picture."""
        if math.isfinite(loss):
            self.heldout.append((done, loss))

    def points(self) -> list[tuple[float, float]]:
        """The middle step of each point of the loss, and its value."""
        return [(i * self.of + (self.of + 1) / 2, loss) for i, loss in enumerate(self.loss)]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"stage": self.stage, "of": self.of, "loss": self.loss, "heldout": self.heldout, "kept": self.kept}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on from what :meth:`to_json` gave."""
        self.of, self.loss, self.kept = kept["of"], list(kept["loss"]), kept["kept"]
        self.heldout = [(step, loss) for step, loss in kept["heldout"]]
