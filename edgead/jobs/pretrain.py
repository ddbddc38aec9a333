"""Good pictures in, a backbone's weights out that see small changes on such pictures better, for --weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead import __version__
from edgead.errors import BadInput, StorageError
from edgead.jobs.progress import Progress, silent
from edgead.layout import Found, find_good, good_pictures
from edgead.published import DEFAULT, published

if TYPE_CHECKING:
    from edgead.types import Image

FEWEST, MOST = 8, 2000
"""Pictures that it takes at least, and that it looks at (drawn at random of more)."""


@dataclass(frozen=True, slots=True)
class PretrainRequest:
    """What is asked for.

    Attributes:
        good: folders of good pictures, or folders in MVTec layout, of which the good pictures for training are taken.
        out: the weights, a .safetensors file.
        backbone: EfficientNet-Lite or ResNet.
        weights: file that it starts from; None: the published ones.
        layers: whose features are looked at, and as deep as which it is trained; None: the usual ones.
        steps, batch, lr, anchor, px, seed, device: see :class:`edgead.models.learning.spd.SpdRecipe`.
        checkpoint: file that a long training goes on from after an interruption; None keeps nothing.
    """

    good: tuple[Path, ...]
    out: Path
    backbone: str = DEFAULT
    weights: Path | None = None
    layers: tuple[str, ...] | None = None
    steps: int = 300
    batch: int = 8
    lr: float = 1e-4
    anchor: float = 1.0
    px: int = 224
    seed: int = 0
    device: str = "cpu"
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("steps", self.steps, 1, 1_000_000), ("batch", self.batch, 2, 4096), ("px", self.px, 64, 1024),
            ("lr", self.lr, 1e-8, 0.1), ("anchor", self.anchor, 0.0, 1e6),
        ):  # fmt: skip
            if not least <= value <= most:
                raise BadInput(f"--{name} {value:g} is not usable", hint=f"give {least:g} to {most:g}")
        if self.px % 32:
            raise BadInput(f"views of {self.px} px do not suit a backbone", hint=f"give --px {self.px // 32 * 32}")


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What came of it.

    Attributes:
        out: the file of weights.
        backbone: that they are of.
        pictures: that it learned from, the held-out ones among them.
        left_out: exact copies, and those beyond the most that are looked at.
        step: whose weights they are: the best on the pictures held out.
        apart_before, apart_after: how much nearer another view of a held-out picture is than the same view with a block, by the
            cosine of the features' means.
        moved: how far the features went from where they were, in their deviations.
    """

    out: Path
    backbone: str
    pictures: int
    left_out: int
    step: int
    apart_before: float
    apart_after: float
    moved: float


def pretrain(asked: PretrainRequest, progress: Progress = silent) -> Pretrained:
    """Train and write the file, at the very end.

    Raises:
        BadInput: unusable folders, pictures or values; a backbone that cannot be written again.
        MissingExtra: torch, or the package with the published weights, is not installed.
        StorageError: the file cannot be written.
    """
    found = _check(asked)
    from edgead.optional import require

    for module in ("torch", "safetensors"):
        require(module, extra="train", why="Pretraining")
    from edgead.jobs.train import check_device
    from edgead.models.backbones import load_backbone
    from edgead.models.backbones.files import read_state, weights_of
    from edgead.models.learning.spd import SpdRecipe
    from edgead.models.learning.spd import pretrain as teach
    from edgead.models.learning.steps import Checkpoint

    check_device(asked.device)
    images, left_out = _read(found, asked, progress)
    backbone = load_backbone(asked.backbone, asked.layers, asked.weights)
    recipe = SpdRecipe(asked.steps, asked.batch, asked.lr, asked.anchor, asked.px, asked.seed, asked.device)
    checkpoint = None if asked.checkpoint is None else Checkpoint(asked.checkpoint, _digest(asked, images))
    taught = teach(backbone, images, recipe, report=progress, checkpoint=checkpoint)
    source = asked.weights or weights_of(published(asked.backbone))
    state = {**backbone.renamed(read_state(source)), **taught.backbone.unfolded()}
    backbone.load_published(state)  # what is written can be read
    told = {"edgead": __version__, "backbone": asked.backbone, "pictures": len(images), "step": taught.step, **asdict(recipe)}
    _write(asked.out, state, told)
    if checkpoint is not None:
        checkpoint.remove()
    return Pretrained(asked.out, asked.backbone, len(images), left_out, taught.step, *taught.apart, taught.moved)


