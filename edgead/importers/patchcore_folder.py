"""PatchCore folders of amazon-science/patchcore-inspection: ``patchcore_params.pkl`` and ``nnscorer_search_index.faiss``.

Their scores are squared distances to the nearest row (faiss' flat L2), their features are averaged in bins, their map is smoothed
with sigma 4. The folder holds no backbone weights; they are torchvision's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from edgead.errors import BadInput
from edgead.families.patchcore.network import PatchCore
from edgead.importers.faissfile import read_flat_l2
from edgead.importers.model import Imported, ImportOptions, refuse_options
from edgead.importers.steps import CenterCrop, Resize, Step
from edgead.importers.transforms import follow
from edgead.importers.weights import check_layers, check_numbers
from edgead.models.backbones import load_backbone
from edgead.models.patches import build_features
from edgead.models.streams import MOST_BYTES, Unreadable, mapping, read_stream

PARAMS = "patchcore_params.pkl"
INDEX = "nnscorer_search_index.faiss"
NAMES = {"wideresnet50": "wide_resnet50_2", "resnet18": "resnet18"}
SMOOTH = {"upsample": "bilinear", "sigma": 4.0, "radius": 16, "border": "symmetric"}
_MOST_BINS = 1 << 14
_BUILDERS = {"collections.OrderedDict": mapping, "torch.Size": tuple}


def import_folder(folder: Path, options: ImportOptions) -> Imported:
    """The PatchCore model in a folder.

    Raises:
        BadInput: a file is missing, damaged or hostile; an ensemble; a backbone that edgead does not know.
    """
    if not (folder / PARAMS).is_file() and list(folder.glob(f"Ensemble-*{PARAMS}")):
        raise BadInput(f"{folder} holds an ensemble of several PatchCores", hint="edgead runs one: train with one backbone")
    for name in (PARAMS, INDEX):
        if not (folder / name).is_file():
            raise BadInput(f"{folder} has no {name}", hint=f"give the folder with {PARAMS} and {INDEX}")
    refuse_options(options, "a folder that names its layers", "layers")
    params = read_params(folder / PARAMS)
    bank = torch.from_numpy(read_flat_l2(folder / INDEX))
    try:
        told = str(params["backbone.name"])
        layers = check_layers(params["layers_to_extract_from"])
        height, width = (int(n) for n in tuple(params["input_shape"])[-2:])
        bins, channels = int(params["pretrain_embed_dimension"]), int(params["target_embed_dimension"])
        patch, stride, nearest = (int(params[key]) for key in ("patchsize", "patchstride", "anomaly_scorer_num_nn"))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{folder / PARAMS} lacks or garbles {error}", hint="it is of another version") from error
    if (patch, stride) != (3, 1):
        raise BadInput(f"patches of {patch} with stride {stride} are not supported", hint="train with --patchsize 3")
    if not 1 <= bins <= _MOST_BINS:
        raise BadInput(f"{folder / PARAMS} tells {bins} bins of features", hint="it is damaged")
    check_numbers(folder / INDEX, {"rows": bank})
    if bank.shape[1] != channels or nearest < 1 or nearest > len(bank):
        raise BadInput(
            f"{folder}: the index has {bank.shape[1]} channels, the parameters say {channels}", hint="they do not match"
        )
    assumptions: list[str] = []
    followed = follow(_steps(height, width, assumptions), options)
    name = options.backbone or NAMES.get(told, told)
    backbone = load_backbone(name, layers, options.weights)
    check_numbers(options.weights or Path(name), backbone.state_dict())
    extra = {
        "features": {"kind": "binned", "layer_bins": bins, "channels": channels}, "map": SMOOTH, "squared": nearest,
    }  # fmt: skip
    features = build_features({"backbone": name, "layers": list(layers), **extra}, backbone)
    detector = PatchCore.from_bank(features, bank, 1, (height, width), extra, floor=0.0)
    assumptions += [
        f"backbone weights: {'those of torchvision (ImageNet, V1)' if options.weights is None else options.weights.name}",
        f"scores are mean squared distances to {nearest} nearest row{'s' if nearest > 1 else ''}, as in training",
    ]
    source = f"patchcore-inspection folder: PatchCore, {name} {'+'.join(layers)}, {len(bank)} rows, {width} x {height} px"
    files = (folder / PARAMS, folder / INDEX, *([options.weights] if options.weights else []))
    return Imported(followed.place(detector), followed.recipe, None, source, files, assumptions)


def read_params(path: Path) -> dict[str, Any]:
    """The parameters: plain containers, numbers and strings, nothing else.

    Raises:
        BadInput: damaged, or it holds anything else (named; nothing is executed).
    """
    try:
        with path.open("rb") as file:
            value = read_stream(file.read(MOST_BYTES + 1), _BUILDERS)
    except Unreadable as error:
        raise Unreadable(f"{path}: {error}", hint=error.hint) from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds no parameters", hint="give the folder that save_to_path wrote")
    return value


def _steps(height: int, width: int, assumptions: list[str]) -> tuple[Step, ...]:
    """The authors' data sets resize the shorter side to 8/7 of the input (256 for 224, 366 for 320) and cut the middle out."""
    resize = {224: 256, 320: 366}.get(height)
    if resize is None or height != width:
        assumptions.append("pictures resized straight to the input size")
        return (Resize((height, width)),)
    assumptions.append(f"shorter side resized to {resize} px, middle {width} x {height} px cut out, as the authors' data sets do")
    return (Resize((resize,)), CenterCrop((height, width)))
