"""anomalib's Padim and Fastflow: random weights in its layout against the steps written out, and its own files where it runs."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._peers.environment import DEFAULT, python_of
from edgead.errors import BadInput
from edgead.importers import ImportOptions, import_model
from tests.importers import _reference as reference
from tests.importers.test_anomalib import _preprocessing

SIZE = (64, 96)
LAYERS = ("layer1", "layer2", "layer3")
GRID = (16, 24)
Content = dict[str, Any]


def checkpoint(path: Path, state: dict[str, Tensor], hyper: dict[str, Any]) -> Content:
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
        "hyper_parameters": hyper,
        "anomalib_pre_processor_config": _preprocessing(
            ("Resize", {"size": list(SIZE), "antialias": True}),
            ("Normalize", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
        ),
    }
    torch.save(content, path)
    return content


def padim_checkpoint(path: Path, d: int = 20) -> Content:
    """A small Padim in anomalib's layout with random Gaussians; its channels are in no order, as there."""
    g = torch.Generator().manual_seed(4)
    places = GRID[0] * GRID[1]
    loose = torch.randn(places, d, d, generator=g, dtype=torch.float64)
    inverse = torch.linalg.inv(loose @ loose.transpose(1, 2) / d + 0.1 * torch.eye(d))
    state = {
        "idx": torch.randperm(64 + 128 + 256, generator=g)[:d],
        "gaussian.mean": torch.rand(d, places, generator=g),
        "gaussian.inv_covariance": inverse.float(),
        **{f"feature_extractor.feature_extractor.{k}": v for k, v in reference.resnet18_state(4).items()},
    }
    return checkpoint(path, state, {"backbone": "resnet18", "layers": list(LAYERS), "n_features": d})


def fastflow_checkpoint(path: Path, steps: int = 3, ratio: float = 0.2) -> Content:
    """A small Fastflow in anomalib's layout with random weights."""
    g = torch.Generator().manual_seed(5)
    state = {f"feature_extractor.{k}": v for k, v in reference.resnet18_state(5).items()}
    for i, channels in enumerate((64, 128, 256)):
        shape = (channels, GRID[0] >> i, GRID[1] >> i)
        state |= {
            f"norms.{i}.weight": 1 + 0.2 * torch.randn(shape, generator=g),
            f"norms.{i}.bias": torch.randn(shape, generator=g),
        }
        half, hidden = channels // 2, int(channels // 2 * ratio)
        for j in range(steps):
            at, k = f"fast_flow_blocks.{i}.module_list.{j}.", 1 if j % 2 else 3
            order = torch.eye(channels)[torch.randperm(channels, generator=g)]
            state |= {
                f"{at}global_scale": 9.0 + torch.randn(1, channels, 1, 1, generator=g),
                f"{at}global_offset": 0.1 * torch.randn(1, channels, 1, 1, generator=g),
                f"{at}w_perm": order[:, :, None, None], f"{at}w_perm_inv": order.T[:, :, None, None].contiguous(),
                f"{at}subnet.0.weight": torch.randn(hidden, half, k, k, generator=g) / (half * k * k) ** 0.5,
                f"{at}subnet.0.bias": torch.randn(hidden, generator=g),
                f"{at}subnet.2.weight": torch.randn(channels, hidden, k, k, generator=g) / (hidden * k * k) ** 0.5,
                f"{at}subnet.2.bias": torch.randn(channels, generator=g),
            }  # fmt: skip
    return checkpoint(path, state, {"backbone": "resnet18", "flow_steps": steps, "conv3x3_only": False, "hidden_ratio": ratio})


