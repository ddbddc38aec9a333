"""Fit EfficientAD (Batzner et al. 2024, algorithm 1) in minutes on a CPU, or as long as the paper does on a GPU.

The paper trains student and autoencoder together from random weights for 70,000 steps: days on a CPU. After minutes such a
student describes nothing well yet, and its map shows texture rather than defects. So by default the student *starts* where least
squares puts it (``start="fitted"``):

1. The autoencoder is trained alone (it is small).
2. The student takes the teacher's hidden layers. Its last layer is fitted on good patches only, by ridge regression from the
   hidden activations h to the teacher's normalised output (first 384 channels) and the autoencoder's output (other 384):
   W_s = K (C + l I)^-1 with C = cov(h), K = cov(output, h). The teacher's own last layer W_t has K = W_t C, so the two differ by
   W_t l (C + l I)^-1 (h - mean): directions in which good patches vary are imitated, directions that they never take are not.
   That is what a student is for; it is no copy of the teacher.
3. `steps` of the paper's joint training go on from there (hard-feature loss, penalty on outside pictures, autoencoder losses).

``start="random"`` is the paper's way: step 3 alone, from random weights. Other differences from the paper: Muon instead of Adam,
the learning rate falls on a cosine, and losses are taken on random 128 px crops of several pictures instead of one whole picture
(the networks have no padding, so a crop's outputs are those of the whole picture).
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.families.contract import Fit, FitData
from edgead.families.efficientad.network import EfficientAd, last_layer, load_teacher
from edgead.families.efficientad.options import EfficientAdOptions
from edgead.families.efficientad.pdn import STRIDE, TEACHER_CHANNELS
from edgead.machine import cpu_flags
from edgead.models.learning.muon import MuonTrainer
from edgead.models.learning.outside import Outside
from edgead.models.rows import to_pixels
from edgead.types import Image

CROP_PX = 128
BLOCK = 2048
"""Patches summed at a time in the fitted start: fewer would only move the D x D matrix through memory."""

REFIT_SHARE = 0.2
"""Of a training's time, to fit the student anew and score a fold."""

HARD_SHARE = 0.001
"""1 - p_hard: the loss takes the worst imitated 0.1 % of all output numbers."""