def _check(asked: PretrainRequest) -> list[Found]:
    """The pictures. Raises BadInput for what can be known before torch is imported."""
    if asked.out.suffix != ".safetensors":
        raise BadInput(f"{asked.out} does not end in .safetensors", hint=f"give -o {asked.out.with_suffix('.safetensors')}")
    if asked.out.exists():
        raise BadInput(f"{asked.out} exists", hint="choose another -o, or remove it yourself")
    for what, file in (("-o", asked.out), ("--checkpoint", asked.checkpoint)):
        if file is not None and not file.absolute().parent.is_dir():
            raise BadInput(f"{what} {file}: its folder does not exist", hint="name a file in a folder that is there")
    if asked.weights is not None and not asked.weights.is_file():
        raise BadInput(f"--weights {asked.weights} is not a file", hint="leave it out to start from the published weights")
    if published(asked.backbone).stride != 1:
        raise BadInput(
            f"{asked.backbone} is a transformer, which is not pretrained here", hint="give an EfficientNet-Lite or a ResNet"
        )
    if asked.layers is not None and not asked.layers:
        raise BadInput("no layer is named", hint=f"{asked.backbone} has {published(asked.backbone).choices}")
    return [good_pictures(find_good(folder)[0]) for folder in asked.good]


def _read(found: Sequence[Found], asked: PretrainRequest, progress: Progress) -> tuple[list[Image], int]:
    """Different pictures, squeezed to a square somewhat larger than a view, and how many were left out."""
    import numpy as np

    from edgead.preprocess import PreprocessRecipe
    from edgead.survey import Survey

    files = list(dict.fromkeys(file for one in found for file in one.files))
    order = np.sort(np.random.default_rng(asked.seed).permutation(len(files))[:MOST])
    side, survey = round(asked.px * 8 / 7), Survey()
    seen: dict[bytes, Image] = {}
    bits = _bits([files[i] for i in order], progress)
    recipe = PreprocessRecipe(side, side, bits=bits)
    for k, i in enumerate(order):
        if (image := survey.use(files[i], recipe)) is not None:
            seen.setdefault(image.tobytes(), image)
        progress("reading", 0.5 + 0.5 * (k + 1) / len(order))
    survey.refuse_bad("good pictures")
    if len(seen) < FEWEST:
        raise BadInput(
            f"{len(seen)} different pictures teach a backbone nothing", hint=f"give {FEWEST} or more; 100 are a good start"
        )
    return list(seen.values()), len(files) - len(seen)


def _bits(files: Sequence[Path], progress: Progress) -> int:
    """What 16-bit pictures really use. Raises BadInput: some cannot be read."""
    from edgead.preprocess import PreprocessRecipe
    from edgead.survey import Survey

    survey = Survey()
    for k, file in enumerate(files):
        survey.read(file, PreprocessRecipe(64, 64))
        progress("reading", 0.5 * (k + 1) / len(files))
    survey.refuse_bad("good pictures")
    return survey.bits


def _digest(asked: PretrainRequest, images: Sequence[Image]) -> str:
    """What tells this training from others."""
    values = asdict(asked) | {"good": None, "out": None, "checkpoint": None, "weights": str(asked.weights)}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for image in images:
        digest.update(image.tobytes())
    return f"spd {digest.hexdigest()}"


def _write(out: Path, state: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    part = out.with_name(f"{out.name}.part")
    try:
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, part, {"edgead": json.dumps(told)})
        os.replace(part, out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(
            f"{out} cannot be written: {error.strerror or error}", hint="check the disk and its permissions"
        ) from error