def wanted_padim(content: Content, image: np.ndarray) -> Tensor:
    w = {k.removeprefix("model."): v for k, v in content["state_dict"].items()}
    prefix = "feature_extractor.feature_extractor."
    backbone = {k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}
    maps = reference.resnet18(backbone, reference.normalised(image), LAYERS)
    f = torch.cat([F.interpolate(m, GRID, mode="nearest") for m in maps], 1)[0, w["idx"]].flatten(1)  # d x P
    away = (f - w["gaussian.mean"]).T.double()
    cells = torch.einsum("pd,pde,pe->p", away, w["gaussian.inv_covariance"].double(), away).sqrt().float()
    whole = F.interpolate(cells.view(1, 1, *GRID), SIZE, mode="bilinear")
    line = torch.exp(-0.5 * (torch.arange(-16, 17).float() / 4) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    return F.conv2d(F.pad(whole, (16,) * 4, mode="reflect"), kernel[None, None])[0, 0]


def wanted_fastflow(content: Content, image: np.ndarray) -> Tensor:
    w = {k.removeprefix("model."): v for k, v in content["state_dict"].items()}
    backbone = {k.removeprefix("feature_extractor."): v for k, v in w.items() if k.startswith("feature_extractor.")}
    found = []
    for i, x in enumerate(reference.resnet18(backbone, reference.normalised(image), LAYERS)):
        x = F.layer_norm(x, x.shape[1:], w[f"norms.{i}.weight"], w[f"norms.{i}.bias"])
        half = x.shape[1] // 2
        for j in range(content["hyper_parameters"]["flow_steps"]):
            s = {k: w[f"fast_flow_blocks.{i}.module_list.{j}.{k}"] for k in ("global_scale", "global_offset", "w_perm")}
            (a, a0), (b, b0) = (
                [w[f"fast_flow_blocks.{i}.module_list.{j}.subnet.{n}.{part}"] for part in ("weight", "bias")] for n in (0, 2)
            )
            told = 0.1 * F.conv2d(F.relu(F.conv2d(x[:, :half], a, a0, padding="same")), b, b0, padding="same")
            moved = x[:, half:] * torch.exp(2.0 * torch.tanh(told[:, :half])) + told[:, half:]
            scale = 0.1 * F.softplus(s["global_scale"], beta=0.5)
            x = F.conv2d(torch.cat([x[:, :half], moved], 1) * scale + s["global_offset"], s["w_perm"])
        found.append(F.interpolate(-torch.exp(-0.5 * x.square().mean(1, keepdim=True)), SIZE, mode="bilinear"))
    return torch.stack(found).mean(0)[0, 0]


@pytest.mark.parametrize(
    ("write", "wanted"), [(padim_checkpoint, wanted_padim), (fastflow_checkpoint, wanted_fastflow)], ids=["padim", "fastflow"]
)
def test_scores_and_maps_are_those_of_the_steps_written_out(
    write: Callable[[Path], Content], wanted: Callable[[Content, np.ndarray], Tensor], tmp_path: Path
) -> None:
    content = write(tmp_path / "m.ckpt")
    imported = import_model(tmp_path / "m.ckpt")
    assert imported.assumptions == ["the file does not tell a sensitivity: 0.5 assumed"]
    image = np.ascontiguousarray(reference.pictures(1, 96)[0][:64])
    with torch.inference_mode():
        found, score = imported.detector(torch.from_numpy(image)[None])
        expected = wanted(content, image)
    reach = float(expected.max() - expected.min())
    assert float((found[0] - expected).abs().max()) < 1e-4 * reach
    assert float(score[0]) == pytest.approx(float(expected.max()), abs=1e-4 * reach)


def _spoilt(content: Content, name: str, value: Tensor | None) -> Content:
    state = dict(content["state_dict"])
    if value is None:
        del state[f"model.{name}"]
    else:
        state[f"model.{name}"] = value
    return {**content, "state_dict": state}


STEP = "fast_flow_blocks.2.module_list."


@pytest.mark.parametrize(
    ("write", "name", "value", "says"),
    [
        (padim_checkpoint, "idx", None, "are not those of 0 channels"),
        (padim_checkpoint, "gaussian.mean", torch.zeros(20, 7), "20 x 7"),
        (padim_checkpoint, "idx", torch.full((20,), 3), "is not 20 different channels"),
        (padim_checkpoint, "idx", torch.arange(440, 460), "is not 20 different channels"),
        (padim_checkpoint, "gaussian.inv_covariance", torch.zeros(384, 20, 20), "not positive"),
        (fastflow_checkpoint, f"{STEP}1.subnet.0.weight", None, "lacks couplings"),
        (fastflow_checkpoint, "fast_flow_blocks.1.module_list.1.subnet.2.bias", None, "has no entry"),
        (fastflow_checkpoint, f"{STEP}0.w_perm", torch.full((256, 256, 1, 1), 1 / 256), "more than an order"),
        (fastflow_checkpoint, f"{STEP}0.subnet.0.weight", torch.zeros(25, 128, 5, 5), "none of 1 x 1 and 3 x 3"),
    ],
)
def test_a_spoilt_file_is_told_by_name(
    write: Callable[[Path], Content], name: str, value: Tensor | None, says: str, tmp_path: Path
) -> None:
    torch.save(_spoilt(write(tmp_path / "m.ckpt"), name, value), tmp_path / "m.ckpt")
    with pytest.raises(BadInput, match=says) as caught:
        import_model(tmp_path / "m.ckpt")
    assert caught.value.hint and "m.ckpt" in str(caught.value)


@pytest.mark.skipif(python_of(DEFAULT) is None, reason="anomalib is not here: python -m benchmarks._peers.environment")
@pytest.mark.parametrize("model", ["padim", "fastflow"])
def test_anomalibs_own_files_give_anomalibs_own_answers(model: str) -> None:
    script = Path(__file__).with_name("_anomalib_makes.py")
    with tempfile.TemporaryDirectory() as folder:
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [str(python_of(DEFAULT)), str(script), model, folder]
        made = subprocess.run(command, capture_output=True, text=True, timeout=600, env=clean, check=False)
        assert made.returncode == 0, made.stderr[-2000:]
        stored = np.load(Path(folder) / "answers.npz")
        imported = import_model(Path(folder) / "model.ckpt", ImportOptions(frame_size=(SIZE[1], SIZE[0])))
        reach = float(np.ptp(stored["maps"]))
        for rgb, wanted, wanted_score in zip(stored["rgb"], stored["maps"], stored["scores"].ravel(), strict=True):
            frame = imported.recipe.apply(np.ascontiguousarray(rgb[:, :, ::-1]))
            with torch.inference_mode():
                found, score = imported.detector(torch.from_numpy(frame)[None])
            assert np.abs(found[0].numpy() - wanted).max() < 1e-4 * reach
            assert float(score[0]) == pytest.approx(float(wanted_score), abs=1e-4 * reach)
