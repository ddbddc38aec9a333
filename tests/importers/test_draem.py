"""anomalib's Draem checkpoints: the same maps and scores as the authors' two networks, written down here once more."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgead.errors import BadInput
from edgead.importers import import_model
from tests.importers import _reference as reference

WIDTH, SEGMENT_WIDTH = 8, 10
"""Small ones; anomalib's are 128 and 64."""

REBUILD, SEGMENT = "model.reconstructive_subnetwork", "model.discriminative_subnetwork"
Weights = dict[str, torch.Tensor]


def weights() -> Weights:
    g, found = torch.Generator().manual_seed(0), {}

    def conv(name: str, into: int, out: int) -> None:
        found[f"{name}.weight"] = torch.randn(out, into, 3, 3, generator=g) * (1.6 / (9 * into) ** 0.5)
        found[f"{name}.bias"] = 0.1 * torch.randn(out, generator=g)

    def layers(name: str, *channels: int, at: int = 0) -> None:
        """Convolutions with a batch norm and a ReLU behind each."""
        for i, (into, out) in enumerate(itertools.pairwise(channels)):
            conv(f"{name}.{at + 3 * i}", into, out)
            norm = f"{name}.{at + 3 * i + 1}"
            found[f"{norm}.weight"] = 0.8 + 0.4 * torch.rand(out, generator=g)
            found[f"{norm}.bias"] = 0.2 * torch.randn(out, generator=g)
            found[f"{norm}.running_mean"] = 0.1 * torch.randn(out, generator=g)
            found[f"{norm}.running_var"] = 0.7 + 0.6 * torch.rand(out, generator=g)

    w, c = WIDTH, 3
    for i, times in enumerate((1, 2, 4, 8, 8), 1):
        layers(f"{REBUILD}.encoder.block{i}", c, times * w, times * w)
        c = times * w
    for i, times in enumerate((4, 2, 1, 1), 1):
        layers(f"{REBUILD}.decoder.up{i}", c, c, at=1)
        layers(f"{REBUILD}.decoder.db{i}", c, c, times * w)
        c = times * w
    conv(f"{REBUILD}.decoder.fin_out.0", c, 3)
    w, c = SEGMENT_WIDTH, 6
    for i, times in enumerate((1, 2, 4, 8, 8, 8), 1):
        layers(f"{SEGMENT}.encoder_segment.block{i}", c, times * w, times * w)
        c = times * w
    for name, times, skip in (("_b", 8, 8), ("1", 4, 8), ("2", 2, 4), ("3", 1, 2), ("4", 1, 1)):
        layers(f"{SEGMENT}.decoder_segment.up{name}", c, times * w, at=1)
        layers(f"{SEGMENT}.decoder_segment.db{name}", (times + skip) * w, times * w, times * w)
        c = times * w
    conv(f"{SEGMENT}.decoder_segment.fin_out.0", c, 2)
    found[f"{SEGMENT}.decoder_segment.fin_out.0.weight"] *= 0.05  # so that the softmax is neither 0 nor 1
    return found


def checkpoint(path: Path, state: Weights, *steps: tuple[str, dict[str, Any]], **hyper: Any) -> None:
    described = [{"class_path": f"torchvision.transforms.v2.{name}", "init_args": args} for name, args in steps]
    transform = {"class_path": "torchvision.transforms.v2.Compose", "init_args": {"transforms": described}}
    torch.save(
        {
            "state_dict": {**state, "post_processor._image_threshold": torch.tensor(0.5)}, "hyper_parameters": hyper,
            "anomalib_pre_processor_config": {"transform": transform},
            "lr_schedulers": [{"milestones": Counter({400: 1, 600: 1}), "gamma": 0.1}],  # anomalib's Draem has such a schedule
        },
        path,
    )  # fmt: skip


RESIZE = ("Resize", {"size": [64, 96], "antialias": True})


