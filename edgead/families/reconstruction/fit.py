"""Fit a reconstruction: it rebuilds good pictures, of which something may be hidden, until held-out good ones get no better.

Differences from the papers are in README.md. What is drawn is drawn by one generator from the seed; steps end the training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgead.families.contract import FitData
from edgead.families.reconstruction.network import Reconstruction
from edgead.families.reconstruction.options import ReconstructionOptions, weights
from edgead.machine import cpu_flags
from edgead.models.learning.adversary import Adversary
from edgead.models.learning.steps import Stateful, run, split
from edgead.models.parts.convnets import Critic
from edgead.models.parts.errors import WeightedError, odd_side
from edgead.models.parts.hiding import Puzzle, Stripes, Superpixels
from edgead.models.parts.necks import Convex
from edgead.models.parts.structure import SoftEdges
from edgead.models.parts.wae import Wae
from edgead.models.rows import to_pixels

MEASURED = 200
"""Good pictures that the map's constants come from, at most."""

VOLUMES = 60
"""Good pictures at which a decoder's volume is measured, about at most."""

CHECKED = 32
"""Held-out pictures that the training is stopped by, at most."""

LOOKED_AT = 64
"""Pictures that parts are set up by before the training, at most."""

USUAL_SIDE = 256
"""px, that `smooth` is told for."""


