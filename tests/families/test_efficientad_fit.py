import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.efficientad.fit import augment, fit, ridge_regression
from edgead.families.efficientad.options import EfficientAdOptions
from edgead.families.efficientad.pdn import build_pdn
from edgead.models.learning.outside import Outside, draw_file, draw_picture, find_pictures
from edgead.models.rows import to_pixels
from tests.training._parts import draw_part

SIZE = (128, 128)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: what a fit does with a teacher does not depend on how good it is."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(build_pdn("small").state_dict(), file, metadata={"edgead_teacher": "1", "size": "small"})
    return file


def _parts(count: int, first: int = 0, defect: bool = False) -> list[np.ndarray]:
    return [draw_part(first + i, defect, SIZE[0]) for i in range(count)]


def test_a_fitted_student_tells_defects_from_good_parts(teacher: Path) -> None:
    stages: list[str] = []
    options = EfficientAdOptions(teacher=teacher, ae_steps=3, patches=4000)
    detector = fit(FitData(_parts(8), SIZE, progress=lambda stage, done: stages.append(stage)), options)
    assert list(dict.fromkeys(stages)) == ["teacher", "autoencoder", "student", "quantiles"]
    good_map, good = detector.detect(to_pixels(_parts(3, 100)))
    defect_map, defect = detector.detect(to_pixels(_parts(3, 100, defect=True)))
    assert float(defect.min()) > float(good.max())
    grown = (defect_map - good_map)[0]
    where = divmod(int(grown.argmax()), SIZE[1])
    assert all(abs(at - 64) < 40 for at in where)  # the gash is across the middle
    assert not detector.training and all(not p.requires_grad for p in detector.parameters())


def test_the_same_seed_gives_the_same_detector(teacher: Path) -> None:
    options = EfficientAdOptions(teacher=teacher, start="random", steps=1, batch=1)
    first, second = (fit(FitData(_parts(4), SIZE), options).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_papers_training_from_random_weights_learns(teacher: Path) -> None:
    def student_map(steps: int) -> float:
        options = EfficientAdOptions(teacher=teacher, start="random", steps=steps, batch=1, lr=2e-2)
        return float(fit(FitData(_parts(4), SIZE), options).raw_maps(to_pixels(_parts(1, 50)))[0].mean())

    assert student_map(8) < 0.95 * student_map(1)


def test_ridge_regression_finds_the_map_that_made_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    x, true = torch.randn(500, 6, generator=generator) + 3.0, torch.randn(2, 6, generator=generator)
    weight, bias = ridge_regression([(x[:200], x[:200] @ true.T - 1.0), (x[200:], x[200:] @ true.T - 1.0)], 1e-9)
    torch.testing.assert_close(weight, true, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(bias, torch.full((2,), -1.0), rtol=1e-2, atol=1e-2)


def test_augmented_pictures_stay_pictures() -> None:
    pixels = to_pixels(_parts(6))
    changed = augment(pixels, np.random.default_rng(0))
    assert changed.shape == pixels.shape and float(changed.min()) >= 0.0 and float(changed.max()) <= 255.0
    assert all(not torch.equal(a, b) for a, b in zip(changed, pixels, strict=True))


@pytest.mark.parametrize("wrong", [{"pdn": "large"}, {"start": "copied"}, {"start": "random"}, {"steps": -1}, {"ridge": 0.0}])
def test_unusable_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        EfficientAdOptions(**wrong)  # type: ignore[arg-type]


def test_outside_pictures_come_from_the_users_folder_or_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    cv2.imwrite(str(tmp_path / "deep/red.png"), np.full((90, 60, 3), (0, 0, 255), np.uint8))
    rng = np.random.default_rng(0)
    crops = [Outside(tmp_path).crop(32, rng) for _ in range(12)]
    assert all(c.shape == (32, 32, 3) and c.std((0, 1)).max() == 0 for c in crops)
    assert {tuple(int(v) for v in c[0, 0]) for c in crops} == {(0, 0, 255), (76, 76, 76)}  # some are grey
    drawn = [draw_picture(64, rng) for _ in range(4)]
    assert len({d.tobytes() for d in drawn}) == 4 and all(d.std() > 1 for d in drawn)


def test_files_that_are_no_pictures_are_told_apart(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "good.png"), draw_part(0))
    (tmp_path / "bad.jpg").write_text("no picture")
    (tmp_path / "note.txt").write_text("not asked")
    assert find_pictures([tmp_path]) == ([tmp_path / "good.png"], [tmp_path / "bad.jpg"])
    (tmp_path / "good.png").unlink()
    with pytest.raises(BadInput, match="no readable picture"):
        find_pictures([tmp_path])
    with pytest.raises(BadInput, match="not a folder"):
        find_pictures([tmp_path / "absent"])


def test_a_pipe_in_the_place_of_a_picture_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody ever writes to it."""
    os.mkfifo(tmp_path / "0.png")
    cv2.imwrite(str(tmp_path / "1.png"), np.full((32, 32, 3), 7, np.uint8))
    picture = draw_file([tmp_path / "0.png", tmp_path / "1.png"], 0, np.random.default_rng(0))
    assert picture.shape == (32, 32, 3)