def draem(state: Weights, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures N x 3 x H x W, 0 to 1 -> the probability of each pixel to be odd, and the largest one."""

    def layers(x: torch.Tensor, name: str, at: int = 0, count: int = 2) -> torch.Tensor:
        for i in range(count):
            n = [state[f"{name}.{at + 3 * i + 1}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
            conv = f"{name}.{at + 3 * i}"
            x = F.relu(F.batch_norm(F.conv2d(x, state[f"{conv}.weight"], state[f"{conv}.bias"], padding=1), *n))
        return x

    def up(x: torch.Tensor, name: str) -> torch.Tensor:
        return layers(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True), name, 1, 1)

    def last(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, state[f"{name}.fin_out.0.weight"], state[f"{name}.fin_out.0.bias"], padding=1)

    y = x
    for i in range(1, 6):
        y = layers(F.max_pool2d(y, 2) if i > 1 else y, f"{REBUILD}.encoder.block{i}")
    for i in range(1, 5):
        y = layers(up(y, f"{REBUILD}.decoder.up{i}"), f"{REBUILD}.decoder.db{i}")
    z, kept = torch.cat([x, last(y, f"{REBUILD}.decoder")], 1), []
    for i in range(1, 7):
        z = layers(F.max_pool2d(z, 2) if i > 1 else z, f"{SEGMENT}.encoder_segment.block{i}")
        kept.append(z)
    kept.pop()
    for name in ("_b", "1", "2", "3", "4"):
        z = torch.cat([up(z, f"{SEGMENT}.decoder_segment.up{name}"), kept.pop()], 1)
        z = layers(z, f"{SEGMENT}.decoder_segment.db{name}")
    odd = last(z, f"{SEGMENT}.decoder_segment").softmax(1)[:, 1]
    return odd, odd.amax((1, 2))


def test_maps_and_scores_are_those_of_the_two_networks(tmp_path: Path) -> None:
    state = weights()
    checkpoint(tmp_path / "model.ckpt", state, RESIZE)
    imported = import_model(tmp_path / "model.ckpt")
    assert imported.detector.family == "draem"
    assert imported.threshold is not None and imported.threshold.value == pytest.approx(0.5)
    for square in reference.pictures(2, 96):
        image = np.ascontiguousarray(square[:64])
        rgb = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1])).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            anomaly_map, score = imported.detector(torch.from_numpy(image)[None])
            wanted_map, wanted = draem(state, rgb)
        assert float(wanted_map.max() - wanted_map.min()) > 0.2
        assert float((anomaly_map - wanted_map).abs().max()) < 1e-5
        assert float(score[0]) == pytest.approx(float(wanted[0]), abs=1e-5)


@pytest.mark.parametrize(
    ("steps", "hyper", "left_out", "says"),
    [
        ((RESIZE,), {"enable_sspcab": True}, "", "SSPCAB"),
        ((RESIZE, ("Normalize", {"mean": [0.5] * 3, "std": [0.2] * 3})), {}, "", "Normalize"),
        ((RESIZE,), {}, f"{SEGMENT}.encoder_segment.block1.0.weight", "encoder_segment.block1.0.weight"),
        ((RESIZE,), {}, f"{SEGMENT}.decoder_segment.fin_out.0.bias", "fin_out.0.bias"),
        ((RESIZE,), {}, f"{REBUILD}.decoder.up3.2.running_var", "up3.2.running_var"),
    ],
)
def test_what_cannot_be_followed_is_told_by_name(
    tmp_path: Path, steps: tuple[Any, ...], hyper: dict[str, Any], left_out: str, says: str
) -> None:
    state = {name: tensor for name, tensor in weights().items() if name != left_out}
    checkpoint(tmp_path / "model.ckpt", state, *steps, **hyper)
    with pytest.raises(BadInput, match=says) as caught:
        import_model(tmp_path / "model.ckpt")
    assert caught.value.hint
