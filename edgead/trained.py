"""A trained model's folder, written and read here only: ``model.json`` (the card), its weights without pickle, its pictures.

    model.json              :class:`ModelCard`
    model.safetensors       the network's weights
    heldout/                good pictures that it was not trained on, at model size; heldout/camera/: some as the camera gave them
    calibration/            good pictures for INT8, at model size; not there when an import had no pictures
    oddest/                 the oddest good pictures, in the order of the card's `oddest`
    trained-on.txt          digests of the pictures that it was trained on
    training.json           how the losses went (:class:`edgead.models.learning.curve.Curve`); only of trainings in steps

What is read without the network (:func:`read_card`) needs no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cv2

from edgead import __version__, disk, families
from edgead.bundle import TRAINED_ON, new_bundle
from edgead.calibration.findings import Finding
from edgead.errors import BadInput, EdgeadError
from edgead.golden import MOST_CAMERA, camera_pngs, write_camera
from edgead.manifest import Origin, Threshold
from edgead.preprocess import PreprocessRecipe, frame_digest
from edgead.typed import MAX_BYTES, Always, Between, Count, FileName, Lenient, Rest, Single, Wrong, loads, plain, read
from edgead.types import Image
from edgead.words import unicode_only

if TYPE_CHECKING:
    from edgead.models.detector import Detector

CARD, WEIGHTS = "model.json", "model.safetensors"
CURVES = "training.json"
HELD_OUT, CALIBRATION, ODDEST = "heldout", "calibration", "oddest"
CALIBRATION_FRAMES = 128
"""Pictures that are set aside for INT8, at most."""

ROOM_BYTES = 64 << 20
"""What a model may hold besides its stored weights: constants that it computes when it is built."""

InputSide = Annotated[int, Between(1, 8192)]

_UNUSABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
             ValueError, EdgeadError)  # fmt: skip
"""What building a network from a config that is not of this network raises."""


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """What the threshold of a model comes from, when pictures of training take part (:mod:`edgead.training.crossfit`).

    Attributes:
        how: ``"leave-one-out"``, ``"5 folds"``; "" when no picture of training takes part.
        heldout: so many of the pictures were held out; they come first.
        scores, files: of all pictures: raw model units, and their paths below the folder of good pictures.
        odd: those of the files whose score chance does not explain.
        why: why no picture of training takes part, in words.
    """

    how: str
    heldout: Count
    scores: tuple[Single, ...]
    files: tuple[FileName, ...]
    odd: tuple[FileName, ...]
    why: str = ""
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OddPicture:
    """One of the oddest good pictures, which lie in ``oddest/`` (:class:`edgead.training.oddest.Oddest`); its `file` is a path
    below the folder of good pictures, and its `score` None where it could not be told."""

    file: FileName
    times: float
    odd: bool
    heldout: bool
    score: Annotated[Single | None, Always()] = None
    without: Annotated[Single | None, Always()] = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """``model.json``: what there is to know of a trained model without its weights.

    Attributes:
        edgead_model: version of the format.
        family: name of the model family.
        config: arguments that rebuild the architecture.
        image_size: (height, width) of its input in pixels.
        name: of the part.
        preprocess: from camera picture to its input.
        threshold: its own.
        origin: where it came from, and what it was trained on.
        metrics: figures on labelled pictures or drawn defects; None where there was nothing to measure.
        labelled_root: a folder of labelled pictures; None without.
        findings: what training said of the model.
        oddest: the oddest good pictures.
        crossfit: what the threshold comes from; None when from the held out pictures alone, in models of before.
        rest: keys of other tools and newer edgeads.
    """

    edgead_model: Count = 1
    family: str
    config: dict[str, Any]
    image_size: tuple[InputSide, InputSide]
    name: str
    preprocess: PreprocessRecipe
    threshold: Annotated[Threshold, Lenient()]
    origin: Origin
    metrics: dict[str, float | None] = field(default_factory=dict)
    labelled_root: Annotated[FileName | None, Always()] = None
    findings: tuple[Annotated[Finding, Lenient()], ...] = ()
    oddest: tuple[OddPicture, ...] = ()
    crossfit: CrossFitted | None = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)

    @classmethod
    def of(cls, detector: Detector, **told: Any) -> ModelCard:
        """The card of this detector; `told` are the other fields."""
        return cls(family=detector.family, config=dict(detector.config), image_size=detector.image_size, **told)

    def to_json(self) -> dict[str, Any]:
        written: dict[str, Any] = unicode_only(plain(self) | {"preprocess": self.preprocess.to_json()})
        return written


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a trained model's folder, H x W x 3 uint8 BGR at model size.

    Attributes:
        held_out: good ones that it was not trained on.
        calibration: good ones for INT8, `CALIBRATION_FRAMES` at most are kept; empty: there are none.
        oddest: as the card tells of them.
        camera: the files of `held_out`, of which some are kept as the camera gave them.
        trained_on: those that it was trained on, of which digests are kept; None: nobody knows.
    """

    held_out: Sequence[Image] = ()
    calibration: Sequence[Image] = ()
    oddest: Sequence[Image] = ()
    camera: Sequence[Path] = ()
    trained_on: Sequence[Image] | None = None


