"""Models on DINOv2, from pictures to a verified bundle. Weights are random: accuracy means nothing here."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.families.patchcore.network import PatchCore
from edgead.trained import load_model
from tests.models.test_backbones import official
from tests.training._parts import write_good

NAME = "dinov2_vits14_reg"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the layout of the publisher's file."""
    torch.save(official(NAME), file := tmp_path_factory.mktemp("weights") / "dinov2_vits14_reg4_pretrain.pth")
    return file


@pytest.fixture(scope="module")
def model(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("way")
    write_good(folder / "pictures", 24)
    arguments = ["train", "patchcore", str(folder / "pictures"), "-o", str(folder / "model"), "--backbone", NAME]
    assert main([*arguments, "--weights", str(weights), "--size", "56x42", "--layers", "blocks.1", "--coreset", "64"]) == 0
    return folder / "model"


def cosine_distances(detector: PatchCore, pixels: torch.Tensor) -> torch.Tensor:
    """1 - cosine of each patch token to the nearest row, in float64: N x P."""
    tokens = detector.features.backbone(pixels)[0].flatten(2).transpose(1, 2).double()
    tokens = tokens / tokens.norm(dim=2, keepdim=True)
    rows = detector.bank().double() + detector.centre.double()
    return 1.0 - (tokens @ rows.T).amax(2)


def test_the_trained_model_is_anomalydino(model: Path) -> None:
    detector, _ = load_model(model)
    assert isinstance(detector, PatchCore) and detector.image_size == (42, 56)
    rng = np.random.default_rng(5)
    pixels = torch.from_numpy(rng.integers(0, 256, (2, 3, 42, 56))).float()
    anomaly_map, score = detector.detect(pixels)
    wanted = 2.0 * cosine_distances(detector, pixels)
    torch.testing.assert_close(score.double(), wanted.amax(1), rtol=1e-4, atol=1e-5)  # the worst hundredth of 12 patches is one
    grid = torch.nn.functional.interpolate(wanted.view(2, 1, 3, 4), (42, 56), mode="bilinear")[:, 0]
    torch.testing.assert_close(anomaly_map.double(), grid, rtol=1e-4, atol=1e-5)


def test_the_score_is_the_mean_of_the_worst_hundredth(model: Path) -> None:
    detector, _ = load_model(model)
    assert isinstance(detector, PatchCore)
    distance = torch.rand(2, 345, generator=torch.Generator().manual_seed(1))
    wanted = distance.sort(1, descending=True).values[:, :3].mean(1)
    torch.testing.assert_close(detector._worst(distance), wanted)


def test_its_bundle_answers_as_the_model_did_on_every_engine(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = model.parent / "part.edgead"
    assert main(["export", str(model), "-o", str(target), "--precision", "fp32"]) == 0, capsys.readouterr().err
    assert main(["verify", str(target)]) == 0
    bundle = Bundle.open(target)
    assert {record.backend for record in bundle.manifest.engines} == {"openvino", "onnxruntime"}
    for record in bundle.manifest.engines:
        assert record.parity is not None and max(record.parity.score_error, record.parity.map_error) <= 1e-4
    assert bundle.manifest.model["backbone"] == NAME


def test_projecting_the_bank_commutes_with_making_tokens_of_length_one(model: Path) -> None:
    from edgead.families.rewriting import plan_for, rewrite
    from edgead.models.rewrites import Material

    detector, _ = load_model(model)
    images = [cv2.imread(str(file)) for file in sorted((model / "calibration").glob("*.png"))[:4]]
    changed, applied = rewrite(detector, plan_for("patchcore", {"dims": 384}), Material.of(images))  # all: nothing is lost
    assert [one.name for one in applied] == ["dims"]
    pixels = next(iter(Material.of(images).batches()))
    for mine, theirs in zip(changed.detect(pixels), detector.detect(pixels), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_simplenet_trains_on_tokens_and_its_split_is_exact(model: Path, weights: Path) -> None:
    from edgead.families.rewriting import plan_for, rewrite
    from edgead.models.rewrites import Material

    out = model.parent / "simplenet"
    arguments = ["simplenet", str(model.parent / "pictures"), "-o", str(out), "--backbone", NAME, "--weights", str(weights)]
    assert main(["train", *arguments, "--size", "42", "--layers", "blocks.0,blocks.1", "--steps", "5"]) == 0
    detector, _ = load_model(out)
    images = [cv2.imread(str(file)) for file in sorted((out / "calibration").glob("*.png"))[:4]]
    _, applied = rewrite(detector, plan_for("simplenet", {}), Material.of(images))
    assert [(one.name, one.kept) for one in applied] == [("split", True)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", "256"], "252x252 or 266x266"),
        (["--size", "252x250"], "252x238 or 252x252"),
        (["--tiles", "128"], "126x126 or 140x140"),
        (["--layers", "layer2"], "blocks.0 to blocks.11"),
        (["--layers", "blocks.12"], "blocks.0 to blocks.11"),
    ],
)
def test_sizes_and_layers_that_it_does_not_take_are_told_with_those_that_it_does(
    model: Path, weights: Path, tmp_path: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "patchcore", str(model.parent / "pictures"), "-o", str(tmp_path / "out"), "--backbone", NAME]
    assert main([*arguments, "--weights", str(weights), *options]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_size_that_nobody_gave_is_whole_patches(
    model: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_good(tmp_path / "few", 7)
    arguments = ["train", "patchcore", str(tmp_path / "few"), "-o", str(tmp_path / "out"), "--backbone", NAME]
    assert main([*arguments, "--weights", str(weights), "--layers", "blocks.0", "--coreset", "16"]) == 0, capsys.readouterr().err
    detector, _ = load_model(tmp_path / "out")
    assert all(side % 14 == 0 for side in detector.image_size)
