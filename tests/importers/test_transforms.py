"""A trainer's preprocessing, followed by recipe and graph, against a literal execution of the same steps in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.errors import BadInput
from edgead.importers import ImportOptions, import_model
from edgead.importers.steps import read_steps
from edgead.importers.transforms import follow
from edgead.models.detector import Detector
from edgead.models.streams import Record
from edgead.preprocess import PreprocessRecipe
from edgead.trained import load_model
from tests.bundles import saved
from tests.importers import _reference as reference
from tests.importers.test_anomalib import _patchcore_checkpoint, _preprocessing

Steps = list[tuple[str, dict[str, Any]]]
SIZES = [(96, 240), (240, 96), (100, 100), (61, 80)]
"""Height, width of wide, tall, square and small odd pictures."""

R: Any = lambda size, **more: ("Resize", {"size": size, **more})  # noqa: E731
C: Any = lambda size: ("CenterCrop", {"size": size})  # noqa: E731
N: Any = lambda mean, std: ("Normalize", {"mean": mean, "std": std})  # noqa: E731
IMAGENET = N([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = N([0.5], [0.5])


def literal(steps: Steps, image: Any) -> Tensor:
    """The steps one by one on RGB 0 to 1, as torchvision documents them: 3 x h x w."""
    x = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1])).permute(2, 0, 1).float() / 255
    for name, told in steps:
        if name == "Resize":
            x = _resized(x, told)
        elif name == "CenterCrop":
            size = told["size"] if isinstance(told["size"], list) else [told["size"]]
            x = _middle(x, size[0], size[-1])
        elif name == "Pad":
            left, top, right, bottom = (told["padding"] * 4)[:4]
            x = F.pad(x, (left, right, top, bottom), value=told.get("fill", 0))
        elif name == "Normalize":
            mean, std = (torch.tensor(told[key]).view(-1, 1, 1) for key in ("mean", "std"))
            x = (x - mean) / std
        else:
            assert name in ("ToImage", "ToDtype", "ToTensor", "Identity")
    return x


def _resized(x: Tensor, told: dict[str, Any]) -> Tensor:
    height, width = x.shape[1:]
    size, limit = told["size"], told.get("max_size")
    if isinstance(size, list) and len(size) == 2:
        wanted = (size[0], size[1])
    else:
        short = size if isinstance(size, int) else size[0]
        long = int(short * max(height, width) / min(height, width))
        if limit is not None and long > limit:
            short, long = int(limit * short / long), limit
        wanted = (long, short) if width <= height else (short, long)
    mode = told.get("interpolation", "bilinear")
    if mode == "nearest":
        return F.interpolate(x[None], wanted, mode=mode)[0]
    return F.interpolate(x[None], wanted, mode=mode, align_corners=False, antialias=bool(told.get("antialias", True)))[0]


def _middle(x: Tensor, height: int, width: int) -> Tensor:
    high, wide = max(0, height - x.shape[1]), max(0, width - x.shape[2])
    x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
    top, left = round((x.shape[1] - height) / 2), round((x.shape[2] - width) / 2)
    return x[:, top : top + height, left : left + width]


class Sees(Detector):
    """Answers with the pixels that it was given, in place of a map."""

    family = "sees"

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return pixels, pixels.amax((1, 2, 3))


def seen(steps: Steps, image: Any, options: ImportOptions | None = None) -> Tensor:
    """What a network behind the imported steps is given, in the units of the file's normalisation, and checks that the recipe
    survives being stored."""
    followed = follow(read_steps(_preprocessing(*steps)["transform"]), options or ImportOptions())
    recipe = PreprocessRecipe.from_json(followed.recipe.to_json())
    pixels, _ = followed.place(Sees({}, followed.size))(torch.from_numpy(recipe.apply(image))[None])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (followed.mean, followed.std))
    return (pixels[0] - mean) / std


def picture(size: tuple[int, int]) -> Any:
    return np.ascontiguousarray(reference.pictures(1, 240)[0][: size[0], : size[1]])


FIXED: dict[str, Steps] = {
    "plain": [R([64, 64]), IMAGENET],
    "no antialias": [R([64, 96], antialias=False)],
    "antialias None": [R([64, 96], antialias=None)],
    "crop after": [R([80, 80]), C([48, 64]), IMAGENET],
    "crop before": [C([48, 48]), R([64, 64]), IMAGENET],
    "crop larger than the picture": [C(128), R([64, 64])],
    "crop with a border": [R([40, 40]), C([64, 51]), IMAGENET],
    "a border after normalising": [R([40, 40]), IMAGENET, C([64, 64])],
    "resize crop resize": [R([80, 80]), C([48, 48]), R([64, 64])],
    "small then large": [R([16, 16]), R([64, 64], antialias=False)],
    "shorter side and crop": [R(64), C(48), IMAGENET],
    "one number in a list": [R([64]), C([48]), IMAGENET],
    "two normalisations": [R([64, 64]), IMAGENET, HALF],
    "normalise first": [IMAGENET, R([64, 64])],
    "one number for three": [R([64, 64]), HALF],
    "nothing but types": [("ToImage", {}), ("ToDtype", {"dtype": "torch.float32", "scale": True}), R([64, 64]), ("Identity", {})],
    "bicubic second": [R([96, 96]), R([64, 64], interpolation="bicubic"), ("Pad", {"padding": [3], "fill": 0})],
    "nearest second": [R([64, 64]), R([40, 90], interpolation="nearest"), IMAGENET],
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FIXED)
def test_steps_of_a_fixed_size_are_followed_for_pictures_of_any_aspect(name: str, size: tuple[int, int]) -> None:
    """Within the rounding to 8 bits after the recipe's resize; with --exact-resize, to the last digits."""
    image, steps = picture(size), FIXED[name]
    wanted = literal(steps, image)
    smallest = min(min(told["std"]) for step, told in [*steps, N([0], [1.0])] if step == "Normalize")
    smallest *= 0.5 if name == "two normalisations" else 1.0
    for options, limit in ((None, 1.1 / 255 / smallest), (ImportOptions(frame_size=size[::-1]), 2e-6 / smallest)):
        got = seen(steps, image, options)
        assert got.shape == wanted.shape
        assert float((got - wanted).abs().max()) < limit


