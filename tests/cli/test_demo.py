"""`edgead demo`: what it draws and shows. The demo as a whole is a command of the README, which CI runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgead.cli.main import main
from edgead.demo.gallery import TILE, choose, gallery, write_data_set
from edgead.demo.report import COLUMNS, own_training, worth
from edgead.demo.steps import MARKER, Plan, _Demo, demo, prepare
from edgead.errors import BadInput, StorageError
from edgead.families import method, methods
from edgead.jobs.progress import silent
from edgead.preprocess import list_images, read_image
from edgead.runtime.cameras.conveyor import DEFECTS
from edgead.runtime.records.overlay import HeatScale
from edgead.trained import read_card
from edgead.types import Frame, Inspection, StageTimes, Verdict


def _inspection(part_id: int, truth: str, verdict: Verdict) -> Inspection:
    frame = Frame(np.full((96, 96, 3), 90, np.uint8), "simulated", part_id - 1, 0, source=truth)
    heat = np.full((24, 24), 2.0 if verdict is Verdict.NG else 0.0, np.float32)
    return Inspection(part_id, verdict, "", float(heat.max()), 1.0, heat, StageTimes(), frame)


def test_the_data_set_is_in_mvtec_layout_with_a_mask_for_each_defect(tmp_path: Path) -> None:
    ticks: list[None] = []
    sizes = {"good": 3, "test_good": 2, "per_defect": 1, "size": 64}
    count = write_data_set(tmp_path, seed=0, **sizes, tick=lambda: ticks.append(None))
    assert count == len(ticks) == 5 + len(DEFECTS)
    assert len(list_images(tmp_path / "train/good")) == 3
    assert len(list_images(tmp_path / "test/good")) == 2
    for defect in DEFECTS:
        (file,) = list_images(tmp_path / "test" / defect)
        mask = read_image(tmp_path / "ground_truth" / defect / f"{file.stem}_mask.png")
        assert mask.shape == read_image(file).shape
        assert mask.any()


def test_the_same_seed_draws_the_same_data_set(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_data_set(tmp_path / name, seed=5, good=2, test_good=1, per_defect=1, size=64)
    for file in (tmp_path / "a").rglob("*.png"):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_the_picture_shows_every_kind_before_any_comes_twice() -> None:
    truths = ["scratch"] * 9 + ["dent", "stain"]
    caught = [_inspection(i, truth, Verdict.NG) for i, truth in enumerate(truths, 1)]
    good = [_inspection(i, "good", Verdict.OK) for i in range(20, 30)]
    shown = [i.frame.source for i in choose(caught, good) if i.frame]
    assert shown[:3] == ["scratch", "dent", "stain"]
    assert shown.count("good") == 3
    assert len(shown) == 12


def test_the_picture_is_a_grid_of_four_columns() -> None:
    parts = [_inspection(i, "dent", Verdict.NG) for i in range(1, 6)]
    picture = gallery(parts, HeatScale(0.0, 1.0), "title", "subtitle")
    assert picture.dtype == np.uint8
    assert picture.shape[1] > 4 * TILE
    assert picture.shape[0] > 2 * TILE


def test_a_picture_without_parts_is_still_a_picture() -> None:
    assert gallery([], HeatScale(0.0, 1.0), "title", "subtitle").size > 0


def test_its_own_folder_is_taken_again_and_the_old_data_go(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    prepare(out, 0)
    (out / "data/train/good").mkdir(parents=True)
    assert prepare(out, 0) == out
    assert not (out / "data").exists()
    assert (out / MARKER).is_file()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="not a demo's folder"):
        prepare(tmp_path, 0)
    with pytest.raises(BadInput, match="is a file"):
        prepare(tmp_path / "thesis.txt", 0)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        prepare(tmp_path / "file" / "demo", 0)


def test_a_seed_below_0_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--seed", "-1", "-o", str(tmp_path / "demo")]) == 2
    assert "seed" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_any_method_is_learned_at_its_own_size_and_told(tmp_path: Path) -> None:
    steps = _Demo(Plan(64, 64, 12, 4, 1, 4, 1), tmp_path, "padim", 0, silent)
    steps.draw()
    metrics = steps.learn()
    assert metrics["test_defects"] == len(DEFECTS)
    card = read_card(tmp_path / "model")
    assert card.image_size == (64, 64)
    assert card.origin.arguments is not None and card.origin.arguments.method == method("padim")[1].name


@pytest.mark.parametrize(("image", "said"), [(0.9, False), (0.6, True), (0.45, True)])
def test_a_method_that_learned_nothing_is_told(image: float, said: bool) -> None:
    metrics = {"image_auroc": image, "brightness_auroc": 0.6, "pixel_auroc": 0.7, "test_good": 10.0, "test_defects": 14.0}
    lines = worth("reverse_distillation", metrics)
    assert f"image AUROC {image:.3f} (brightness alone 0.600)" in lines[0]
    assert ("it learned nothing" in lines[-1]) == said
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize("name", methods())
def test_the_command_for_parts_of_ones_own_has_all_that_the_method_needs(name: str) -> None:
    given = "--defects FOLDER_OF_DEFECTS" in own_training(name)
    method(name)[0].check_defects(given)
    assert given == method(name)[0].needs_defects


def test_a_method_that_nobody_knows_is_refused_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--model", "moon", "-o", str(tmp_path / "demo")]) == 2
    assert "'moon' is not one of 'patchcore'" in capsys.readouterr().err
    with pytest.raises(BadInput, match="moon"):
        demo(tmp_path / "demo", model="moon")
    assert not (tmp_path / "demo").exists()
