import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

from edgead.errors import BadInput
from edgead.families.efficientad.distill import Distiller, DistillProgress, DistillRecipe, crop_batch, read_ahead
from edgead.families.efficientad.network import load_teacher
from edgead.models.learning.outside import draw_picture


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), draw_picture(96, rng))
    return sorted(folder.iterdir())


def _recipe(steps: int) -> DistillRecipe:
    return DistillRecipe(batch=1, steps=steps, px=64)


def _distiller(files: list[Path], recipe: DistillRecipe, state: Path) -> Distiller:
    return Distiller(files, recipe, state, measure_batches=1)


def _silent(now: DistillProgress) -> None:
    assert 0.0 < now.fraction <= 1.0 and now.loss > 0.0


def test_a_resumed_run_is_the_uninterrupted_one(files: list[Path], tmp_path: Path) -> None:
    whole = _distiller(files, _recipe(4), tmp_path / "whole.state")
    assert whole.run(_silent)
    first = _distiller(files, _recipe(4), tmp_path / "parts.state")
    assert not first.run(_silent, stop=lambda: first.step == 2)
    second = _distiller(files, _recipe(4), tmp_path / "parts.state")
    assert second.step == 2 and second.run(_silent)
    assert second.loss == whole.loss
    for name, weight in whole.trainer.weights().items():
        assert torch.equal(weight, second.trainer.weights()[name]), name


def test_the_teachers_file_holds_half_precision_weights_and_the_recipe(files: list[Path], tmp_path: Path) -> None:
    distiller = _distiller(files, _recipe(1), tmp_path / "run.state")
    distiller.run(_silent)
    distiller.save_teacher(tmp_path / "teacher.safetensors", sources=[{"package": "wallpapers", "licence": "CC0"}])
    with safe_open(tmp_path / "teacher.safetensors", "pt") as file:
        metadata = file.metadata()
        assert file.get_tensor("conv4.weight").dtype == torch.float16
    recipe = json.loads(metadata["recipe"])
    assert (metadata["edgead_teacher"], metadata["size"]) == ("1", "small")
    assert (recipe["steps_done"], recipe["images"], recipe["batch"], recipe["px"]) == (1, 4, 1, 64)
    assert recipe["sources"] == [{"package": "wallpapers", "licence": "CC0"}]
    assert load_teacher(tmp_path / "teacher.safetensors", "small")["conv4.weight"].shape == (384, 256, 4, 4)


def test_a_state_of_another_run_is_refused(files: list[Path], tmp_path: Path) -> None:
    _distiller(files, _recipe(2), tmp_path / "run.state").save_state()
    _distiller(files, _recipe(9), tmp_path / "run.state")  # only longer
    for other, pictures in ((DistillRecipe(batch=2, steps=2, px=64), files), (_recipe(2), files[1:])):
        with pytest.raises(BadInput, match="other pictures or settings"):
            _distiller(pictures, other, tmp_path / "run.state")
    (tmp_path / "run.state").write_bytes(b"torn")
    with pytest.raises(BadInput, match="cannot be read"):
        _distiller(files, _recipe(2), tmp_path / "run.state")


def test_a_picture_that_turns_out_unreadable_is_replaced_by_another(files: list[Path], tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(files[0].read_bytes()[:60])
    assert crop_batch([torn, files[1]], DistillRecipe(batch=2, px=64), 0).shape == (2, 3, 128, 128)
    with pytest.raises(BadInput, match="cannot be read"):
        crop_batch([torn], DistillRecipe(batch=1, px=64), 0)


def test_crops_prepared_ahead_come_in_order() -> None:
    for workers in (0, 2):
        source = read_ahead(lambda step: torch.tensor(step), 3, workers)
        assert [int(next(source)) for _ in range(5)] == [3, 4, 5, 6, 7]
        source.close()


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"lr": 0.0}, {"minutes": 0.0}, {"px": 100}])
def test_unusable_recipes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        DistillRecipe(**wrong)  # type: ignore[arg-type]
