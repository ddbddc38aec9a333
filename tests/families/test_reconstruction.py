"""Reconstruction: mixtures of network, masking, neck and error; what all families must do stands in tests/contracts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgead.calibration.int8.products import find_products, load_graph
from edgead.errors import BadInput
from edgead.export.graph import write_onnx
from edgead.families.contract import LITE, PAPER, FitData, Preset
from edgead.families.reconstruction.fit import config_of, fit
from edgead.families.reconstruction.kinds import NECKS, PARTS
from edgead.families.reconstruction.network import Reconstruction
from edgead.families.reconstruction.options import ERRORS, TELLING, ReconstructionOptions
from edgead.families.reconstruction.presets import PRESETS
from edgead.models.learning.steps import Checkpoint
from edgead.models.parts import errors
from edgead.models.parts.necks import Neck
from edgead.models.rows import to_pixels
from edgead.types import Image
from tests.bundles import part

PX = 64

QUICK = {"steps": 60, "batch": 4, "base": 8}

GOOD = [part(seed, PX) for seed in range(16)]


def made(images: list[Image] = GOOD, seed: int = 0, **options: Any) -> Reconstruction:
    return fit(FitData(images, (PX, PX), seed), ReconstructionOptions(**{**QUICK, **options}))


def asked(detector: Reconstruction, images: list[Image]) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        anomaly_map, score = detector.detect(to_pixels(images))
    return anomaly_map.numpy(), score.numpy()


def scratched(seed: int) -> tuple[Image, np.ndarray]:
    defective = part(seed, PX, defect=True)
    return defective, np.abs(defective.astype(int) - part(seed, PX).astype(int)).max(2) > 60


MIXES: dict[str, dict[str, Any]] = {
    "plain": {},
    "vector": {"neck": "vector", "vector": 16},
    "masked": {
        "network": "unet",
        "levels": 2,
        "stem": 2,
        "masking": "disjoint",
        "cells": ("8",),
        "error": ("msgms",),
        "steps": 120,
    },
    "memory": {"neck": "memory", "rows": 50},
    "adversarial": {"neck": "convex", "adversary": 0.01, "neck_share": 0.2},
    "criticised": {"adversary": 0.01, "critic": "wgan"},
    "prototypes": {"network": "unet", "levels": 3, "stem": 2, "skips": False, "neck": "prototypes", "neck_share": 0.3},
}


@pytest.mark.parametrize("mix", MIXES)
def test_what_it_cannot_rebuild_stands_out_and_the_map_shows_where(mix: str) -> None:
    detector = made(**MIXES[mix])
    good = asked(detector, [part(100 + i, PX) for i in range(8)])[1]
    bad, masks = zip(*(scratched(200 + i) for i in range(8)), strict=True)
    maps, scores = asked(detector, list(bad))
    assert np.mean(scores[:, None] > good[None]) > 0.9
    on_it = [float(one[mask].mean()) > 2 * float(one[~mask].mean()) for one, mask in zip(maps - maps.min(), masks, strict=True)]
    assert sum(on_it) >= 7


def test_an_even_light_is_not_judged() -> None:
    detector = made(light="even")
    dim = np.clip(GOOD[0].astype(int) - 20, 0, 255).astype(np.uint8)
    scores = asked(detector, [GOOD[0], dim])[1]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)
    as_it_is = asked(made(), [GOOD[0], dim])[1]
    assert as_it_is[1] > 1.2 * as_it_is[0]


@pytest.mark.parametrize("kind", ["excess", "squared", "relative"])
def test_what_good_pictures_are_off_at_a_place_is_taken_off_the_map(kind: str) -> None:
    """The same network: only what is made of its error differs."""
    plain, less = made(smooth=5, steps=5), made(smooth=5, steps=5, reference=kind)
    for image in (GOOD[0], part(7, PX, defect=True)):
        with torch.no_grad():
            error, usual = plain.differences(to_pixels([image]))[0], less.usual
            wanted = {
                "excess": (error - usual).clamp_min(0),
                "squared": (error - usual).square(),
                "relative": error / (usual + 0.1 * usual.mean()),
            }[kind]
            torch.testing.assert_close(less.detect(to_pixels([image]))[0], wanted[:, 0])
    assert float(less.usual.mean()) > 0


@pytest.mark.parametrize("score", ["max", "mean", "top"])
def test_the_score_is_of_the_map(score: str) -> None:
    maps, scores = asked(made(score_by=score, steps=2), GOOD[:2])
    cells = np.sort(maps.reshape(2, 16, 4, 16, 4).mean((2, 4)).reshape(2, -1))
    wanted = {"max": maps.max((1, 2)), "mean": maps.mean((1, 2)), "top": cells[:, -3:].mean(1)}[score]
    assert scores == pytest.approx(wanted, rel=1e-5)


def test_error_and_distance_share_the_map_in_deviations_of_good_pictures() -> None:
    detector = made(neck="memory", neck_share=0.5, steps=5)
    with torch.no_grad():
        error, distance = detector.differences(to_pixels(GOOD))
        assert distance is not None
        mean_e, std_e, mean_d, std_d = detector.scales.tolist()
        told = detector.detect(to_pixels(GOOD))[0]
        enlarged = torch.nn.functional.interpolate(distance, (PX, PX), mode="bilinear", align_corners=False)
    wanted = 0.5 * (error - mean_e) / std_e + 0.5 * (enlarged - mean_d) / std_d
    torch.testing.assert_close(told, wanted[:, 0])


@pytest.mark.parametrize("mix", [{"neck": "vae", "vector": 8}, {"neck": "convex", "adversary": 0.01}, {"neck": "prototypes"}])
def test_an_interrupted_training_goes_on_to_the_same_model(tmp_path: Path, mix: dict[str, Any]) -> None:
    options: dict[str, Any] = {"steps": 12, **mix}
    whole = made(**options)
    checkpoint = Checkpoint(tmp_path / "kept", "this one", every_s=0.0)

    def cut(stage: str, done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    data = FitData(GOOD, (PX, PX), progress=cut, checkpoint=checkpoint)
    with pytest.raises(KeyboardInterrupt):
        fit(data, ReconstructionOptions(**{**QUICK, **options}))
    went_on: list[float] = []
    data = dataclasses.replace(data, progress=lambda stage, done: went_on.append(done))
    again = fit(data, ReconstructionOptions(**{**QUICK, **options}))
    assert min(went_on) > 0.5
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(BadInput, match="diverged"):
        made(lr=1e20, norm=False, loss=("l2",), error=("l2",), steps=20, bf16=False, neck="vae")


def test_an_adversarial_training_that_makes_but_one_picture_ends_with_a_message() -> None:
    """It hardly learns, so that all pictures that it makes stay one grey."""
    varied = [np.clip(image.astype(int) + 12 * i - 90, 0, 255).astype(np.uint8) for i, image in enumerate(GOOD)]
    with pytest.raises(BadInput, match="adversarial training collapsed") as told:
        made(varied, neck="convex", adversary=0.01, lr=1e-9, norm=False, base=4, steps=400, batch=3)
    assert "--adversary" in str(told.value.hint)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rows": 5}, "--rows is nothing for network ae, masking none, neck none"),
        ({"neck": "vae", "rows": 5}, "--rows is nothing for network ae, masking none, neck vae"),
        ({"network": "unet", "blocks": 3}, "--blocks is nothing for network unet"),
        ({"cells": ("4",)}, "--cells is nothing"),
        ({"neck": "vae", "neck_share": 0.5}, "--neck-share is nothing for neck vae"),
        ({"critic": "wgan"}, "--critic is nothing without an adversary"),
        ({"critic_lr": 0.1}, "--critic-lr is nothing without an adversary"),
        ({"error": ("l3",)}, "errors .* are not usable"),
        ({"loss": ("l2", "l2:2")}, "errors .* are not usable"),
        ({"loss": ("l2:0",)}, "errors .* are not usable"),
        ({"loss": ("l2:x",)}, "errors .* are not usable"),
        ({"loss": ("l2:nan",)}, "errors .* are not usable"),
        ({"loss": ("l2:inf",)}, "errors .* are not usable"),
        ({"neck": "memory", "rows": 20, "shrink": 20.0}, "a shrink of 20 leaves nothing of a memory"),
        ({"neck": "memory", "temperature": 0.5, "shrink": 3.0}, "a shrink of 3 leaves nothing of a memory"),
        ({"masking": "disjoint", "cells": ("²",)}, "cells .* are not usable"),
        ({"loss": ()}, "errors .* are not usable"),
        ({"masking": "disjoint", "cells": ("0",)}, "cells .* are not usable"),
        ({"masking": "disjoint", "cells": ("4", "4")}, "cells .* are not usable"),
    ],
)
def test_options_that_do_not_apply_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as told:
        ReconstructionOptions(**values)
    assert told.value.hint


def test_a_picture_that_the_network_cannot_halve_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot take pictures of 72 x 64 px") as told:
        fit(FitData([part(0, 72)[:, :64]] * 4, (72, 64)), ReconstructionOptions(**QUICK))
    assert "multiples of 16" in str(told.value.hint)


def test_every_kind_and_error_is_there_and_named_alike() -> None:
    assert tuple(errors.ERRORS) == ERRORS
    fields = {one.name for one in ReconstructionOptions.known()}
    for table in PARTS.values():
        for kind in table.values():
            assert kind.load() is not None
            assert set(kind.takes) <= fields
    told = [name for name, kind in NECKS.items() if kind.load().distance is not Neck.distance]
    assert sorted(told) == sorted(TELLING)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
@pytest.mark.parametrize("how", [LITE, PAPER])
def test_a_preset_can_be_built_at_its_size(preset: Preset, how: str) -> None:
    if how == PAPER and not preset.paper:
        pytest.skip("one way of training")
    side = preset.px(how)
    with torch.device("meta"):
        detector = Reconstruction.build(config_of(ReconstructionOptions(**preset.values(how)), (side, side)), (side, side))
    assert detector.image_size == (side, side)


@pytest.mark.parametrize(
    ("name", "of_error", "of_memory"), [("ae", 0, 0), ("ae_ssim", 2, 0), ("riad", 8, 0), ("mnad", 0, 2), ("memae", 0, 2)]
)
def test_all_of_the_network_but_its_first_and_last_convolution_can_be_quantised(
    name: str, of_error: int, of_memory: int, tmp_path: Path
) -> None:
    """What stays float: these two, for they have three channels on one side; the error's filters; a memory's products."""
    preset = next(one for one in PRESETS if one.name == name)
    options = ReconstructionOptions(**{**preset.options, "base": 8})
    detector = Reconstruction.build(config_of(options, (PX, PX)), (PX, PX)).eval()
    write_onnx(detector, tmp_path / "graph.onnx")
    products, kept = find_products(load_graph(tmp_path / "graph.onnx"))
    layers = [module for module in detector.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(products) == len(layers) - 2
    assert len([op for _, op, _ in kept if op == "Conv"]) == 2 + of_error
    assert len([op for _, op, _ in kept if op == "MatMul"]) == of_memory
