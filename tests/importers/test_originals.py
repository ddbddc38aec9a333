"""The papers' repositories: files in their layouts, written here with random weights, and references computed without edgead."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.importers import ImportOptions, import_model
from tests.importers import _reference as reference

SIZE = 64
LAYERS = ("layer2", "layer3")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A backbone file as torchvision publishes it."""
    file = tmp_path / "resnet18.pth"
    torch.save(reference.resnet18_state(), file)
    return file


def write_index(path: Path, rows: Any) -> None:
    """An IndexFlatL2: by faiss itself where it is installed, else the bytes that faiss writes."""
    try:
        import faiss
    except ImportError:
        head = b"IxF2" + np.array([rows.shape[1]], "<i4").tobytes() + np.array([len(rows), 1 << 20, 1 << 20], "<i8").tobytes()
        count = np.array([rows.size], "<u8").tobytes()
        path.write_bytes(head + b"\x01" + np.array([1], "<i4").tobytes() + count + rows.astype("<f4").tobytes())
        return
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    faiss.write_index(index, str(path))


def patchcore_folder(folder: Path, bins: int = 100, channels: int = 60, nearest: int = 1) -> Any:
    folder.mkdir()
    params = {
        "backbone.name": "resnet18", "layers_to_extract_from": list(LAYERS), "input_shape": (3, SIZE, SIZE),
        "pretrain_embed_dimension": bins, "target_embed_dimension": channels, "patchsize": 3, "patchstride": 1,
        "anomaly_scorer_num_nn": nearest,
    }  # fmt: skip
    (folder / "patchcore_params.pkl").write_bytes(pickle.dumps(params, pickle.HIGHEST_PROTOCOL))
    rows = np.random.default_rng(1).random((50, channels)).astype(np.float32)
    write_index(folder / "nnscorer_search_index.faiss", rows)
    return rows


@pytest.mark.parametrize(("bins", "channels", "nearest"), [(100, 60, 1), (256, 256, 1), (1024, 384, 3)])
def test_patchcore_inspection_folder(tmp_path: Path, weights: Path, bins: int, channels: int, nearest: int) -> None:
    rows = patchcore_folder(tmp_path / "model", bins, channels, nearest)
    imported = import_model(tmp_path / "model", ImportOptions(weights=weights))
    image = reference.pictures(1, SIZE)[0]
    with torch.inference_mode():
        anomaly_map, score = imported.detector(torch.from_numpy(image)[None])
        maps = reference.resnet18(reference.resnet18_state(), reference.normalised(image), LAYERS)
        patches = reference.binned_patches(maps, bins, channels)
    squared = ((patches.numpy()[:, None].astype(np.float64) - rows[None]) ** 2).sum(2)
    patch_scores = np.sort(squared, 1)[:, :nearest].mean(1).astype(np.float32)
    assert float(score[0]) == pytest.approx(patch_scores.max(), rel=1e-4, abs=1e-4)
    expected = reference.smoothed(torch.from_numpy(patch_scores.reshape(8, 8)), SIZE)
    assert np.abs(anomaly_map[0].numpy() - expected).max() < 1e-4 * max(1.0, float(np.ptp(expected)))
    assert imported.threshold is None


