"""Distil a PDN teacher from an ImageNet backbone (Batzner et al. 2024, appendix A.1 and algorithm 3).

The paper distils from WideResNet-101 at 512 px over ImageNet. Here the backbone is EfficientNet-Lite0, whose weights install as a
package: its blocks 3, 4, 7, 8 and 10 have 40 + 40 + 80 + 112 + 112 = 384 channels, exactly the PDN's. Each is averaged over
3 x 3 patches, brought to stride 8 (of the 512 px picture, so stride 4 of the PDN's 256 px) and standardised per channel;
the PDN learns to predict them from its 33 x 33 pixel patches by mean squared error.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.models.backbones import TORCHVISION_MEAN, TORCHVISION_STD, Backbone, load_backbone
from edgead.models.pdn import TEACHER_CHANNELS, build_pdn
from edgead.types import Image

TARGET_LAYERS = ("blocks.3", "blocks.4", "blocks.7", "blocks.8", "blocks.10")
PDN_PX = 256
BACKBONE_PX = 512
_CELLS = slice(4, 60)  # the 64 x 64 target cells whose centres lie under the PDN's 56 x 56 outputs


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
    """

    size: str = "small"
    batch: int = 8
    lr: float = 2e-3
    seed: int = 0
    steps: int = 0
    minutes: float = 60.0
    bf16: bool = False


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
        pixels: N x 3 x 512 x 512, RGB, 0 to 255.

    Returns:
        N x 384 x 56 x 56, not standardised.
    """
    maps = [F.avg_pool2d(f, 3, 1, 1) for f in backbone(pixels)]
    size = maps[0].shape[-2:]
    merged = torch.cat([F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps], 1)
    return merged[:, :, _CELLS, _CELLS]


def random_crop(image: npt.NDArray[Any], rng: np.random.Generator) -> Image:
    """A square crop of random place and scale, mirrored, turned, sometimes grey or of other contrast: 512 x 512 x 3 uint8.

    Factory pictures are often grey, flat and dark, photographs rarely; without these the teacher describes them badly.
    """
    height, width = image.shape[:2]
    side = int(min(height, width) * rng.uniform(0.35, 1.0))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    rule = cv2.INTER_AREA if side > BACKBONE_PX else cv2.INTER_LINEAR
    crop = cv2.resize(image[top : top + side, left : left + side], (BACKBONE_PX, BACKBONE_PX), interpolation=rule)
    crop = np.rot90(crop, int(rng.integers(4)))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.3:
        crop = np.repeat(cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_BGR2GRAY)[..., None], 3, 2)
    if rng.random() < 0.3:
        gain, shift = rng.uniform(0.4, 1.3), rng.uniform(-40, 40)
        crop = np.clip(crop.astype(np.float32) * gain + shift, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(crop)


def crops(files: Sequence[Path], batch: int, seed: int, start_step: int = 0) -> Iterator[Tensor]:
    """Endless batches N x 3 x 512 x 512 float32 RGB 0..255; each step has its own seed, so that a resumed run goes on exactly.

    Raises:
        BadInput: a file cannot be read as a picture.
    """
    step = start_step
    while True:
        rng = np.random.default_rng((seed, step))
        chosen = rng.choice(len(files), batch, replace=len(files) < batch)
        stack = []
        for index in chosen:
            image = cv2.imread(str(files[index]), cv2.IMREAD_COLOR)
            if image is None or min(image.shape[:2]) < 16:
                raise BadInput(f"{files[index]} is not a readable picture of at least 16 px", hint="remove it")
            stack.append(random_crop(image, rng)[..., ::-1])
        yield torch.from_numpy(np.stack(stack).transpose(0, 3, 1, 2).astype(np.float32))
        step += 1


class Distiller:
    """One resumable run. `state_file` holds everything needed to go on after an interruption."""

    def __init__(self, files: Sequence[Path], recipe: DistillRecipe, state_file: Path, device: str = "cpu") -> None:
        self.files, self.recipe, self.state_file, self.device = list(files), recipe, state_file, device
        torch.manual_seed(recipe.seed)
        self.backbone = load_backbone("efficientnet_lite0", TARGET_LAYERS).to(device)
        self.pdn = build_pdn(recipe.size).to(device)
        self.mean = torch.tensor(TORCHVISION_MEAN, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(TORCHVISION_STD, device=device).view(1, 3, 1, 1)
        # Muon orthogonalises the update of each weight matrix; conv kernels are flattened to C_out x (C_in k k).
        self.matrices = {n: nn.Parameter(p.detach().flatten(1)) for n, p in self.pdn.named_parameters() if p.ndim == 4}
        self.biases = {n: nn.Parameter(p.detach().clone()) for n, p in self.pdn.named_parameters() if p.ndim == 1}
        self.shapes = {n: p.shape for n, p in self.pdn.named_parameters()}
        self.muon = torch.optim.Muon(
            self.matrices.values(), lr=recipe.lr, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        self.adam = torch.optim.Adam(self.biases.values(), lr=recipe.lr)
        self.step, self.elapsed_s, self.loss = 0, 0.0, math.nan
        self.target_mean = torch.zeros(1, TEACHER_CHANNELS, 1, 1, device=device)
        self.target_std = torch.ones(1, TEACHER_CHANNELS, 1, 1, device=device)
        if state_file.is_file():
            self._resume()
        else:
            self._measure_targets()

    def run(self, report: Callable[[DistillProgress], None], save_every_s: float = 60.0) -> None:
        """Go on until the recipe is done; reports after every step and saves the state now and then, and when interrupted."""
        began, saved = time.monotonic() - self.elapsed_s, time.monotonic()
        batches = crops(self.files, self.recipe.batch, self.recipe.seed, self.step)
        try:
            while (fraction := self._fraction()) < 1.0:
                self._train_step(next(batches).to(self.device), fraction)
                self.step += 1
                self.elapsed_s = time.monotonic() - began
                report(DistillProgress(self.step, self.elapsed_s, self._fraction(), self.loss))
                if time.monotonic() - saved > save_every_s:
                    self.save_state()
                    saved = time.monotonic()
        finally:
            self.save_state()

    def save_teacher(self, path: Path, sources: Sequence[str] = ()) -> None:
        """Write the teacher in half precision with its recipe (safetensors; names as in :func:`build_pdn`)."""
        weights = {n: t.detach().half().contiguous().cpu() for n, t in self._weights().items()}
        recipe = {
            **asdict(self.recipe), "steps_done": self.step, "hours": round(self.elapsed_s / 3600, 2), "images": len(self.files),
            "loss": round(self.loss, 4), "backbone": "efficientnet_lite0", "layers": list(TARGET_LAYERS),
            "sources": list(sources),
        }  # fmt: skip
        _replace(path, weights, {"edgead_teacher": "1", "size": self.recipe.size, "recipe": json.dumps(recipe)})

    def save_state(self) -> None:
        tensors = {f"matrix.{n}": p.detach() for n, p in self.matrices.items()}
        tensors |= {f"bias.{n}": p.detach() for n, p in self.biases.items()}
        for kind, optimiser, group in (("muon", self.muon, self.matrices), ("adam", self.adam, self.biases)):
            for name, parameter in group.items():
                for key, value in optimiser.state[parameter].items():
                    tensors[f"{kind}.{name}.{key}"] = torch.as_tensor(value)
        tensors |= {"target_mean": self.target_mean, "target_std": self.target_std}
        meta = {"step": str(self.step), "elapsed_s": str(self.elapsed_s), "loss": str(self.loss), "size": self.recipe.size}
        _replace(self.state_file, {k: v.contiguous().cpu() for k, v in tensors.items()}, meta)

    def _fraction(self) -> float:
        if self.recipe.steps:
            return self.step / self.recipe.steps
        return self.elapsed_s / (60.0 * self.recipe.minutes)

    def _train_step(self, big: Tensor, fraction: float) -> None:
        with torch.no_grad(), torch.autocast(self.device, torch.bfloat16, enabled=self.recipe.bf16):
            target = (target_features(self.backbone, big).float() - self.target_mean) / self.target_std
        small = (F.interpolate(big, (PDN_PX, PDN_PX), mode="area") - self.mean) / self.std
        lr = self.recipe.lr * min(1.0, fraction / 0.02 + 0.01) * 0.5 * (1 + math.cos(math.pi * fraction))
        for optimiser in (self.muon, self.adam):
            optimiser.param_groups[0]["lr"] = lr
            optimiser.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.recipe.bf16):
            out = torch.func.functional_call(self.pdn, self._weights(), small.to(memory_format=torch.channels_last))
        loss = F.mse_loss(out.float(), target)
        loss.backward()  # type: ignore[no-untyped-call]
        self.muon.step()  # type: ignore[no-untyped-call]
        self.adam.step()
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value

    def _weights(self) -> dict[str, Tensor]:
        return {n: p.view(self.shapes[n]) for n, p in self.matrices.items()} | dict(self.biases)

    @torch.no_grad()
    def _measure_targets(self, batches: int = 24) -> None:
        source = crops(self.files, self.recipe.batch, self.recipe.seed + 1_000_003)
        features = [target_features(self.backbone, next(source).to(self.device)) for _ in range(batches)]
        stacked = torch.cat([f[:, :, ::4, ::4].transpose(0, 1).flatten(1) for f in features], 1)
        self.target_mean = stacked.mean(1).view(1, -1, 1, 1)
        self.target_std = stacked.std(1).clamp_min(1e-6).view(1, -1, 1, 1)

    @torch.no_grad()
    def _resume(self) -> None:
        with safe_open(self.state_file, "pt", device=self.device) as state:
            meta = state.metadata() or {}
            if meta.get("size") != self.recipe.size:
                raise BadInput(f"{self.state_file} is of a PDN {meta.get('size')!r}, not {self.recipe.size!r}", hint="delete it")
            for name, parameter in self.matrices.items():
                parameter.copy_(state.get_tensor(f"matrix.{name}"))
            for name, parameter in self.biases.items():
                parameter.copy_(state.get_tensor(f"bias.{name}"))
            for kind, optimiser, group in (("muon", self.muon, self.matrices), ("adam", self.adam, self.biases)):
                for name, parameter in group.items():
                    prefix = f"{kind}.{name}."
                    saved = {k[len(prefix) :]: state.get_tensor(k) for k in state.keys() if k.startswith(prefix)}  # noqa: SIM118
                    optimiser.state[parameter].update(saved)
            self.target_mean, self.target_std = state.get_tensor("target_mean"), state.get_tensor("target_std")
        self.step, self.elapsed_s, self.loss = int(meta["step"]), float(meta["elapsed_s"]), float(meta["loss"])


def _replace(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata=metadata)
    os.replace(part, path)
