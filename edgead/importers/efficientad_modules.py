"""``{teacher,student,autoencoder}_final.pth`` of nelson1425/EfficientAD: whole pickled modules, read as data.

They hold neither the teacher's mean and deviation nor the maps' quantiles; both are measured again on good pictures, as that code
does it (section A.1 of Batzner, Heckler, König 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.efficientad.network import EfficientAd
from edgead.importers.anomalib.reading import load
from edgead.importers.model import Imported, ImportOptions, refuse_options
from edgead.importers.steps import Resize
from edgead.importers.transforms import follow
from edgead.importers.weights import check_numbers
from edgead.models.streams import Record
from edgead.models.torchfile import read_torch_file
from edgead.models.wrappers.resized import Resized
from edgead.types import Image

PARTS = ("teacher", "student", "autoencoder")
MODULES = tuple(
    f"torch.nn.modules.{name}"
    for name in (
        "container.Sequential", "conv.Conv2d", "activation.ReLU", "pooling.AvgPool2d", "upsampling.Upsample", "dropout.Dropout",
    )
)  # fmt: skip
IMAGE_SIZE = (256, 256)


@dataclass(slots=True)
class ImportedEfficientAd(Imported):
    """EfficientAD without its statistics until :meth:`complete`."""

    def complete(self, good: Sequence[Image], held_out: Sequence[Image]) -> None:
        """Teacher mean and deviation over `good`, quantiles of both maps over `held_out` (H x W x 3 uint8 BGR at model size)."""
        detector = self.detector.inner if isinstance(self.detector, Resized) else self.detector
        assert isinstance(detector, EfficientAd)
        resize = self.detector.inner_pixels if isinstance(self.detector, Resized) else torch.nn.Identity()
        with torch.no_grad():
            normalize(detector, [resize(_pixels(image)) for image in good])
            quantiles(detector, [resize(_pixels(image)) for image in held_out])
        self.incomplete = ""
        self.assumptions.append(
            f"teacher statistics measured on {len(good)} good pictures, quantiles on {len(held_out)} held out ones"
        )


def import_modules(folder: Path, options: ImportOptions) -> Imported:
    """The three modules in a folder.

    Raises:
        BadInput: one is missing, holds anything but such modules (named; nothing is executed), or another network.
    """
    refuse_options(options, "EfficientAD's modules", "weights", "backbone", "layers")
    files = tuple(folder / f"{part}_final.pth" for part in PARTS)
    for file in files:
        if not file.is_file():
            raise BadInput(f"{folder} has no {file.name}", hint="give the folder with teacher, student and autoencoder_final.pth")
    teacher, student, autoencoder = (convolutions(file) for file in files)
    size = {4: "small", 6: "medium"}.get(len(teacher))
    if size is None or len(student) != len(teacher) or len(autoencoder) != 14:
        raise BadInput(
            f"{folder} holds networks of {len(teacher)}, {len(student)} and {len(autoencoder)} convolutions",
            hint="4 (small) or 6 (medium), the same, and 14 are known",
        )
    detector = EfficientAd({"size": size, "pad_maps": "normalized"}, IMAGE_SIZE)
    names = [f"ae.encoder.enconv{i}" for i in range(1, 7)] + [f"ae.decoder.deconv{i}" for i in range(1, 9)]
    weights: dict[str, Tensor] = {k: v for k, v in detector.state_dict().items() if k.startswith(("mean_std.", "quantiles."))}
    for prefix, layers in (("teacher.conv", teacher), ("student.conv", student)):
        weights |= {f"{prefix}{i}.{kind}": layer[kind] for i, layer in enumerate(layers, 1) for kind in layer}
    weights |= {f"{name}.{kind}": layer[kind] for name, layer in zip(names, autoencoder, strict=True) for kind in layer}
    check_numbers(folder, weights)
    load(detector, weights)
    detector.requires_grad_(False)
    followed = follow((Resize(IMAGE_SIZE),), options)
    source = f"EfficientAD modules: {size}, 256 x 256 px"
    need = "teacher statistics and quantiles"
    return ImportedEfficientAd(followed.place(detector.eval()), followed.recipe, None, source, files, [], need)


def convolutions(path: Path) -> list[dict[str, Tensor]]:
    """Weight and bias of each convolution of a pickled ``nn.Sequential``, in order.

    Raises:
        BadInput: the file holds anything but such a network (named).
    """
    root = read_torch_file(path, MODULES)
    try:
        if not isinstance(root, Record) or root.name != MODULES[0]:
            raise TypeError
        found = []
        for child in root.state["_modules"].values():
            if child.name == MODULES[1]:
                parameters = child.state["_parameters"]
                found.append({kind: parameters[kind].float() for kind in ("weight", "bias")})
    except (TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} holds no sequence of convolutions", hint="give the file that the training wrote") from error
    return found


def normalize(detector: EfficientAd, pictures: Sequence[Tensor]) -> None:
    """Set the teacher's mean and deviation per channel, each picture counting alike.

    Args:
        pictures: float32 1 x 3 x 256 x 256 RGB 0 to 255.
    """
    described = [detector.teacher(detector.normalize(p)) for p in pictures]
    mean = torch.stack([d.mean((0, 2, 3)) for d in described]).mean(0).view(1, -1, 1, 1)
    variance = torch.stack([(d - mean).square().mean((0, 2, 3)) for d in described]).mean(0).view(1, -1, 1, 1)
    detector.mean_std.mean.copy_(mean)
    detector.mean_std.std.copy_(variance.sqrt())


def quantiles(detector: EfficientAd, pictures: Sequence[Tensor]) -> None:
    """Set the 0.9 and 0.995 quantiles of both maps, taken on the unpadded patch grid as that code does."""
    pairs = [detector.differences(p) for p in pictures]
    for kind, maps in zip(("st", "ae"), zip(*pairs, strict=True), strict=True):
        values = np.concatenate([m.flatten().numpy() for m in maps]).astype(np.float64)
        low, high = np.quantile(values, [0.9, 0.995])
        if not math.isfinite(high) or high <= low:
            raise BadInput("the good pictures give no usable quantiles", hint="give more, and different, good pictures")
        getattr(detector.quantiles, f"qa_{kind}").fill_(float(low))
        getattr(detector.quantiles, f"qb_{kind}").fill_(float(high))


def _pixels(image: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).flip(0)[None].float()