def test_patchcore_folder_without_a_part_or_with_another_index(tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "model"
    patchcore_folder(folder)
    index = folder / "nnscorer_search_index.faiss"
    data = index.read_bytes()
    for wrong, says in ((data[:-4], "truncated"), (b"IwPQ" + data[4:], "IwPQ"), (b"", "truncated")):
        index.write_bytes(wrong)
        with pytest.raises(BadInput, match=says):
            import_model(folder, ImportOptions(weights=weights))
    index.unlink()
    with pytest.raises(BadInput, match="nnscorer_search_index"):
        import_model(folder, ImportOptions(weights=weights))
    with pytest.raises(BadInput, match="no weight file"):
        patchcore_folder(tmp_path / "again")
        import_model(tmp_path / "again", ImportOptions(weights=tmp_path / "absent.pth"))


def test_simplenet_checkpoint(tmp_path: Path, weights: Path) -> None:
    channels, hidden = 96, 64
    g = torch.Generator().manual_seed(2)

    def linear(out: int, into: int) -> Tensor:
        return torch.randn(out, into, generator=g) / into**0.5

    head = OrderedDict({
        "body.block1.0.weight": linear(hidden, channels), "body.block1.0.bias": torch.randn(hidden, generator=g),
        "body.block1.1.weight": 1 + 0.2 * torch.randn(hidden, generator=g),
        "body.block1.1.bias": torch.randn(hidden, generator=g),
        "body.block1.1.running_mean": torch.randn(hidden, generator=g),
        "body.block1.1.running_var": 0.5 + torch.rand(hidden, generator=g),
        "body.block1.1.num_batches_tracked": torch.tensor(5), "tail.weight": linear(1, hidden),
    })  # fmt: skip
    adaptor = OrderedDict(
        {"layers.0fc.weight": linear(channels, channels), "layers.0fc.bias": torch.randn(channels, generator=g)}
    )
    torch.save({"discriminator": head, "pre_projection": adaptor}, tmp_path / "ckpt.pth")
    options = ImportOptions(weights=weights, backbone="resnet18", layers=LAYERS, size=(SIZE, SIZE))
    imported = import_model(tmp_path / "ckpt.pth", options)
    image = reference.pictures(1, SIZE)[0]
    with torch.inference_mode():
        anomaly_map, score = imported.detector(torch.from_numpy(image)[None])
        maps = reference.resnet18(reference.resnet18_state(), reference.normalised(image), LAYERS)
        q = F.linear(reference.binned_patches(maps, channels, channels), adaptor["layers.0fc.weight"], adaptor["layers.0fc.bias"])
        h = F.linear(q, head["body.block1.0.weight"], head["body.block1.0.bias"])
        values = [head[f"body.block1.1.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        patch_scores = -F.linear(F.leaky_relu(F.batch_norm(h, *values), 0.2), head["tail.weight"])[:, 0]
    assert float(score[0]) == pytest.approx(float(patch_scores.max()), abs=1e-4)
    assert np.abs(anomaly_map[0].numpy() - reference.smoothed(patch_scores.view(8, 8), SIZE)).max() < 1e-4


def pdn_small(out: int) -> nn.Sequential:
    conv, relu, pool = nn.Conv2d, nn.ReLU, nn.AvgPool2d
    return nn.Sequential(
        conv(3, 128, 4), relu(True), pool(2, 2), conv(128, 256, 4), relu(True), pool(2, 2),
        conv(256, 256, 3), relu(True), conv(256, out, 4),
    )  # fmt: skip


def autoencoder() -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)):
        layers += [nn.Conv2d(into, out, 4, 2, 1), nn.ReLU(True)]
    layers.append(nn.Conv2d(64, 64, 8))
    for size in (3, 8, 15, 32, 63, 127):
        layers += [nn.Upsample(size=size, mode="bilinear"), nn.Conv2d(64, 64, 4, 1, 2), nn.ReLU(True)]
    layers += [nn.Upsample(size=56, mode="bilinear"), nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(True), nn.Conv2d(64, 384, 3, 1, 1)]
    return nn.Sequential(*layers)


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, nn.Sequential]:
    torch.manual_seed(5)
    made = {"teacher": pdn_small(384), "student": pdn_small(768), "autoencoder": autoencoder()}
    for name, module in made.items():
        torch.save(module.eval(), tmp_path / f"{name}_final.pth")
    return made


def test_efficientad_modules(tmp_path: Path, modules: dict[str, nn.Sequential]) -> None:
    imported = import_model(tmp_path)
    assert "statistics" in imported.incomplete
    good, held_out, image = reference.pictures(2, 256, 1), reference.pictures(1, 256, 2), reference.pictures(1, 256, 3)[0]
    imported.complete(good, held_out)
    assert not imported.incomplete
    teacher, student, ae = (modules[name] for name in ("teacher", "student", "autoencoder"))
    with torch.inference_mode():
        anomaly_map, score = imported.detector(torch.from_numpy(image)[None])
        outputs = [teacher(reference.normalised(p)) for p in good]
        mean = torch.stack([o.mean((0, 2, 3)) for o in outputs]).mean(0).view(1, -1, 1, 1)
        std = torch.stack([((o - mean) ** 2).mean((0, 2, 3)) for o in outputs]).mean(0).sqrt().view(1, -1, 1, 1)

        def maps(picture: Any) -> tuple[Tensor, Tensor]:
            x = reference.normalised(picture)
            t, s = (teacher(x) - mean) / std, student(x)
            return ((t - s[:, :384]) ** 2).mean(1, keepdim=True), ((ae(x) - s[:, 384:]) ** 2).mean(1, keepdim=True)

        validation = [maps(p) for p in held_out]
        combined = torch.zeros(1, 1, 56, 56)
        for i, m in enumerate(maps(image)):
            values = torch.cat([v[i] for v in validation])
            a, b = torch.quantile(values, 0.9), torch.quantile(values, 0.995)
            combined += 0.5 * 0.1 * (m - a) / (b - a)
        expected = F.interpolate(F.pad(combined, (4, 4, 4, 4)), (256, 256), mode="bilinear")
    span = float(expected.max() - expected.min())
    assert float((anomaly_map - expected[:, 0]).abs().max()) < 1e-4 * span
    assert float(score[0]) == pytest.approx(float(expected.max()), abs=1e-4 * span)


def test_efficientad_modules_that_are_incomplete_or_of_another_network(tmp_path: Path, modules: dict[str, nn.Sequential]) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3)), tmp_path / "student_final.pth")
    with pytest.raises(BadInput, match="convolutions"):
        import_model(tmp_path)
    torch.save(nn.Sequential(nn.Linear(3, 8)), tmp_path / "student_final.pth")
    with pytest.raises(BadInput, match="Linear"):
        import_model(tmp_path)
    (tmp_path / "student_final.pth").unlink()
    with pytest.raises(BadInput, match="student_final"):
        import_model(tmp_path)