KEPT: dict[str, Steps] = {
    "shorter side": [R(64), IMAGENET],
    "longest side": [R(64, max_size=80)],
    "crop wider than sure": [R([48], max_size=60), C(48), IMAGENET],
    "as it is": [IMAGENET],
    "resized again": [R(48, antialias=False), R([64, 64])],
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", KEPT)
def test_kept_proportions_need_a_known_picture_size_and_keep_the_whole_picture(name: str, size: tuple[int, int]) -> None:
    image, steps = picture(size), KEPT[name]
    wanted = literal(steps, image)
    with pytest.raises(BadInput, match="not fixed") as caught:
        seen(steps, image)
    assert all(way in caught.value.hint for way in ("--images", "--roi", "--size"))
    for options, limit in ((ImportOptions(roi=(0, 0, *size[::-1])), 5.0 / 255), (ImportOptions(frame_size=size[::-1]), 1e-5)):
        got = seen(steps, image, options)
        assert got.shape == wanted.shape
        assert float((got - wanted).abs().max()) < limit


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([("Grayscale", {})], "Grayscale"),
        ([("GaussianBlur", {"kernel_size": 3})], "GaussianBlur"),
        ([("RandomHorizontalFlip", {"p": 0.5})], "RandomHorizontalFlip"),
        ([("SquarePad", {})], "SquarePad"),
        ([R([64, 64]), ("Pad", {"padding": 3, "padding_mode": "reflect"})], "padding_mode"),
        ([("Pad", {"padding": 3}), R([64, 64])], "Pad"),
        ([R([64, 64], interpolation="lanczos")], "lanczos"),
        ([R([64, 64], interpolation="bicubic")], "bicubic"),
        ([R([64, 64], max_size=80)], "max_size"),
        ([R(64, max_size=64)], "max_size"),
        ([R([64, 64, 64])], r"size \[64, 64, 64\]"),
        ([R("large")], "size 'large'"),
        ([R([64, 64]), N([0.5], [0.0])], "std"),
        ([R([64, 64]), N([0.5, 0.5], [0.5])], "mean"),
        ([R([64, 64]), N([float("nan")], [0.5])], "mean"),
        ([R([64, 64]), ("ToDtype", {"dtype": "torch.uint8"})], "ToDtype"),
        ([IMAGENET, C(48)], "CenterCrop"),
        ([("Identity", {})] * 100, "more than 64 steps"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_name(steps: Steps, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        seen(steps, picture((100, 100)))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"class_path": "kornia.geometry.transform.Resize", "init_args": {"size": [64, 64]}}, "kornia.geometry.transform.Resize"),
        ({"class_path": "Normalize", "init_args": {"mean": [0.5], "std": [0.5]}}, "none of torchvision"),
        (Record("mine.CenterCrop", (), {"size": [48, 48]}), "mine.CenterCrop"),
        (_preprocessing(R([64, 64], fill=3))["transform"], "Resize has 'fill' 3"),
        (_preprocessing(("ToDtype", {"dtype": "torch.float32", "device": "cuda"}))["transform"], "ToDtype has 'device'"),
    ],
)
def test_a_step_of_another_package_or_with_an_argument_of_its_own_is_refused_by_name(told: Any, says: str) -> None:
    """It is called like torchvision's, but nobody knows what it does."""
    with pytest.raises(BadInput, match=says):
        read_steps(told)


def test_nested_and_pickled_steps_are_read_alike_and_endless_ones_are_refused() -> None:
    compose = "torchvision.transforms.v2._container.Compose"
    mode = Record("torchvision.transforms.functional.InterpolationMode", ("bilinear",))
    resize = Record("torchvision.transforms.v2._geometry.Resize", (), {"size": [64], "interpolation": mode, "antialias": "warn"})
    crop = Record("anomalib.data.transforms.center_crop.ExportableCenterCrop", (), {"size": [48, 48]})
    inner = Record(compose, (), {"transforms": [resize, crop]})
    outer = Record("torch.nn.modules.container.Sequential", (), {"_modules": {"0": inner}})
    assert read_steps(outer) == read_steps(_preprocessing(R([64], antialias=False), C(48))["transform"])
    assert inner.state is not None
    inner.state["transforms"].append(outer)
    with pytest.raises(BadInput, match="nested too deep"):
        read_steps(outer)


