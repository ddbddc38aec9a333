"""Draem in checkpoints of anomalib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edgead.errors import BadInput
from edgead.families.draem.network import Draem
from edgead.importers.anomalib.reading import State, load, px
from edgead.importers.model import ImportOptions
from edgead.importers.transforms import Followed
from edgead.importers.weights import fold_norm
from edgead.models.detector import Detector

MARK, TITLE, NORMALIZED = "reconstructive_subnetwork.encoder.block1.0.weight", "Draem", False


def build(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    """The detector of a checkpoint's weights and hyperparameters, and what it is in a few words. Raises BadInput."""
    if hyper.get("enable_sspcab") or "reconstructive_subnetwork.encoder.block5.masked_conv1.weight" in state:
        raise BadInput("the file's Draem was trained with SSPCAB, which edgead does not have", hint="train without it")
    if (followed.mean, followed.std) != ((0.0,) * 3, (255.0,) * 3):  # anomalib refuses to train so
        raise BadInput("the file has the step Normalize before Draem, which takes none", hint="train without Normalize")
    first = _entry(state, "discriminative_subnetwork.encoder_segment.block1.0.weight")
    config = {"width": int(state[MARK].shape[0]), "segment_width": int(first.shape[0]), "smooth": 1}
    detector = Draem(config, followed.size)
    load(detector, {**_rebuild(state), **_segment(state)})
    return detector, f"Draem, {px(followed.size)}"


def _rebuild(state: State) -> dict[str, Tensor]:
    theirs = "reconstructive_subnetwork"
    found: dict[str, Tensor] = {}
    for i in range(5):
        found |= _pair(state, f"{theirs}.encoder.block{i + 1}", f"rebuild.down.{i}")
    for i in range(4):
        found |= _one(state, f"{theirs}.decoder.up{i + 1}", 1, f"rebuild.up.{i}.conv")
        found |= _pair(state, f"{theirs}.decoder.db{i + 1}", f"rebuild.back.{i}")
    return found | {f"rebuild.last.{k}": _entry(state, f"{theirs}.decoder.fin_out.0.{k}") for k in ("weight", "bias")}


def _segment(state: State) -> dict[str, Tensor]:
    encoder, decoder = (f"discriminative_subnetwork.{half}_segment" for half in ("encoder", "decoder"))
    found = _joined(_one(state, f"{encoder}.block1", 0, "segment.first.conv"), "segment.first", 3)
    found |= _one(state, f"{encoder}.block1", 3, "segment.then.conv")
    for i in range(5):
        found |= _pair(state, f"{encoder}.block{i + 2}", f"segment.down.{i}")
    for i, name in enumerate(("_b", "1", "2", "3", "4")):
        found |= (up := _one(state, f"{decoder}.up{name}", 1, f"segment.up.{i}.conv"))
        own = len(up[f"segment.up.{i}.conv.bias"])  # the enlarged one comes first, then what was kept on the way down
        found |= _joined(_one(state, f"{decoder}.db{name}", 0, f"segment.join.{i}.conv"), f"segment.join.{i}", own)
        found |= _one(state, f"{decoder}.db{name}", 3, f"segment.back.{i}.conv")
    for k in ("weight", "bias"):
        good, odd = _entry(state, f"{decoder}.fin_out.0.{k}").double()
        found[f"segment.last.{k}"] = (odd - good).float()[None]
    return found


def _one(state: State, theirs: str, at: int, ours: str) -> dict[str, Tensor]:
    """A convolution and the batch norm after it."""
    return fold_norm(state, f"{theirs}.{at}", f"{theirs}.{at + 1}", ours)


def _pair(state: State, theirs: str, ours: str) -> dict[str, Tensor]:
    return {**_one(state, theirs, 0, f"{ours}.0.conv"), **_one(state, theirs, 3, f"{ours}.1.conv")}


def _joined(whole: dict[str, Tensor], ours: str, own: int) -> dict[str, Tensor]:
    """A convolution of a concatenation as two, the first of so many channels."""
    weight = whole[f"{ours}.conv.weight"]
    return {
        f"{ours}.conv.weight": weight[:, :own].clone(), f"{ours}.skip.weight": weight[:, own:].clone(),
        f"{ours}.conv.bias": whole[f"{ours}.conv.bias"],
    }  # fmt: skip


def _entry(state: State, name: str) -> Tensor:
    if name not in state:
        raise BadInput(f"the file has no entry {name!r}", hint="it is incomplete or of another version")
    return state[name]
