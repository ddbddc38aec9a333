"""A model from a folder of good pictures. What needs torch is imported when it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead import versions
from edgead.bundle import check_target
from edgead.errors import BadInput
from edgead.families import method as find_method
from edgead.families.contract import LITE, PAPER, Family
from edgead.jobs.progress import Progress, silent
from edgead.layout import defect_pictures, find_good, good_pictures, leave_out
from edgead.optional import require
from edgead.preprocess import PreprocessRecipe
from edgead.published import DEFAULT, check_side, fitting_side, published
from edgead.survey import settle

if TYPE_CHECKING:
    from edgead.training.alignment import AlignAsked
    from edgead.training.fit import TrainRequest, TrainResult
    from edgead.training.tiles import Tiling

Size = tuple[int, int]
"""Width and height, px."""

NATIVE = "native"
"""The size of the pictures themselves."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What was made.

    Attributes:
        request: as it was asked for.
        result: the model and what it is worth.
        kept: where the model that was there is now; None: none was.
    """

    request: TrainRequest
    result: TrainResult
    kept: Path | None

    def _repr_html_(self) -> str:
        """For notebooks: what it is, what it is worth, and what must be said about it."""
        from edgead.jobs.pages import html_facts

        width, height = self.result.images.recipe.width, self.result.images.recipe.height
        facts = {
            "model": self.request.out,
            "method": self.request.method or self.request.family,
            "input": f"{width} x {height} px",
        }
        said = {f"{one.severity} {number}": one.message for number, one in enumerate(self.result.findings, 1)}
        return html_facts({**facts, "threshold": self.result.threshold.value, **self.result.metrics, **said})


@dataclass(frozen=True, slots=True)
class Looked:
    """How the model looks at pictures, as far as the user says.

    Attributes:
        size: of the model's input, px; ``"native"``: the pictures' own. None: chosen by pictures, drawn defects and `budget_ms`;
            with tiles the pictures' own.
        budget_ms: camera picture to verdict on this machine, for the choice of the size; None: 30.
        roi: x, y, width, height of the inspected part of the camera picture, px; with `align` of its reference picture.
        resize: ``"box"``, ``"area"``, ``"linear"`` or ``"antialias"``.
        keep_aspect: what becomes of other proportions than the model's: ``"letterbox"``, ``"crop"``, ``"no"`` (stretched). None:
            stretched, but letterbox where the pictures' own proportions differ.
        bits: that 16-bit pictures really use; None: by their largest value.
        tiles: look at overlapping tiles of this size, px.
        overlap: of neighbouring tiles, px; None: an eighth of a tile.
        coarse: look at the whole picture at 1/N of its size first, then only at tiles that are not clearly good.
        align: how the part is found: ``"template"``, ``"edges"`` or ``"silhouette"``; None: it is not looked for.
        align_region: x, y, width, height that hold the part in the reference picture, px; None: `roi`, else looked for.
        align_reference: a good picture; None: a typical one, or the first where a region is given.
        align_angle: parts are turned by at most so many degrees to either side; None: any turn.
        align_shift: they are shifted by at most so many px; None: anywhere.
    """

    size: Size | str | None = None
    budget_ms: float | None = None
    roi: tuple[int, int, int, int] | None = None
    resize: str = "box"
    keep_aspect: str | None = None
    bits: int | None = None
    tiles: Size | None = None
    overlap: int | None = None
    coarse: int | None = None
    align: str | None = None
    align_region: tuple[int, int, int, int] | None = None
    align_reference: Path | None = None
    align_angle: float | None = None
    align_shift: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.size, str) and self.size != NATIVE:
            raise BadInput(f"{self.size!r} is not a size", hint="give width and height in pixels, or native")
        if self.tiles is None and (self.overlap is not None or self.coarse is not None):
            raise BadInput("--overlap and --coarse say how tiles are used, and there are none", hint="give --tiles 256 too")
        self._check_budget()
        self._check_align()
        self.recipe(256, 256) if self.size in (None, NATIVE) else self.recipe(*_pair(self.size))

    def _check_budget(self) -> None:
        if self.budget_ms is None:
            return
        if not 0 < self.budget_ms < math.inf:
            raise BadInput(f"a budget of {self.budget_ms:g} ms is not usable", hint="give milliseconds above 0, such as 30")
        if not self.chooses:
            given = "--size" if self.size is not None else "--tiles"
            raise BadInput(
                f"--budget-ms chooses the input size, and {given} gives it",
                hint=f"leave one of them out; edgead export --budget-ms finds the fastest engine of a model trained with {given}",
            )

    def _check_align(self) -> None:
        names = ("region", "reference", "angle", "shift")
        given = [name for name in names if getattr(self, f"align_{name}") is not None]
        if self.align is None:
            if given:
                raise BadInput(
                    f"--align-{given[0]} says how parts are found, and they are not looked for",
                    hint="give --align template, edges or silhouette too",
                )
            return
        if self.align_angle is not None and not 0 <= self.align_angle <= 180:
            raise BadInput(
                f"parts cannot be turned by {self.align_angle:g} degrees to either side", hint="give --align-angle 0 to 180"
            )
        if self.align_shift is not None and self.align_shift < 1:
            raise BadInput(f"parts cannot be shifted by {self.align_shift} px", hint="give --align-shift 1 or more")
        if self.align_reference is not None and not self.align_reference.is_file():
            raise BadInput(f"--align-reference {self.align_reference} is not a file", hint="give a good picture")
        if self._native and self.roi is None and self.align_region is None:
            raise BadInput(
                "the size of what the model looks at is not known before the part is found",
                hint="give --size, --roi or --align-region",
            )

    @property
    def chooses(self) -> bool:
        """Whether the size is to be chosen."""
        return self.size is None and self.tiles is None

    @property
    def _native(self) -> bool:
        return self.size == NATIVE or (self.size is None and self.tiles is not None)

    def recipe(self, width: int, height: int) -> PreprocessRecipe:
        """With an input of this size, before the pictures were looked at. Raises BadInput."""
        aspect = "stretch" if self.keep_aspect in (None, "no") else str(self.keep_aspect)
        return PreprocessRecipe(width, height, self.roi, self.resize, aspect=aspect, bits=16 if self.bits is None else self.bits)

    def check_side(self, backbone: str) -> None:
        """Raises BadInput: this backbone does not take inputs of the size that is given."""
        if self.tiles is not None:
            check_side(backbone, *self.tiles)
        elif self.size not in (None, NATIVE):
            check_side(backbone, *_pair(self.size))

    def input_size(self, good_dir: Path, backbone: str, px: int) -> Size:
        """Of the model, or where a choice starts; `px`: the side where nobody chooses."""
        from edgead.training.dataset import native_size

        if self._native:
            return native_size(good_dir, self.roi or self.align_region)
        if self.size is None:
            side = fitting_side(backbone, px)
            return side, side
        return _pair(self.size)

    def tiling(self) -> Tiling | None:
        """How the pictures are tiled."""
        from edgead.training.tiles import Tiling

        return None if self.tiles is None else Tiling(self.tiles[1], self.tiles[0], self.overlap, self.coarse)

    def aligned(self) -> AlignAsked | None:
        """How the part is found."""
        from edgead.training.alignment import AlignAsked

        if self.align is None:
            return None
        angle = 180.0 if self.align_angle is None else self.align_angle
        return AlignAsked(self.align, self.align_region, angle, self.align_shift, self.align_reference)


def train_request(
    model: str,
    good_dir: Path,
    out: Path,
    looked: Looked | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    heldout: float = 0.15,
    seed: int = 0,
    all_good: bool = True,
    left_out: Sequence[str] = (),
    defects: Sequence[Path] = (),
    preset: str | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
) -> TrainRequest:
    """What is to be trained: all that can be known before pictures are read is checked, what is missing is imported.

    Args:
        model: a name of :func:`edgead.families.methods`.
        good_dir: folder of good pictures, or a folder in MVTec layout.
        out: folder for the trained model; an older one there is replaced at the very end.
        looked: how it looks at pictures; None: as suits them.
        options: values of the family's options, over those of the preset.
        name: of the part; "" takes the folder's.
        heldout: share of the good pictures that is held out.
        seed: of the split and the training.
        all_good: the threshold comes from all good pictures; False: from the held-out ones alone.
        left_out: good pictures that are none, as training names them.
        defects: folders of pictures of defects, for families that learn from such too (:func:`edgead.layout.defect_pictures`).
        preset: ``"lite"``: trained in minutes on two cores; ``"paper"``: with the sizes and the schedule of the paper. None: lite
            on a CPU, and the paper's elsewhere, if there is such.
        device: torch device that trains.
        checkpoint: file that a long training goes on from after an interruption.

    Raises:
        BadInput: no such folder, family or option, or a value that is not usable.
        MissingExtra: a package that trains is not installed.
    """
    family, method = find_method(model)
    kind = family.options_type()
    family.check_defects(bool(defects))
    how = preset or (PAPER if device != "cpu" and method.paper else LITE)
    looked, options = looked or Looked(), {**method.values(how), **(options or {})}
    kind.of(family.name, options)
    kind.refuse_absent(options)
    _check_checkpoint(family, looked, checkpoint)
    if how == PAPER and looked.budget_ms is not None:
        raise BadInput("--budget-ms chooses the input size, and the paper says it", hint="leave it out, or --preset lite")
    backbone = published(options.get("backbone") or DEFAULT).name
    looked.check_side(backbone)
    check_folders(good_dir, out, left_out, defects)
    for module in ("torch", "safetensors", "sklearn"):
        require(module, extra="train", why="Training")
    check_device(device)
    from edgead.training.fit import TrainRequest
    from edgead.training.sizing import Sizing

    tiling = looked.tiling()
    width, height = looked.input_size(good_dir, backbone, method.px(how))
    if tiling is None:
        check_side(backbone, width, height)
    aspect = "stretch" if looked.keep_aspect == "no" else looked.keep_aspect
    return TrainRequest(
        family.name, good_dir, out, looked.recipe(width, height), options, name, heldout, seed, tiling,
        lambda asked, survey: settle(asked, survey, aspect, looked.bits),
        sizing=Sizing(looked.budget_ms) if looked.chooses and how == LITE else None,
        crossfit=all_good, leave_out=tuple(left_out), align=looked.aligned(), defects=tuple(defects),
        device=device, method="" if method.name == family.name else method.name, preset=how, checkpoint=checkpoint,
    )  # fmt: skip


def train(request: TrainRequest, progress: Progress = silent) -> Trained:
    """Train and write the model's folder. Nothing is left there when it fails or is interrupted; an older model stays.

    Raises:
        BadInput: unusable pictures, options or target.
        StorageError: the folder cannot be written.
    """
    from edgead.training.fit import train as fit

    former = {version.path for version in versions.former(request.out)}
    result = fit(request, progress)
    kept = [version.path for version in versions.former(request.out) if version.path not in former]
    return Trained(request, result, kept[-1] if kept else None)


def check_device(device: str) -> None:
    """Raises BadInput: PyTorch here does not know this device."""
    import torch

    if device != "cpu" and not (device.split(":")[0] == "cuda" and torch.cuda.is_available()):
        raise BadInput(f"this PyTorch has no device {device!r}", hint="give --device cpu")


def _check_checkpoint(family: Family, looked: Looked, checkpoint: Path | None) -> None:
    if checkpoint is None:
        return
    if not family.resumes:
        raise BadInput(f"{family.title} is trained at one go: it keeps no checkpoint", hint="leave --checkpoint out")
    if looked.tiles is not None:
        raise BadInput("a training on --tiles keeps no checkpoint", hint="leave --checkpoint out")
    if not checkpoint.absolute().parent.is_dir():
        raise BadInput(f"--checkpoint {checkpoint}: its folder does not exist", hint="name a file in a folder that is there")


def check_folders(good_dir: Path, out: Path, left_out: Sequence[str], defects: Sequence[Path] = ()) -> None:
    good, root = find_good(good_dir)
    leave_out(good_pictures(good), left_out)
    check_target(out, "model.json", "a trained model")
    bad = [defect_pictures(folder).folder for folder in defects]
    for folder in (good, root / "test" if root is not None else good, *bad):
        if out.resolve().is_relative_to(folder.resolve()):
            raise BadInput(
                f"-o {out} lies in {folder}, a folder of pictures: the next training would take the model's for such",
                hint="choose another -o",
            )


def _pair(size: Size | str | None) -> Size:
    assert isinstance(size, tuple)  # None and native are asked for before
    return size