def new_model(target: Path) -> AbstractContextManager[Path]:
    """A folder to fill, which then takes the place of `target` (:func:`edgead.bundle.new_bundle`, errors as there)."""
    return new_bundle(target, marker=CARD, kind="a trained model")


def write_model(folder: Path, detector: Detector, card: ModelCard, pictures: Pictures | None = None) -> None:
    """Write the folder of a trained model: pictures, weights and, last, its card.

    Raises:
        BadInput: a file of the camera's pictures cannot be read.
        OSError: the disk is full or not writable.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if pictures is not None:
        _write_pictures(folder, pictures, card.preprocess.bits)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    save_file(state, folder / f"{WEIGHTS}.part")
    os.replace(folder / f"{WEIGHTS}.part", folder / WEIGHTS)
    (folder / f"{CARD}.part").write_text(json.dumps(card.to_json(), indent=2) + "\n", "utf-8")
    os.replace(folder / f"{CARD}.part", folder / CARD)


def _write_pictures(folder: Path, pictures: Pictures, bits: int) -> None:
    kinds = {HELD_OUT: pictures.held_out, CALIBRATION: pictures.calibration[:CALIBRATION_FRAMES], ODDEST: pictures.oddest}
    for name, images in kinds.items():
        if images:
            (folder / name).mkdir()
        for i, image in enumerate(images):
            (folder / name / f"{i:04d}.png").write_bytes(encode_png(image))
    files = pictures.camera
    if pictures.held_out:
        kept = range(0, len(files), max(1, len(files) // MOST_CAMERA))
        write_camera(folder, camera_pngs({i: files[i] for i in kept}, bits=bits))
    if pictures.trained_on is not None:
        (folder / TRAINED_ON).write_text("".join(f"{frame_digest(image)}\n" for image in pictures.trained_on), "utf-8")


def encode_png(image: Image) -> bytes:
    """A frame as PNG, lossless."""
    return bytes(cv2.imencode(".png", image)[1].tobytes())


def is_model(folder: Path) -> bool:
    """Whether a trained model is there."""
    return (folder / CARD).is_file()


def read_card(folder: Path) -> ModelCard:
    """What a trained model's folder says of it.

    Raises:
        BadInput: no trained model there, or something in its card is not what it must be.
    """
    file = folder / CARD
    if not file.is_file():
        raise BadInput(f"{folder} holds no trained model (no {CARD})", hint="train one with: edgead train MODEL GOOD_DIR -o DIR")
    try:
        card: ModelCard = read(ModelCard, loads(disk.read_file(file, MAX_BYTES), nan_is_none=True))
    except (OSError, Wrong) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"{file} is not the card of a trained model: {reason}", hint="train or import it again") from error
    return card


def trained_on_by(folder: Path) -> frozenset[str]:
    """Digests (:func:`edgead.preprocess.frame_digest`) of the frames that a model was trained on; none where nobody knows."""
    file = folder / TRAINED_ON
    return frozenset(file.read_text("utf-8").split()) if file.is_file() else frozenset()


def load_model(folder: Path) -> tuple[Detector, ModelCard]:
    """The model that :func:`write_model` wrote, in evaluation mode, and its card.

    Raises:
        BadInput: no trained model there, of a family that is not known here, or damaged.
    """
    import torch

    from edgead.models.backbones import read_state
    from edgead.models.wrappers.resized import build

    card = read_card(folder)
    family = _network(folder, card)
    try:
        with torch.device("meta"):  # shapes without memory, whatever sizes the file dreams of
            empty = _built(build, family, card).state_dict().values()
        dreamt = sum(tensor.numel() * tensor.element_size() for tensor in empty)
        if dreamt > 2 * (folder / WEIGHTS).stat().st_size + ROOM_BYTES:
            raise ValueError(f"its config makes {dreamt:,} bytes of weights, far more than there are")
        detector: Detector = build(family, card.config, card.image_size)
        detector.load_state_dict(read_state(folder / WEIGHTS))
    except _UNUSABLE as error:
        raise BadInput(f"the trained model in {folder} is damaged: {str(error)[:200]}", hint="train it again") from error
    detector.requires_grad_(False)
    return detector.eval(), card


def _network(folder: Path, card: ModelCard) -> type[Detector]:
    if brought := families.unknown(card.family, card.origin.package):
        raise BadInput(
            f"{folder} holds a model of the family {card.family[:40]!r}, which this edgead {__version__} does not know",
            hint=f"{brought}, or train one that is known here: {', '.join(sorted(families.names()))}",
        )
    return families.find(card.family).detector()


def _built(make: Any, family: type[Detector], card: ModelCard) -> Detector:
    """The network; raises ValueError that says so when its config is to blame."""
    try:
        detector: Detector = make(family, card.config, card.image_size)
    except _UNUSABLE as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ValueError(f"{CARD}: config: {what}") from error
    return detector