def fit(data: FitData, options: ReconstructionOptions) -> Reconstruction:
    """A reconstruction of good images. It tells the stages "training" and "good pictures".

    Raises:
        BadInput: a size that the network or the masking does not take, a loss that is no number any more, or an adversary that
        won.
    """
    train, held = split(len(data.images), data.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        detector = Reconstruction(config_of(options, data.size, data.seed), data.size, norm=options.norm).to(data.device)
        training = _Training(detector, data, options, train, held[:CHECKED])
        training.look()
        training.run()
    detector.eval()
    detector.fold()
    detector.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    _measure_volume(detector, data)
    _measure_good(detector, data)
    return detector.cpu().requires_grad_(False)


def config_of(options: ReconstructionOptions, size: tuple[int, int], seed: int = 0) -> dict[str, object]:
    """What model.json says of the network."""
    side = min(size)
    return {
        "network": options.part("network"), "masking": options.part("masking"), "neck": options.part("neck"),
        "seed": seed, "error": weights(options.error),
        "smooth": odd_side(options.smooth * side / USUAL_SIDE, side) if options.smooth else 1,
        "projection": options.moving(),
        "score": options.score_by, "reference": options.reference, "light": options.light, "neck_share": options.neck_share,
    }  # fmt: skip


class _Training:
    """One training: the detector, its pictures, one generator."""

    def __init__(
        self, detector: Reconstruction, data: FitData, options: ReconstructionOptions, train: list[int], held: list[int]
    ) -> None:
        self.detector, self.data, self.options = detector, data, options
        self.train, self.held = train, held
        self.generator = torch.Generator().manual_seed(data.seed)
        self.loss = WeightedError(weights(options.loss)).to(data.device)
        self.device = torch.device(data.device)
        native = self.device.type != "cpu" or "avx512_bf16" in cpu_flags()
        self.bf16 = native if options.bf16 is None else options.bf16
        parameters = [p for p in detector.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(parameters, options.lr, weight_decay=options.weight_decay)
        self.adversary = self._adversary() if options.adversary else None

    def _adversary(self) -> Adversary:
        """A critic of pictures; with a convex neck one of pictures with their codes (:class:`Convex`)."""
        options, neck = self.options, self.detector.neck
        base = int(self.detector.config["network"].get("base", 32))
        critic = Critic(base, neck.rows.shape[1] if isinstance(neck, Convex) else 0).to(self.device)
        critic.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        kind = options.critic or "hinge"
        lr, penalty = options.lr * (options.critic_lr or 1.0), 10.0 if kind == "wgan" else 0.0
        return Adversary(critic, kind, lr, penalty, warm_up=max(100, options.steps // 4))

    def run(self) -> None:
        parts: dict[str, Stateful] = {"network": self.detector, "adam": self.adam}
        if self.adversary is not None:
            parts["adversary"] = self.adversary
        self.detector.network.to(memory_format=torch.channels_last)  # half the time of a step on a CPU
        self.detector.train()
        run(
            self.step, self.options.steps, parts, self.generator, report=self.data.report, checkpoint=self.data.checkpoint,
            heldout=self.heldout if self.held else None, curves=self.data.curves,
        )  # fmt: skip

    @torch.no_grad()
    def look(self) -> None:
        """What parts take from good pictures before the training: how long an edge is, where cells lie."""
        pictures = [self.detector.pictures(self.pixels([i])) for i in self.train[:LOOKED_AT]]
        for module in (*self.detector.modules(), *self.loss.modules()):
            if isinstance(module, (SoftEdges, Superpixels)):
                module.measure(pictures)

    def pixels(self, chosen: list[int]) -> Tensor:
        found = to_pixels([self.data.images[i] for i in chosen]).to(self.device)
        return found.contiguous(memory_format=torch.channels_last)

    def encode(self, x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            code, skips = self.detector.network.encode(x, visible)
        return code.float(), skips

    def decode(self, code: Tensor, skips: list[Tensor]) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            rebuilt: Tensor = self.detector.network.decode(code, skips)
        return rebuilt.float()

    def draw(self) -> Tensor:
        """A batch of pictures from 0 to 1, perhaps mirrored."""
        drawn = torch.randint(len(self.train), (self.options.batch,), generator=self.generator).tolist()
        pixels = self.pixels([self.train[i] for i in drawn])
        if self.options.flips:
            for axis in (2, 3):
                mirrored = torch.rand(len(pixels), 1, 1, 1, generator=self.generator) < 0.5
                pixels = torch.where(mirrored.to(pixels.device), pixels.flip(axis), pixels)
        return self.detector.pictures(pixels)

    def step(self, i: int) -> float:
        for group in self.adam.param_groups:
            group["lr"] = self.options.lr * 0.5 * (1.0 + math.cos(math.pi * i / self.options.steps))
        x = self.draw()
        loss, rebuilt, code = self.one_loss(x, self.generator)
        real: tuple[Tensor, ...] = ()
        if self.adversary is not None:
            seems, real, made = self._contest(self.adversary, x, rebuilt, code)
            loss = loss + self.options.adversary * seems
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        if self.adversary is not None:
            self.adversary.learn(real, made, self.generator)
        return float(loss.detach())

    def _contest(
        self, adversary: Adversary, x: Tensor, rebuilt: Tensor, code: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The network's adversarial loss, and what the critic is asked about.

        With a convex neck as of a memory augmented GAN: pictures with their codes against pictures made of random mixtures of the
        memory with those; and the mixture is to be told from the picture, which spreads the memory. Else real pictures against
        rebuilt ones.
        """
        neck = self.detector.neck
        if not isinstance(neck, Convex) or code is None:
            return adversary.loss(rebuilt), (x,), (rebuilt,)
        weights, drawn = neck.draw(len(x), self.generator)
        picture = self.decode(neck.back(drawn), [])
        z = neck.to_vector(code.flatten(1))
        real, made = (x, z[:, :, None, None]), (picture, drawn[:, :, None, None])
        told = neck.logits(neck.to_vector(self.encode(picture)[0].flatten(1)))
        spread = -(weights * told.log_softmax(1)).sum(1).mean()
        return adversary.loss(*made) + adversary.critic(*real).mean() + spread, real, made

    def one_loss(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        """The loss of a batch, what was rebuilt of it, and its code before the neck, where that is all that was rebuilt from."""
        task = self.detector.masking.draw(x, generator)
        code, skips = self.encode(task.inputs, task.visible)
        passed, penalty = self.detector.neck.learn(code, generator)
        rebuilt = task.join(self.decode(passed, skips))
        whole = None if skips or len(code) != len(x) else code
        away = self.loss(task.wanted, rebuilt)
        loss: Tensor = (away if task.weight is None else away * task.weight).mean()
        return loss + (penalty * loss.detach() if self.detector.neck.relative else penalty), rebuilt, whole

    @torch.no_grad()
    def heldout(self) -> float:
        """The loss of held-out pictures; the same things are hidden of them each time."""
        self.detector.eval()
        generator = torch.Generator().manual_seed(self.data.seed)
        total = 0.0
        for start in range(0, len(self.held), self.options.batch):
            chosen = self.held[start : start + self.options.batch]
            total += len(chosen) * float(self.one_loss(self.detector.pictures(self.pixels(chosen)), generator)[0])
        self.detector.train()
        return total / len(self.held)


@torch.no_grad()
def _measure_volume(detector: Reconstruction, data: FitData) -> None:
    """What a neck that tells likelihoods needs of the decoder."""
    neck = detector.neck
    if not isinstance(neck, Wae):
        return
    codes = []
    for i in range(0, len(data.images), -(-len(data.images) // VOLUMES)):
        codes.append(detector.network.encode(detector.pictures(to_pixels([data.images[i]]).to(data.device)), None)[0])
        data.report("volumes", (i + 1) / len(data.images))
    generator = torch.Generator().manual_seed(data.seed)
    neck.measure(torch.cat(codes), lambda cells: detector.network.decode(cells, []), generator)


@torch.no_grad()
def _measure_good(detector: Reconstruction, data: FitData) -> None:
    """What of good pictures the map is told by: their error at each place, and scales of error and distance. Of all of them: the
    mean of the few that were held out is mostly their noise."""
    config = detector.config
    images = data.images[:: -(-len(data.images) // MEASURED)]
    if isinstance(detector.masking, Stripes | Puzzle):
        ways = []
        for image in images:
            x, rebuilt, _ = detector.rebuilt(to_pixels([image]).to(data.device))
            ways.append(detector.masking.each(x, rebuilt, detector.error).mean((2, 3)))
        detector.masking.usual.copy_(torch.cat(ways).mean(0).clamp_min(1e-6))
    if config["reference"] == "none" and not detector.share:
        return
    errors, distances = [], []
    for done, image in enumerate(images, 1):
        error, distance = detector.differences(to_pixels([image]).to(data.device))
        errors.append(error)
        if distance is not None:
            distances.append(distance)
        data.report("good pictures", done / len(images))
    if config["reference"] != "none":
        detector.usual.copy_(torch.cat(errors).mean(0, keepdim=True))
    if detector.share:
        own = torch.cat([detector.combined(error, None) for error in errors])
        found = torch.cat(distances)
        if isinstance(detector.neck, Wae):  # as -log p(x) weighs them
            detector.scales.copy_(torch.tensor([0.0, 2.0 * float(own.mean().clamp_min(1e-9)) / detector.neck.values, 0.0, 1.0]))
            return
        told = [value for one in (own, found) for value in (one.mean(), one.std(correction=0).clamp_min(1e-6))]
        detector.scales.copy_(torch.stack(told))
