"""An EfficientAD whose student and teacher are two networks, made in a minute of one that shares its hidden layers.

EfficientAD's default training gives the student the teacher's hidden layers. Models trained as in the paper have a student of
its own, which costs twice the work; other tools' graphs of the default model profit from the sharing as well, since OpenVINO
merges equal layers by itself. So the student's hidden layers are disturbed here, its last layer is fitted again on good patches
as the default training does it, and the quantiles are taken anew. It is a stand-in for hours of training: its work is that of the
paper's model, its accuracy is near that of the default one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.efficientad.fit import ridge_regression
from edgead.families.efficientad.network import EfficientAd, last_layer
from edgead.models.rows import to_pixels
from edgead.preprocess import list_images, read_image
from edgead.trained import load_model, write_model
from edgead.types import Image

DISTURBED = 0.15
"""Standard deviation of what is added to a hidden layer's weights, relative to their own."""

PICTURES, PATCHES, HELD_OUT, RIDGE = 64, 256, 8, 0.01
"""Pictures and patches of each that the last layer is fitted on, pictures for the quantiles, and its ridge."""


@torch.no_grad()
def separate(shared: Path, folder: Path, seed: int) -> None:
    """Write the model's folder, made of the trained one in `shared`.

    Raises:
        BadInput: `shared` holds no EfficientAD with a shared trunk.
    """
    detector, card = load_model(shared)
    if not isinstance(detector, EfficientAd) or not detector.shared_trunk:
        raise BadInput(f"{shared} is no EfficientAD with a shared trunk", hint="train one with the default options")
    made = EfficientAd.build({**detector.config, "shared_trunk": False}, detector.image_size).eval().requires_grad_(False)
    made.load_state_dict(detector.state_dict())
    noise = torch.Generator().manual_seed(seed)
    for name, hidden in made.student[:-1].named_parameters():
        if name.endswith("weight"):
            hidden.add_(DISTURBED * hidden.std() * torch.randn(hidden.shape, generator=noise))
    good, held = ([read_image(file) for file in list_images(shared / kind)] for kind in ("calibration", "heldout"))
    last = last_layer(made.student)
    weight, bias = ridge_regression(_patches(made, good[:PICTURES], np.random.default_rng(seed)), RIDGE)
    last.load_state_dict({"weight": weight.view_as(last.weight), "bias": bias})
    _set_quantiles(made, held[:HELD_OUT])
    for kind in ("calibration", "heldout"):
        shutil.copytree(shared / kind, folder / kind, dirs_exist_ok=True)
    write_model(folder, made, replace(card, config=dict(made.config)))


def _patches(detector: EfficientAd, images: Sequence[Image], rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """What the student's last layer sees of some patches (rows), and what it shall say: teacher and autoencoder."""
    for image in images:
        x = detector.normalize(to_pixels([image]))
        seen = F.unfold(detector.student[:-1](x), last_layer(detector.student).kernel_size)[0]
        wanted = torch.cat([detector.describe(x), detector.ae(x)], 1)[0].flatten(1)
        kept = torch.from_numpy(rng.permutation(seen.shape[1])[:PATCHES])
        yield seen[:, kept].T, wanted[:, kept].T


def _set_quantiles(detector: EfficientAd, images: Sequence[Image]) -> None:
    maps = [[found.flatten() for found in detector.raw_maps(to_pixels([image]))] for image in images]
    for kind, found in zip(("st", "ae"), zip(*maps, strict=True), strict=True):
        low, high = np.quantile(torch.cat(list(found)).numpy()[::4], (0.9, 0.995))
        getattr(detector.quantiles, f"qa_{kind}").fill_(float(low))
        getattr(detector.quantiles, f"qb_{kind}").fill_(float(high))
