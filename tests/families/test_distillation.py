"""STFPM and Reverse Distillation: students learn from good pictures alone, and what they do not rebuild is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgead.errors import BadInput
from edgead.families import method
from edgead.families.contract import LITE, PAPER, FitData, Stopped
from edgead.families.distillation.fit import fit
from edgead.families.distillation.network import Distillation, distance
from edgead.families.distillation.options import DistillationOptions
from edgead.families.distillation.rebuilders import REBUILDERS
from edgead.models.backbones import build_backbone
from edgead.models.learning.steps import Checkpoint, split
from tests.bundles import part

SIDE = 64
NONE: Mapping[str, Any] = MappingProxyType({})
LITE_LAYERS = ("blocks.0", "blocks.2", "blocks.4")


def fitted(
    count: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (SIDE, SIDE),
    data: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Distillation:
    pictures = [np.ascontiguousarray(part(i, max(size))[: size[0], : size[1]]) for i in range(count)]
    width = {} if options.get("rebuilder") in ("twin", "mirror") else {"width": 16}
    told: dict[str, Any] = {"batch": 4, "layers": LITE_LAYERS, **width, **options}
    return fit(FitData(pictures, size, **data), DistillationOptions(**told))


def test_the_distance_is_one_minus_the_cosine_and_finite_for_nothing() -> None:
    g = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 7, 3, 4, generator=g), torch.randn(2, 7, 3, 4, generator=g)
    assert torch.allclose(distance(one, other), 1 - F.cosine_similarity(one, other), atol=1e-6)
    assert torch.equal(distance(one, one), torch.zeros(2, 3, 4))
    assert bool(torch.isfinite(distance(torch.zeros(1, 7, 1, 1), other[:1, :, :1, :1])).all())


@pytest.mark.parametrize("kind", ["small", "twin", "reverse"])
@pytest.mark.parametrize("size", [(64, 64), (72, 104)])
def test_students_rebuild_every_layer_at_its_own_size(kind: str, size: tuple[int, int]) -> None:
    teacher = build_backbone("efficientnet_lite0", ("blocks.2", "blocks.5", "blocks.10"))  # two of them of one size
    pixels = torch.rand(1, 3, *size) * 255
    with torch.no_grad():
        maps = teacher(pixels)
        rebuilt = REBUILDERS[kind](teacher, {"width": 16})(pixels, maps)
    assert [one.shape for one in rebuilt] == [one.shape for one in maps]


@pytest.mark.parametrize("backbone", ["resnet18", "wide_resnet50_2"])
def test_a_mirrored_decoder_has_the_shapes_of_its_encoder(backbone: str) -> None:
    teacher = build_backbone(backbone, ("layer1", "layer2", "layer3"))
    with torch.no_grad():
        maps = teacher(torch.zeros(1, 3, 64, 64))
        rebuilt = REBUILDERS["mirror"](teacher, {})(torch.zeros(1, 3, 64, 64), maps)
    assert [one.shape for one in rebuilt] == [one.shape for one in maps]


@pytest.mark.parametrize("kind", ["small", "reverse"])
def test_defects_are_told(kind: str) -> None:
    detector = fitted(24, rebuilder=kind, steps=60)
    good, bad = [part(i, SIDE) for i in range(60, 72)], [part(i, SIDE, defect=True) for i in range(60, 72)]
    with torch.no_grad():
        scores = detector(torch.from_numpy(np.stack(good + bad)))[1].numpy()
    better = (scores[12:, None] > scores[None, :12]).mean()
    assert better > 0.8


def test_layers_are_balanced_on_good_pictures() -> None:
    detector = fitted(steps=5)
    held = split(10, 0)[1]
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack([part(i, SIDE) for i in held])).permute(0, 3, 1, 2).flip(1).float()
        found = [float(one.mean()) * float(detector.scale[i]) for i, one in enumerate(detector.distances(pixels))]
    assert found == pytest.approx([1.0] * 3, rel=1e-3)
    assert torch.equal(fitted(steps=5, balanced=False).scale, torch.ones(3))


@pytest.mark.parametrize(
    "options",
    [
        {"at_picture": "plain", "combine": "product", "optimizer": "sgd", "falls": False, "lr": 0.1, "epochs": 2},
        {"at_picture": "smoothed", "rebuilder": "reverse", "whole": True, "balanced": False, "beta": 0.5},
    ],
    ids=["stfpm", "reverse"],
)
def test_the_papers_settings_train_and_score_at_the_pictures_size(options: dict[str, Any]) -> None:
    """With a small backbone: no weights of a ResNet are here."""
    detector = fitted(steps=4, size=(64, 80), **options)
    with torch.no_grad():
        maps, scores = detector(torch.from_numpy(part(50, 80)[None, :64]))
    assert maps.shape == (1, 64, 80)
    assert float(scores[0]) == float(maps.max())
    assert detector.enlarging == ""  # the score is of the map at that size
    again = fitted(steps=4, size=(64, 80), **options)
    assert all(torch.equal(a, b) for a, b in zip(detector.state_dict().values(), again.state_dict().values(), strict=True))


def test_an_interrupted_training_goes_on_to_the_same_model(tmp_path: Path) -> None:
    whole = fitted(steps=30, rebuilder="reverse").state_dict()
    told: list[float] = []

    def progress(stage: str, done: float) -> None:
        told.append(done)

    def stop() -> bool:
        return len(told) >= 10 + 27  # ten pictures' features, then steps

    checkpoint = Checkpoint(tmp_path / "kept", "this one", every_s=0.0)
    with pytest.raises(Stopped):
        fitted(steps=30, rebuilder="reverse", data={"progress": progress, "stop": stop, "checkpoint": checkpoint})
    again = fitted(steps=30, rebuilder="reverse", data={"checkpoint": checkpoint}).state_dict()
    assert all(torch.equal(one, again[name]) for name, one in whole.items())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rebuilder": "twin", "width": 16}, "--width is nothing for --rebuilder twin"),
        ({"optimizer": "sgd", "beta": 0.5}, "--beta is nothing for --optimizer sgd"),
        ({"at_picture": "plain", "score_by": "mean"}, "--score-by is nothing for --at-picture plain"),
    ],
)
def test_options_that_do_not_apply_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        DistillationOptions(**options)


def test_a_cache_that_would_not_fit_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = fitted(steps=4).state_dict()
    monkeypatch.setattr("edgead.families.distillation.fit.MAX_BYTES", 1)
    fresh = fitted(steps=4).state_dict()
    assert all(torch.allclose(one, fresh[name], atol=1e-4) for name, one in kept.items())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rebuilder": "mirror"}, "no mirrored decoder for efficientnet_lite0"),
        ({"layers": ("blocks.40",)}, "no layer 'blocks.40'"),
    ],
)
def test_a_student_that_the_backbone_does_not_have_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        fitted(2, **options)
    assert caught.value.hint


def test_a_transformer_has_no_such_student() -> None:
    with pytest.raises(BadInput, match="does not halve its pictures"):
        REBUILDERS["small"](build_backbone("dinov2_vits14_reg", ("blocks.1",)), {"width": 8})


@pytest.mark.parametrize("name", ["stfpm", "reverse_distillation"])
def test_paper_and_lite_are_of_one_family(name: str) -> None:
    family, preset = method(name)
    lite, paper = (family.options_type().of(family.name, preset.values(how)) for how in (LITE, PAPER))
    assert lite.backbone == "efficientnet_lite0"
    assert paper.backbone in ("resnet18", "wide_resnet50_2")
    assert paper.layers == ("layer1", "layer2", "layer3")
