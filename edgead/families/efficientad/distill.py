"""Distil a PDN teacher from an ImageNet backbone (Batzner et al. 2024, appendix A.1 and algorithm 3).

The paper distils from WideResNet-101 at 512 px over ImageNet. Here the backbone is EfficientNet-Lite0, whose weights install as a
package: its blocks 3, 4, 7, 8 and 10 have 40 + 40 + 80 + 112 + 112 = 384 channels, exactly the PDN's. Each is averaged over
3 x 3 patches, brought to stride 8 (of the 512 px picture, so stride 4 of the PDN's 256 px) and standardised per channel;
the PDN learns to predict them from its 33 x 33 pixel patches by mean squared error.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgead.bundle import storage_errors
from edgead.disk import check_replaceable
from edgead.errors import BadInput
from edgead.families.efficientad.pdn import TEACHER_CHANNELS, build_pdn
from edgead.models.backbones import TORCHVISION_MEAN, TORCHVISION_STD, Backbone, load_backbone
from edgead.models.learning.muon import MuonTrainer
from edgead.models.learning.outside import draw_file
from edgead.types import Image

TARGET_LAYERS = ("blocks.3", "blocks.4", "blocks.7", "blocks.8", "blocks.10")
BACKBONE_SCALE = 2
"""The backbone sees the crop at twice the PDN's size: 512 px against 256 px."""

SMALLEST_PX = 64


@dataclass(frozen=True, slots=True)
class DistillRecipe:
    """Everything that decides the teacher, stored in its file.

    Attributes:
        size: PDN size, ``"small"`` or ``"medium"``.
        batch: crops per step.
        lr: peak learning rate; cosine decay to 0 over the run, linear warm-up over the first 2 %.
        seed: of crops, order and initial weights.
        steps: stop after so many steps; 0 means stop by time.
        minutes: stop after so much time, which also drives the decay when `steps` is 0.
        bf16: matrix products in bfloat16 (twice as fast where the CPU or GPU has it).
        px: side of the PDN's crops, a multiple of 32; the backbone sees them at twice that size.
    """

    size: str = "small"
    batch: int = 4
    lr: float = 1.5e-3
    seed: int = 0
    steps: int = 0
    minutes: float = 60.0
    bf16: bool = False
    px: int = 256

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.lr > 0 or self.steps < 0 or (not self.steps and not self.minutes > 0):
            raise BadInput("batch, learning rate and steps or minutes must be above 0")
        if self.px < SMALLEST_PX or self.px % 32:
            raise BadInput(f"crops of {self.px} px are not usable", hint=f"choose a multiple of 32 from {SMALLEST_PX} up")

    def fixed(self) -> dict[str, Any]:
        """What must not change when a run is resumed; how long it goes on may."""
        return {name: value for name, value in asdict(self).items() if name not in ("steps", "minutes")}


@dataclass(frozen=True, slots=True)
class DistillProgress:
    """Where a run stands: the smoothed loss is the unexplained share of the target's variance (1.0 = nothing learned)."""

    step: int
    elapsed_s: float
    fraction: float
    loss: float


def target_features(backbone: Backbone, pixels: Tensor) -> Tensor:
    """The description of every 4 x 4 cell that the PDN shall predict.

    Args:
        backbone: with the layers `TARGET_LAYERS`.
        pixels: N x 3 x 512 x 512 (twice the PDN's size), RGB, 0 to 255.

    Returns:
        N x 384 x 56 x 56, not standardised: of the 64 x 64 cells those whose centres lie under the PDN's outputs.
    """
    maps = [F.avg_pool2d(f, 3, 1, 1) for f in backbone(pixels)]
    size = maps[0].shape[-2:]
    merged = torch.cat([F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps], 1)
    return merged[:, :, 4:-4, 4:-4]


