"""Fit SimpleNet (Liu et al. 2023): features q = adaptor(f), noisy copies q- = q + N(0, sigma^2), a discriminator D between them.

Loss (equation 5, truncated L1): mean of max(0, th - D(q)) + max(0, th + D(q-)), th = 0.5. Only 1 x 1 layers are trained, so
patches are independent: they are collected once and drawn at random, which makes a step cheap on a CPU.

Difference from the paper: features are first divided by their standard deviation per channel, so that sigma means the same for
every backbone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgead.families.contract import FitData, on_cpu
from edgead.families.simplenet.network import LEAK, SimpleNet
from edgead.families.simplenet.options import SimpleNetOptions
from edgead.models.rows import collect_rows, load_features


class Discriminator(nn.Module):
    """Linear, batch norm, leaky ReLU, linear: float32 N x C -> N, larger is more normal."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Linear(channels, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.tail = nn.Linear(hidden, 1, bias=False)

    def forward(self, q: Tensor) -> Tensor:
        out: Tensor = self.tail(nn.functional.leaky_relu(self.norm(self.body(q)), LEAK))
        return out.squeeze(1)


def truncated_l1(good: Tensor, noisy: Tensor, margin: float = 0.5) -> Tensor:
    """Equation 5 for the discriminator's answers on good and noisy features, float32 N each -> scalar."""
    return (margin - good).clamp_min(0.0).mean() + (margin + noisy).clamp_min(0.0).mean()


def fit(data: FitData, options: SimpleNetOptions) -> SimpleNet:
    """A SimpleNet of good images. It tells the stages "features" and "training".

    Raises:
        BadInput: a device that is not the CPU, or weights that do not load.
    """
    on_cpu(data, "SimpleNet")
    features = load_features(options.backbone, options.layers, options.weights, options.features)
    generator = torch.Generator().manual_seed(data.seed)
    rows, _ = collect_rows(features, data.images, generator, options.max_rows, data.report)
    scale = rows.std(0).clamp_min(1e-6)
    channels = features.channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        adaptor = nn.Linear(channels, channels)
        discriminator = Discriminator(channels, options.hidden or channels)
    _train(rows, scale, adaptor, discriminator, options, generator, data)
    hidden = discriminator.body.out_features
    config = {
        "backbone": features.backbone.name, "layers": list(features.backbone.layers), "channels": channels, "hidden": hidden,
        "features": features.recipe,
    }  # fmt: skip
    detector = SimpleNet(config, data.size, features.backbone)
    weight, bias, tail = fold(scale, adaptor, discriminator)
    assert isinstance(detector.hidden, nn.Conv2d)
    with torch.no_grad():
        detector.hidden.weight.copy_(weight[:, :, None, None])
        detector.hidden.bias.copy_(bias)  # type: ignore[union-attr]
        detector.anomaly.weight.copy_(-tail[:, :, None, None])
        detector.anomaly.bias.zero_()  # type: ignore[union-attr]
    detector.requires_grad_(False)
    return detector.eval()


def _train(
    rows: Tensor,
    scale: Tensor,
    adaptor: nn.Linear,
    discriminator: Discriminator,
    options: SimpleNetOptions,
    generator: torch.Generator,
    data: FitData,
) -> None:
    groups = [
        {"params": adaptor.parameters(), "lr": options.adaptor_lr, "top": options.adaptor_lr},
        {"params": discriminator.parameters(), "lr": options.discriminator_lr, "top": options.discriminator_lr},
    ]
    adam = torch.optim.Adam(groups, weight_decay=options.weight_decay)
    batch = min(options.batch, len(rows))
    curve = data.curve("training", options.steps)
    for step in range(options.steps):
        for group in adam.param_groups:
            group["lr"] = group["top"] * 0.5 * (1.0 + math.cos(math.pi * step / options.steps))
        good = adaptor(rows[torch.randint(len(rows), (batch,), generator=generator)] / scale)
        noisy = good + options.noise * torch.randn(good.shape, generator=generator)
        answers = discriminator(torch.cat([good, noisy]))
        loss = truncated_l1(answers[:batch], answers[batch:], options.margin)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        curve.step(step + 1, loss.item())
        if step % 10 == 9 or step + 1 == options.steps:
            data.report("training", (step + 1) / options.steps)


@torch.no_grad()
def fold(scale: Tensor, adaptor: nn.Linear, discriminator: Discriminator) -> tuple[Tensor, Tensor, Tensor]:
    """Scaling, adaptor, the discriminator's first layer and its batch norm as one linear layer.

    Returns:
        weight (hidden x C) and bias (hidden) of the layer before the leaky ReLU, and the tail's weight (1 x hidden).
    """
    norm = discriminator.norm
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    gain = norm.weight / torch.sqrt(variance + norm.eps)
    body = gain[:, None] * discriminator.body.weight
    shift = norm.bias + gain * (discriminator.body.bias - mean)
    return (body @ adaptor.weight) / scale, body @ adaptor.bias + shift, discriminator.tail.weight.clone()
