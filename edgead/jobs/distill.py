"""Distilling a teacher: pictures of anything in, a file for EfficientAD out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgead.errors import BadInput

if TYPE_CHECKING:
    from edgead.families.efficientad.distill import DistillProgress, DistillRecipe


@dataclass(frozen=True, slots=True)
class DistillRequest:
    """What is asked for.

    Attributes:
        images: folders of pictures, searched with their subfolders.
        out: the teacher, a .safetensors file; how far it came lies beside it, in a .state file.
        pdn: network size.
        steps: to train; None: by `minutes`.
        minutes: to train for, where `steps` is None.
        batch: crops in a step.
        lr: peak learning rate.
        px: side of a crop, a multiple of 32.
        bf16: compute in bfloat16; None: where the device has it.
        device: cpu or cuda.
        seed: of crops, order and initial weights.
        sources: a JSON list, stored in the teacher's file.
    """

    images: tuple[Path, ...]
    out: Path
    pdn: Literal["small", "medium"] = "small"
    steps: int | None = None
    minutes: float = 60.0
    batch: int = 4
    lr: float = 1.5e-3
    px: int = 256
    bf16: bool | None = None
    device: str = "cpu"
    seed: int = 0
    sources: Path | None = None

    @property
    def state(self) -> Path:
        """Where it lies how far it came."""
        return self.out.with_suffix(".state")


@dataclass(frozen=True, slots=True)
class Distilled:
    """What came of it.

    Attributes:
        out: the teacher's file; null: it was stopped, and the same command goes on.
        steps: trained, with those of runs before.
        loss: of the last steps; 1 is nothing learned.
        pictures: that it learned from.
        left_out: files in the folders that are no pictures.
        state: the file that a later run goes on from.
    """

    out: Path | None
    steps: int
    loss: float
    pictures: int
    left_out: tuple[Path, ...]
    state: Path


def distill(
    asked: DistillRequest,
    *,
    begins: Callable[[int, tuple[Path, ...], int], None] = lambda pictures, left_out, step: None,
    report: Callable[[DistillProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Distilled:
    """Train until it is long enough, or `stop` says so after a step; what was reached is saved either way.

    Args:
        begins: is told the number of pictures, the files left out, and the step that it goes on after.

    Raises:
        BadInput: a folder is none, or holds no pictures; the output exists.
        MissingExtra: torch is not installed.
    """
    sources = _check(asked)
    from edgead.optional import require

    for module in ("torch", "safetensors"):
        require(module, extra="train", why="Distilling")
    from edgead.families.efficientad.distill import Distiller
    from edgead.models.learning.outside import find_pictures

    recipe = _recipe(asked)
    files, unreadable = find_pictures(asked.images)
    distiller = Distiller(files, recipe, asked.state, asked.device)
    begins(len(files), tuple(unreadable), distiller.step)
    done = distiller.run(report, stop=stop)
    if done:
        distiller.save_teacher(asked.out, sources)
    out = asked.out if done else None
    return Distilled(out, distiller.step, distiller.loss, len(files), tuple(unreadable), asked.state)


def _check(asked: DistillRequest) -> list[Any]:
    """The sources. Raises BadInput for what can be known before torch is imported."""
    if asked.out.exists() and not asked.state.exists():
        raise BadInput(f"{asked.out} exists", hint="choose another -o, or remove it yourself")
    if asked.out.suffix != ".safetensors":
        raise BadInput(f"{asked.out} does not end in .safetensors", hint=f"give -o {asked.out.with_suffix('.safetensors')}")
    for folder in asked.images:
        if not folder.is_dir():
            raise BadInput(f"{folder} is not a folder", hint="give folders of pictures")
    if asked.steps is not None and asked.steps < 1:
        raise BadInput(f"{asked.steps} steps make no teacher", hint="give --steps 1 or more")
    return _read_sources(asked.sources)


def _recipe(asked: DistillRequest) -> DistillRecipe:
    from edgead.families.efficientad.distill import DistillRecipe

    bf16 = _bf16(asked.bf16, asked.device)
    return DistillRecipe(asked.pdn, asked.batch, asked.lr, asked.seed, asked.steps or 0, asked.minutes, bf16, asked.px)


def _bf16(wanted: bool | None, device: str) -> bool:
    from edgead.jobs.train import check_device
    from edgead.machine import cpu_flags

    check_device(device)
    if wanted is None:
        return device != "cpu" or "avx512_bf16" in cpu_flags()
    return wanted


def _read_sources(path: Path | None) -> list[Any]:
    if path is None:
        return []
    try:
        sources = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as JSON ({error})", hint="give a JSON list") from error
    if not isinstance(sources, list):
        raise BadInput(f"{path} holds no list", hint="give a JSON list, such as the sources.json of benchmarks/teacher_corpus.py")
    return sources
