"""The loop of every network that is trained in steps: progress, the best state by held-out good pictures, a state to go on from.

A training ends by its steps and never by the clock, so that the same seed gives the same model; interrupted and taken up again
from its checkpoint it gives that model too.
"""

from __future__ import annotations

import copy
import math
import os
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from edgead.errors import BadInput
from edgead.models.learning.curve import Curve
from edgead.models.learning.progress import Progress, silent

KEEP_EVERY_S = 60.0
"""Between two checkpoints: what an interruption costs at most."""

_DAMAGED = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError)
"""What ``torch.load`` raises on a file that it did not write, or that is cut off."""


class Stateful(Protocol):
    """A module, an optimizer or a schedule of torch."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file that a training goes on from after an interruption.

    Attributes:
        path: of it.
        training: what tells one training from all others: its family, options, size, seed and pictures.
        every_s: between two writes.
    """

    path: Path
    training: str
    every_s: float = KEEP_EVERY_S

    def read(self, stage: str) -> dict[str, Any] | None:
        """What was kept of this stage; None: nothing was. Raises BadInput: the file is not of this training."""
        if not self.path.exists():
            return None
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
        except _DAMAGED as error:
            told = f"{self.path} is no checkpoint ({type(error).__name__})"
            raise BadInput(told, hint="name another --checkpoint, or remove it") from None
        if not isinstance(kept, dict) or kept.get("training") != self.training:
            raise BadInput(
                f"{self.path} was kept by another training: other pictures, options, size or seed",
                hint="name another --checkpoint, or remove it",
            )
        found = kept.get("stages", {}).get(stage)
        return found if isinstance(found, dict) else None

    def write(self, stage: str, state: Mapping[str, Any]) -> None:
        """Keep the state of a stage; those before it stay."""
        stages: dict[str, Any] = {}
        if self.path.exists():
            stages = torch.load(self.path, map_location="cpu", weights_only=True)["stages"]
        part = self.path.with_name(f"{self.path.name}.part")
        torch.save({"training": self.training, "stages": {**stages, stage: dict(state)}}, part)
        os.replace(part, self.path)

    def remove(self) -> None:
        """The training is over."""
        self.path.unlink(missing_ok=True)


def split(count: int, seed: int, share: float = 0.15) -> tuple[list[int], list[int]]:
    """Which of so many good pictures a training learns from, and which it stops by (one at least, if there are two)."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    held = min(max(1, round(share * count)), count - 1) if count > 1 else 0
    return sorted(order[held:]), sorted(order[:held])


def run(
    step: Callable[[int], float],
    count: int,
    parts: Mapping[str, Stateful],
    generator: torch.Generator,
    *,
    report: Progress = silent,
    heldout: Callable[[], float] | None = None,
    best: tuple[str, ...] | None = None,
    every: int = 25,
    patience: int = 0,
    stage: str = "training",
    checkpoint: Checkpoint | None = None,
    curves: list[Curve] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Train.

    Args:
        step: one step, by its number from 0 -> its loss.
        count: steps at most.
        parts: all that changes from step to step, by name.
        generator: of everything that `step` draws.
        report: told the stage and its done share after each step; it ends the training by raising.
        heldout: loss of good pictures that are not learned from; the best state by it is the one that stays. None: the last.
        best: names of those of `parts` whose best state stays; None: all that are modules.
        every: steps between two looks at `heldout`.
        patience: so many looks without a better one end the training; 0: none do.
        stage: as progress tells it.
        checkpoint: goes on from there, and is kept there.
        curves: how the losses went is added to them; None: nobody asks.
        clock: s, of the checkpoint.

    Returns:
        The step, counted from 1, whose state stays.

    Raises:
        BadInput: the loss is no number any more, or the checkpoint is of another training.
    """
    chosen = tuple(name for name, part in parts.items() if isinstance(part, torch.nn.Module)) if best is None else best
    curve = Curve.over(stage, count)
    told = _Told(parts, generator, chosen, curve)
    if checkpoint is not None and (kept := checkpoint.read(stage)) is not None:
        told.restore(kept)
    written = clock()
    while told.done < count and not (patience and told.worse >= patience):
        i = told.done
        loss = float(step(i))
        if not math.isfinite(loss):
            raise BadInput(f"the training diverged: the loss of step {i + 1} is {loss}", hint="a smaller learning rate may help")
        told.done = i + 1
        curve.step(told.done, loss)
        if heldout is not None and (told.done % every == 0 or told.done == count):
            told.look(heldout())
        if checkpoint is not None and (told.done == count or clock() - written >= checkpoint.every_s):
            checkpoint.write(stage, told.state())
            written = clock()
        report(stage, told.done / count)
    curve.kept = told.take_best()
    if curves is not None and curve.loss:
        curves.append(curve)
    return curve.kept


class _Told:
    """Where a training stands."""

    def __init__(self, parts: Mapping[str, Stateful], generator: torch.Generator, chosen: tuple[str, ...], curve: Curve) -> None:
        self._parts, self._generator, self._chosen, self._curve = parts, generator, chosen, curve
        self.done = 0
        self.worse = 0
        self._best: dict[str, Any] = {}
        self._loss = math.inf
        self._at = 0

    def look(self, loss: float) -> None:
        """A held-out loss; one that is no number is the worst."""
        self._curve.look(self.done, loss)
        if not loss < self._loss:
            self.worse += 1
            return
        self.worse, self._loss, self._at = 0, loss, self.done
        self._best = {name: copy.deepcopy(self._parts[name].state_dict()) for name in self._chosen}

    def take_best(self) -> int:
        for name, state in self._best.items():
            self._parts[name].load_state_dict(state)
        return self._at if self._best else self.done

    def state(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        told = {"done": self.done, "worse": self.worse, "loss": self._loss, "at": self._at, "curve": self._curve.to_json()}
        return {**told, "parts": parts, "best": self._best, "generator": self._generator.get_state()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(kept["parts"][name])
        self._generator.set_state(kept["generator"])
        self.done, self.worse, self._loss, self._at = (kept[name] for name in ("done", "worse", "loss", "at"))
        self._best = dict(kept["best"])
        if "curve" in kept:  # not in checkpoints of before
            self._curve.restore(kept["curve"])
