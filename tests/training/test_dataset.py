from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.errors import BadInput
from edgead.layout import find_good, labelled
from edgead.preprocess import PreprocessRecipe
from edgead.training.dataset import load_good, load_labelled, split
from tests.training._parts import draw_part, write_good, write_mvtec

RECIPE = PreprocessRecipe(32, 32)


def test_every_way_to_name_an_mvtec_set_finds_the_same(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "part", good=4, test=2)
    for given in (root, root / "train", root / "train/good"):
        assert find_good(given) == (root / "train/good", root)
    flat = write_good(tmp_path / "flat", 4)
    assert find_good(flat) == (flat, None)


def test_split_follows_its_rule_and_its_seed(tmp_path: Path) -> None:
    assert [len(split(list(range(n)), 0.15, 0)[1]) for n in (4, 10, 20, 100)] == [2, 2, 3, 15]
    assert len(split(list(range(4)), 0.9, 0)[0]) == 2
    train, held = split(list(range(50)), 0.15, 3)
    assert sorted(train + held) == list(range(50))
    assert split(list(range(50)), 0.15, 3) == (train, held)
    assert split(list(range(50)), 0.15, 4) != (train, held)


def test_digest_tells_content_and_recipe_not_seed(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 6)
    digest = load_good(folder, RECIPE).digest
    assert load_good(folder, RECIPE, seed=9).digest == digest
    assert load_good(folder, PreprocessRecipe(48, 48)).digest != digest
    cv2.imwrite(str(folder / "000.png"), draw_part(77))
    assert load_good(folder, RECIPE).digest != digest


def test_exact_copies_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_good(tmp_path / "good", 6)
    (folder / "900.png").write_bytes((folder / "000.png").read_bytes())
    images = load_good(folder, RECIPE)
    assert images.count == 6
    assert [file.name for file in images.duplicates] == ["900.png"]
    assert "exact copies" in caplog.text


def test_grey_and_16_bit_pictures_are_frames_like_others(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 3)
    grey = cv2.cvtColor(draw_part(50), cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(folder / "grey.png"), grey)
    cv2.imwrite(str(folder / "deep.png"), draw_part(51).astype(np.uint16) * 257)
    images = load_good(folder, RECIPE)
    assert images.count == 5
    assert {frame.shape for frame in images.train + images.heldout} == {(32, 32, 3)}
    assert {frame.dtype for frame in images.train + images.heldout} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(("count", "copies"), [(1, 0), (3, 0), (1, 5)])
def test_too_few_different_images_are_refused(tmp_path: Path, count: int, copies: int) -> None:
    folder = write_good(tmp_path / "good", count)
    for i in range(copies):
        (folder / f"copy{i}.png").write_bytes((folder / "000.png").read_bytes())
    with pytest.raises(BadInput, match=f"{count} different good picture") as caught:
        load_good(folder, RECIPE)
    assert caught.value.hint


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 5)
    (folder / "002.png").write_bytes(b"not a picture")
    with pytest.raises(BadInput, match=r"002\.png"):
        load_good(folder, RECIPE)


def test_a_region_that_does_not_fit_names_the_image(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 5)
    with pytest.raises(BadInput, match=r"000\.png.*region of interest"):
        load_good(folder, PreprocessRecipe(32, 32, (40, 40, 40, 40)))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_an_unusable_heldout_share_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(BadInput, match="held-out share"):
        load_good(tmp_path, RECIPE, share)


def test_labelled_images_come_with_masks_at_model_size(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "part", good=4, test=2)
    (root / "ground_truth/gash/001_mask.png").unlink()
    (root / "test/empty").mkdir()
    items = list(load_labelled(labelled(root).files, RECIPE))
    assert [(item.kind, item.defect) for item in items] == [("gash", True)] * 2 + [("good", False)] * 2
    assert items[0].mask is not None
    assert 0 < items[0].mask.sum() < 200
    assert items[1].mask is None
    assert items[2].mask is not None
    assert not items[2].mask.any()


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "part", good=4, test=1)
    cv2.imwrite(str(root / "ground_truth/gash/000_mask.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(BadInput, match=r"000_mask\.png has another size"):
        list(load_labelled(labelled(root).files, RECIPE))