def fit(data: FitData, options: EfficientAdOptions) -> EfficientAd:
    """An EfficientAD of good images at multiples of 32 px from 128 up.

    A tenth of the images (1 to 32) is kept for the quantiles of the maps. It tells the stages "teacher", "autoencoder",
    "student", "training" and "quantiles".

    Raises:
        BadInput: unusable image size, teacher or outside pictures.
    """
    order = np.random.default_rng(data.seed).permutation(len(data.images))
    count = min(32, max(1, len(data.images) // 10), len(data.images) - 1)
    heldout = [data.images[i] for i in order[:count]]
    data = dataclasses.replace(data, images=[data.images[i] for i in order[count:]])
    outside = Outside(options.outside)
    teacher = load_teacher(options.teacher, options.pdn)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        shared = options.start == "fitted" and options.steps == 0 and options.pdn == "small"  # medium's student is wider
        detector = EfficientAd.build({"size": options.pdn, "shared_trunk": shared}, data.size)
        detector.teacher.load_state_dict(teacher)
        detector.teacher.requires_grad_(False)
        fitting = _Fit(detector.to(data.device), data, options, outside)
        fitting.measure_teacher()
        if options.start == "fitted":
            fitting.train_autoencoder()
            fitting.place_student()
        fitting.train_together()
        detector.eval()
        fitting.set_quantiles(heldout)
    return detector.cpu().requires_grad_(False)


def fold_fit(detector: EfficientAd, options: EfficientAdOptions) -> tuple[Fit, float]:
    """What trains the model of a fold (:mod:`edgead.training.crossfit`), and the share of a training's time that it takes.

    A student that was fitted is fitted anew, which takes seconds; teacher and autoencoder stay. The autoencoder has seen all
    images, but through its 64 numbers it knows hardly more of them than of new ones (docs/thresholds.md). A student that was
    trained on needs the whole training again.
    """
    if options.start == "fitted" and not options.steps:
        return lambda data: refit_student(detector, data, options), REFIT_SHARE
    return lambda data: fit(data, options), 1.0


def refit_student(detector: EfficientAd, data: FitData, options: EfficientAdOptions) -> EfficientAd:
    """A copy of a model with a fitted start whose student is fitted on these images alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        copied = copy.deepcopy(detector).to(data.device).requires_grad_(False)
        _Fit(copied, data, options, Outside(None)).place_student()
    return copied.eval().cpu()


class _Fit:
    """One training: the detector, the images and one random generator."""

    def __init__(self, detector: EfficientAd, data: FitData, options: EfficientAdOptions, outside: Outside) -> None:
        self.detector, self.images, self.options, self.outside = detector, data.images, options, outside
        self.report, self.curve = data.report, data.curve
        self.rng = np.random.default_rng(data.seed)
        self.device = torch.device(data.device)
        native = self.device.type != "cpu" or "avx512_bf16" in cpu_flags()
        self.bf16 = native if options.bf16 is None else options.bf16

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def pixels(self, images: Sequence[Image]) -> Tensor:
        return to_pixels(images).to(self.device, memory_format=torch.channels_last)

    def draw(self, count: int) -> Tensor:
        chosen = self.rng.choice(len(self.images), count, replace=len(self.images) < count)
        return self.pixels([self.images[i] for i in chosen])

    @torch.no_grad()
    def measure_teacher(self) -> None:
        """Mean and deviation of each teacher channel over the training images (at most 200 of them)."""
        count, total, squares = 0, torch.zeros(TEACHER_CHANNELS), torch.zeros(TEACHER_CHANNELS)
        chosen = self.rng.permutation(len(self.images))[:200]
        for done, index in enumerate(chosen, 1):
            with self.autocast():
                out = self.detector.teacher(self.detector.normalize(self.pixels([self.images[index]])))
            flat = out.double().cpu().transpose(0, 1).flatten(1)
            count, total, squares = count + flat.shape[1], total + flat.sum(1), squares + flat.square().sum(1)
            self.report("teacher", done / len(chosen))
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(1e-12).sqrt()
        self.detector.mean_std.mean.copy_(mean.view(1, -1, 1, 1))
        self.detector.mean_std.std.copy_(deviation.view(1, -1, 1, 1))

    def train_autoencoder(self) -> None:
        """The autoencoder alone: it predicts the teacher's normalised output of augmented pictures."""
        steps = self.options.ae_steps
        trainer, curve = MuonTrainer(self.detector.ae, self.options.lr), self.curve("autoencoder", steps)
        for step in range(steps):
            x = self.detector.normalize(augment(self.draw(max(1, self.options.batch // 2)), self.rng))
            corners = self.corners(len(x))
            with self.autocast():
                with torch.no_grad():
                    described = self.detector.describe(self.cut(x, corners)).float()
                foreseen = torch.func.functional_call(self.detector.ae, trainer.weights(), x)
            loss = F.mse_loss(self.cut_cells(foreseen.float(), corners), described)
            trainer.step(loss, cosine(self.options.lr, step / steps))
            curve.step(step + 1, loss.item())
            self.report("autoencoder", (step + 1) / steps)
        trainer.write_back()

    @torch.no_grad()
    def place_student(self) -> None:
        """Hidden layers from the teacher, last layer by least squares (see the module's text)."""
        student = self.detector.student
        for name, tensor in self.detector.teacher.state_dict().items():
            student.state_dict()[name][tuple(slice(length) for length in tensor.shape)] = tensor
        self.detector.ae.eval()
        last = last_layer(student)
        weight, bias = ridge_regression(self._patches(), self.options.ridge)
        last.load_state_dict({"weight": weight.view_as(last.weight), "bias": bias})
        self.detector.ae.train()
        self.report("student", 1.0)

    def _patches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Random good patches in blocks: what the student's last layer sees, and what it shall say."""
        trunk, kernel = self.detector.student[:-1], last_layer(self.detector.student).kernel_size
        order = self.rng.permutation(len(self.images))[: self.options.patches]
        per_image = math.ceil(self.options.patches / len(order))
        block: list[tuple[Tensor, Tensor]] = []
        for done, index in enumerate(order, 1):
            x = self.detector.normalize(self.pixels([self.images[index]]))
            with self.autocast():
                hidden, wanted = trunk(x), torch.cat([self.detector.describe(x), self.detector.ae(x)], 1)
            seen = F.unfold(hidden.float(), kernel)[0]
            kept = torch.from_numpy(self.rng.permutation(seen.shape[1])[:per_image]).to(self.device)
            block.append((seen[:, kept].T, wanted.float()[0].flatten(1)[:, kept].T))
            if done == len(order) or sum(len(rows) for rows, _ in block) >= BLOCK:
                yield torch.cat([rows for rows, _ in block]), torch.cat([rows for _, rows in block])
                block = []
            self.report("student", 0.9 * done / len(order))

    def train_together(self) -> None:
        """The paper's training: hard-feature loss, penalty, autoencoder and student-autoencoder loss."""
        steps = self.options.steps
        if not steps:
            return
        network = nn.ModuleDict({"student": self.detector.student, "ae": self.detector.ae})
        last = list(dict(self.detector.student.named_children()))[-1]
        trainer = MuonTrainer(network, self.options.lr, {f"student.{last}.weight": 2})
        curve = self.curve("training", steps)
        for step in range(steps):
            loss = self._joint_loss(trainer.weights())
            trainer.step(loss, cosine(self.options.lr, step / steps))
            curve.step(step + 1, loss.item())
            self.report("training", (step + 1) / steps)
        trainer.write_back()

    def _joint_loss(self, weights: Mapping[str, Tensor]) -> Tensor:
        detector, good, extra = self.detector, self.options.batch, max(1, self.options.batch // 2)
        pictures = self.draw(good + extra)
        whole = augment(pictures[good:], self.rng)
        corners = self.corners(good + extra)
        outside = [self.outside.crop(CROP_PX, self.rng) for _ in range(extra)]
        crops = torch.cat([self.cut(torch.cat([pictures[:good], whole]), corners), self.pixels(outside)])
        x = detector.normalize(crops)
        with self.autocast():
            with torch.no_grad():
                described = detector.describe(x[: good + extra]).float()
            said = torch.func.functional_call(detector.student, part(weights, "student."), x).float()
            foreseen = torch.func.functional_call(detector.ae, part(weights, "ae."), detector.normalize(whole)).float()
        imitated, other = said.split(TEACHER_CHANNELS, 1)
        foreseen = self.cut_cells(foreseen, corners[good:])
        distance = (described[:good] - imitated[:good]).square().flatten()
        hard = distance.topk(max(1, int(HARD_SHARE * distance.numel()))).values.mean()
        penalty = imitated[good + extra :].square().mean()
        loss: Tensor = hard + penalty + F.mse_loss(foreseen, described[good:]) + F.mse_loss(other[good : good + extra], foreseen)
        return loss

    @torch.no_grad()
    def set_quantiles(self, heldout: Sequence[Image]) -> None:
        """The 0.9 and 0.995 quantiles of both maps over held-out good images become 0 and 0.1."""
        found = []
        for done, image in enumerate(heldout, 1):
            maps = self.detector.raw_maps(self.pixels([image]))
            found.append([m.flatten().cpu().numpy()[::4] for m in maps])
            self.report("quantiles", done / len(heldout))
        for kind, values in zip(("st", "ae"), zip(*found, strict=True), strict=True):
            low, high = np.quantile(np.concatenate(values), (0.9, 0.995))
            getattr(self.detector.quantiles, f"qa_{kind}").fill_(float(low))
            getattr(self.detector.quantiles, f"qb_{kind}").fill_(max(float(high), float(low) + 1e-9))

    def corners(self, count: int) -> list[tuple[int, int]]:
        """Random top left cells of crops; a cell is 4 px."""
        room = [(size - CROP_PX) // STRIDE + 1 for size in self.detector.image_size]
        return [(int(self.rng.integers(room[0])), int(self.rng.integers(room[1]))) for _ in range(count)]

    def cut(self, x: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
        """One crop of each picture."""
        return _windows(x, [(STRIDE * top, STRIDE * left) for top, left in corners], CROP_PX)

    def cut_cells(self, x: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
        """The outputs of whole pictures that belong to :meth:`cut`'s crops."""
        return _windows(x, corners, CROP_PX // STRIDE - 8)


def ridge_regression(blocks: Iterable[tuple[Tensor, Tensor]], ridge: float) -> tuple[Tensor, Tensor]:
    """W (M x D) and b (M) that minimise mean |y - W x - b|^2 + l |W|^2, with l = `ridge` times the mean variance of x.

    Args:
        blocks: rows x (n x D) and y (n x M), float32; at least one block. They are not kept.
    """
    count = 0
    for x, y in blocks:
        if not count:
            xx, yx = x.new_zeros(x.shape[1], x.shape[1]), x.new_zeros(y.shape[1], x.shape[1])
            sum_x, sum_y = x.new_zeros(x.shape[1]), x.new_zeros(y.shape[1])
        xx.addmm_(x.T, x)
        yx.addmm_(y.T, x)
        sum_x += x.sum(0)
        sum_y += y.sum(0)
        count += len(x)
    mean_x, mean_y = sum_x.double() / count, sum_y.double() / count
    covariance = xx.double() / count - mean_x[:, None] * mean_x
    cross = yx.double() / count - mean_y[:, None] * mean_x
    covariance.diagonal().add_(ridge * float(covariance.diagonal().mean()) + 1e-12)
    weight = torch.cholesky_solve(cross.T, torch.linalg.cholesky(covariance)).T
    return weight.float(), (mean_y - weight @ mean_x).float()


def augment(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast or colourfulness of each picture changed by a factor of 0.8 to 1.2 (N x 3 x H x W, 0 to 255)."""
    changed = []
    for picture in pixels:
        kind, factor = rng.integers(3), float(rng.uniform(0.8, 1.2))
        pivot = (torch.zeros(1, device=picture.device), picture.mean(), picture.mean(0, keepdim=True))[kind]
        changed.append((pivot + (picture - pivot) * factor).clamp(0.0, 255.0))
    return torch.stack(changed)


def cosine(lr: float, done: float) -> float:
    """Learning rate at a share of the run: linear warm-up over the first 5 %, then down to 0."""
    return lr * min(1.0, done / 0.05 + 0.02) * 0.5 * (1.0 + math.cos(math.pi * done))


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those weights whose names start with `prefix`, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _windows(x: Tensor, corners: Sequence[tuple[int, int]], size: int) -> Tensor:
    windows = [one[:, top : top + size, left : left + size] for one, (top, left) in zip(x, corners, strict=True)]
    return torch.stack(windows)