def random_crop(image: npt.NDArray[Any], rng: np.random.Generator, px: int) -> Image:
    """A square crop of random place and scale, mirrored, turned, sometimes grey or of other contrast: px x px x 3 uint8.

    Factory pictures are often grey, flat and dark, photographs rarely; without these the teacher describes them badly.
    """
    height, width = image.shape[:2]
    side = int(min(height, width) * rng.uniform(0.35, 1.0))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    rule = cv2.INTER_AREA if side > px else cv2.INTER_LINEAR
    crop = cv2.resize(image[top : top + side, left : left + side], (px, px), interpolation=rule)
    crop = np.rot90(crop, int(rng.integers(4)))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.3:
        crop = np.repeat(cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_BGR2GRAY)[..., None], 3, 2)
    if rng.random() < 0.3:
        gain, shift = rng.uniform(0.4, 1.3), rng.uniform(-40, 40)
        crop = np.clip(crop.astype(np.float32) * gain + shift, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(crop)


def crop_batch(files: Sequence[Path], recipe: DistillRecipe, step: int, seed: int | None = None) -> Tensor:
    """The crops of one step, uint8 N x 3 x 512 x 512 RGB. Each step has its own seed, so that a resumed run goes on exactly.

    Raises:
        BadInput: too many files cannot be read.
    """
    rng = np.random.default_rng((recipe.seed if seed is None else seed, step))
    chosen = rng.choice(len(files), recipe.batch, replace=len(files) < recipe.batch)
    px = BACKBONE_SCALE * recipe.px
    stack = [random_crop(draw_file(files, int(index), rng), rng, px)[..., ::-1] for index in chosen]
    return torch.from_numpy(np.stack(stack).transpose(0, 3, 1, 2))  # channels last in memory, as convolutions like it


def read_ahead(make: Callable[[int], Tensor], start: int, workers: int) -> Generator[Tensor, None, None]:
    """make(start), make(start + 1), ... without end; `workers` threads prepare the next ones (0: prepared when asked for)."""
    if not workers:
        yield from map(make, itertools.count(start))
        return
    pool = ThreadPoolExecutor(workers)
    try:
        steps = itertools.count(start)
        waiting = deque(pool.submit(make, next(steps)) for _ in range(2 * workers))
        while True:
            ready = waiting.popleft().result()
            waiting.append(pool.submit(make, next(steps)))
            yield ready
    finally:
        pool.shutdown(cancel_futures=True)


def files_digest(files: Sequence[Path]) -> str:
    """SHA-256 (hexadecimal) over names and sizes in bytes, in order: whether a run is resumed with the pictures it began with."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file.name) + f"\0{file.stat().st_size}\0".encode())
    return digest.hexdigest()


class Distiller:
    """One resumable run. `state_file` holds everything needed to go on after an interruption."""

    def __init__(
        self, files: Sequence[Path], recipe: DistillRecipe, state_file: Path, device: str = "cpu", measure_batches: int = 24
    ) -> None:
        self.files, self.recipe, self.state_file, self.device = list(files), recipe, state_file, torch.device(device)
        self.digest = files_digest(self.files)
        torch.manual_seed(recipe.seed)
        self.backbone = load_backbone("efficientnet_lite0", TARGET_LAYERS).to(self.device)
        self.pdn = build_pdn(recipe.size).to(self.device)
        self.mean = torch.tensor(TORCHVISION_MEAN, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(TORCHVISION_STD, device=self.device).view(1, 3, 1, 1)
        self.trainer = MuonTrainer(self.pdn, recipe.lr)
        self.step, self.elapsed_s, self.loss = 0, 0.0, math.nan
        self.target_mean = torch.zeros(1, TEACHER_CHANNELS, 1, 1, device=self.device)
        self.target_std = torch.ones(1, TEACHER_CHANNELS, 1, 1, device=self.device)
        if state_file.is_file():
            self._resume()
        else:
            self._measure_targets(measure_batches)

    def run(
        self,
        report: Callable[[DistillProgress], None],
        save_every_s: float = 60.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Go on until the recipe is done, or `stop` says so after a step; the state is saved now and then and at the end.

        Returns:
            whether the recipe is done.
        """
        began, saved = time.monotonic() - self.elapsed_s, time.monotonic()
        workers = 0 if self.device.type == "cpu" else min(16, os.cpu_count() or 1)
        source = read_ahead(lambda step: crop_batch(self.files, self.recipe, step), self.step, workers)
        try:
            with closing(source) as batches:
                while (fraction := self.fraction()) < 1.0 and not stop():
                    self._train_step(next(batches).to(self.device).float(), fraction)
                    self.step += 1
                    self.elapsed_s = time.monotonic() - began
                    report(DistillProgress(self.step, self.elapsed_s, self.fraction(), self.loss))
                    if time.monotonic() - saved > save_every_s:
                        self.save_state()
                        saved = time.monotonic()
        finally:
            self.save_state()
        return self.fraction() >= 1.0

    def save_teacher(self, path: Path, sources: Sequence[Any] = ()) -> None:
        """Write the teacher in half precision with its recipe (safetensors; names as in :func:`build_pdn`).

        Args:
            path: the file.
            sources: where the pictures came from and their licences, JSON-able, stored with the recipe.
        """
        weights = {n: t.detach().half().contiguous().cpu() for n, t in self.trainer.weights().items()}
        recipe = {
            **asdict(self.recipe),
            "steps_done": self.step,
            "hours": round(self.elapsed_s / 3600, 2),
            "images": len(self.files),
            "images_digest": self.digest,
            "loss": round(self.loss, 4),
            "backbone": "efficientnet_lite0",
            "layers": list(TARGET_LAYERS),
            "sources": list(sources),
        }
        _replace(path, weights, {"edgead_teacher": "1", "size": self.recipe.size, "recipe": json.dumps(recipe)})

    def save_state(self) -> None:
        """Write `state_file`: everything needed to go on exactly."""
        tensors = {f"matrix.{n}": p.detach() for n, p in self.trainer.matrices.items()}
        tensors |= {f"bias.{n}": p.detach() for n, p in self.trainer.biases.items()}
        for kind, optimiser, group in self._optimisers():
            for name, parameter in group.items():
                for key, value in optimiser.state[parameter].items():
                    tensors[f"{kind}.{name}.{key}"] = torch.as_tensor(value)
        tensors |= {"target_mean": self.target_mean, "target_std": self.target_std}
        meta = {"step": str(self.step), "elapsed_s": str(self.elapsed_s), "loss": str(self.loss), "run": self._identity()}
        _replace(self.state_file, {k: v.contiguous().cpu() for k, v in tensors.items()}, meta)

    def _identity(self) -> str:
        return json.dumps({**self.recipe.fixed(), "images_digest": self.digest}, sort_keys=True)

    def _optimisers(self) -> tuple[tuple[str, torch.optim.Optimizer, dict[str, torch.nn.Parameter]], ...]:
        return ("muon", self.trainer.muon, self.trainer.matrices), ("adam", self.trainer.adam, self.trainer.biases)

    def fraction(self) -> float:
        """The done share of the recipe."""
        if self.recipe.steps:
            return self.step / self.recipe.steps
        return self.elapsed_s / (60.0 * self.recipe.minutes)

    def _train_step(self, big: Tensor, fraction: float) -> None:
        with torch.no_grad(), self._autocast():
            target = (target_features(self.backbone, big).float() - self.target_mean) / self.target_std
        small = (F.interpolate(big, (self.recipe.px, self.recipe.px), mode="area") - self.mean) / self.std
        lr = self.recipe.lr * min(1.0, fraction / 0.02 + 0.01) * 0.5 * (1 + math.cos(math.pi * fraction))
        with self._autocast():
            out = torch.func.functional_call(self.pdn, self.trainer.weights(), small.to(memory_format=torch.channels_last))
        loss = F.mse_loss(out.float(), target)
        self.trainer.step(loss, lr)
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16)

    @torch.no_grad()
    def _measure_targets(self, batches: int) -> None:
        seed = self.recipe.seed + 1_000_003
        source = (crop_batch(self.files, self.recipe, step, seed).to(self.device).float() for step in range(batches))
        features = [target_features(self.backbone, big)[:, :, ::4, ::4] for big in source]
        stacked = torch.cat([f.transpose(0, 1).flatten(1) for f in features], 1)
        self.target_mean = stacked.mean(1).view(1, -1, 1, 1)
        self.target_std = stacked.std(1).clamp_min(1e-6).view(1, -1, 1, 1)

    @torch.no_grad()
    def _resume(self) -> None:
        try:
            with safe_open(self.state_file, "pt") as state:
                meta, tensors = state.metadata() or {}, {name: state.get_tensor(name) for name in state.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{self.state_file} cannot be read ({error})", hint="delete it to start anew") from error
        if meta.get("run") != self._identity():
            raise BadInput(
                f"{self.state_file} is of a run with other pictures or settings",
                hint="give the same command (only --minutes and --steps may change), or delete it to start anew",
            )
        for name, parameter in self.trainer.matrices.items():
            parameter.copy_(tensors[f"matrix.{name}"])
        for name, parameter in self.trainer.biases.items():
            parameter.copy_(tensors[f"bias.{name}"])
        for kind, optimiser, group in self._optimisers():
            for name, parameter in group.items():
                prefix = f"{kind}.{name}."
                for key in (name for name in tensors if name.startswith(prefix)):
                    value = tensors[key]  # Adam keeps its step counter on the CPU
                    optimiser.state[parameter][key[len(prefix) :]] = value.to(parameter.device) if value.ndim else value
        self.target_mean = tensors["target_mean"].to(self.device)
        self.target_std = tensors["target_std"].to(self.device)
        self.step, self.elapsed_s, self.loss = int(meta["step"]), float(meta["elapsed_s"]), float(meta["loss"])


def _replace(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    part = path.with_name(path.name + ".part")
    with storage_errors(path):
        check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, part, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        os.replace(part, path)