def _bank_score(pixels: Tensor, bank: Tensor) -> float:
    """Patchcore's score with one neighbour: the largest distance of a patch to its nearest row."""
    maps = reference.resnet18(reference.resnet18_state(), pixels[None], ("layer2", "layer3"))
    pooled = [F.avg_pool2d(m, 3, 1, 1) for m in maps]
    grid = torch.cat([pooled[0], F.interpolate(pooled[1], pooled[0].shape[-2:], mode="bilinear")], 1)
    return float(torch.cdist(grid[0].flatten(1).T, bank).amin(1).max())


@pytest.mark.parametrize("name", ["crop before", "resize crop resize", "two normalisations", "one number for three"])
def test_a_checkpoint_scores_as_its_own_steps_say(tmp_path: Path, name: str) -> None:
    """The whole way: file, recipe, graph, saved and loaded again."""
    steps = FIXED[name]
    content = _patchcore_checkpoint(tmp_path / "m.ckpt", anomalib_pre_processor_config=_preprocessing(*steps))
    imported = import_model(tmp_path / "m.ckpt")
    saved(tmp_path / "model", imported.detector)
    image = picture((96, 240))
    image[20:76, 30:90] = (0, 0, 255)
    with torch.inference_mode():
        wanted = _bank_score(literal(steps, image), content["state_dict"]["model.memory_bank"])
        for detector in (imported.detector, load_model(tmp_path / "model")[0]):
            _, score = detector(torch.from_numpy(imported.recipe.apply(image))[None])
            assert float(score[0]) == pytest.approx(wanted, rel=5e-3)


def test_a_defect_at_the_side_of_a_wide_picture_is_seen_when_training_saw_it(tmp_path: Path) -> None:
    _patchcore_checkpoint(tmp_path / "m.ckpt", anomalib_pre_processor_config=_preprocessing(R(64), IMAGENET))
    good = picture((96, 240))
    bad = good.copy()
    bad[20:76, 8:60] = (0, 0, 255)
    with pytest.raises(BadInput, match="proportions"):
        import_model(tmp_path / "m.ckpt")
    imported = import_model(tmp_path / "m.ckpt", ImportOptions(size=(160, 64)))
    assert any("160 x 64" in line for line in imported.assumptions)
    with torch.inference_mode():
        scores = [float(imported.detector(torch.from_numpy(imported.recipe.apply(one))[None])[1]) for one in (good, bad)]
    assert scores[1] > 1.2 * scores[0]


def test_the_pictures_fix_the_size_when_they_have_one_and_are_told_when_not(tmp_path: Path) -> None:
    import cv2

    _patchcore_checkpoint(tmp_path / "m.ckpt", anomalib_pre_processor_config=_preprocessing(R(64)))
    good = tmp_path / "good"
    good.mkdir()
    for i in range(3):
        cv2.imwrite(str(good / f"{i}.png"), picture((96, 240)))
    imported = import_model(tmp_path / "m.ckpt", ImportOptions(images=good))
    assert (imported.recipe.width, imported.recipe.height) == (160, 64)
    cv2.imwrite(str(good / "odd.png"), picture((100, 100)))
    with pytest.raises(BadInput, match="64 x 64, 160 x 64 px"):
        import_model(tmp_path / "m.ckpt", ImportOptions(images=good))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ImportOptions(size=(96, 96)), "64 x 64 px, not 96 x 96"),
        (ImportOptions(weights=Path("w.pth")), "--weights"),
    ],
)
def test_an_option_that_the_file_already_answers_is_refused(tmp_path: Path, options: ImportOptions, says: str) -> None:
    _patchcore_checkpoint(tmp_path / "m.ckpt", anomalib_pre_processor_config=_preprocessing(R([64, 64])))
    with pytest.raises(BadInput, match=says):
        import_model(tmp_path / "m.ckpt", options)


@pytest.mark.parametrize(
    "changes",
    [
        {"anomalib_pre_processor_config": {"transform": None}},  # anomalib could not store it
        {"anomalib_pre_processor_config": None, "anomalib_components_enabled": {"pre_processor": False}},
    ],
)
def test_preprocessing_that_is_not_in_the_file_is_not_made_up(tmp_path: Path, changes: dict[str, Any]) -> None:
    _patchcore_checkpoint(tmp_path / "m.ckpt", **changes)
    with pytest.raises(BadInput, match="does not hold the preprocessing"):
        import_model(tmp_path / "m.ckpt")


def test_a_crop_of_the_picture_as_it_is_adds_a_black_border_where_it_is_smaller() -> None:
    image = picture((61, 80))
    cut = PreprocessRecipe(70, 71, crop_from=(0, 0)).apply(image)
    assert np.array_equal(cut[5:66], image[:, 5:75])
    assert not cut[:5].any() and not cut[66:].any()
