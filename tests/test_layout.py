"""Which pictures a folder holds, whatever people call its folders and however deep they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.errors import BadInput
from edgead.layout import find_good, good_pictures, is_bad, is_good, labelled, pictures_below
from edgead.preprocess import PreprocessRecipe
from edgead.training.dataset import load_good
from tests.training._parts import write_good

GOOD_NAMES = (
    "good,Good,OK,ok,ok_front,Normal,pass,PASSED,MT_Free,non-defective,no_defect,defect_free,良品,good-2024-05-01,i.O.,OK 2,"
    "anomaly_free,scratch-free,no cracks,train_good,cam1_ok,OKParts,GoodImages,without_defects"
)
BAD_NAMES = "NG,ng,def_front,not_good,not ok,NOK,no good,Anomaly,ko,bad,scratch,defective,n.i.O.,NotOK,GoodNG,ok_scratch"


@pytest.mark.parametrize("name", GOOD_NAMES.split(","))
def test_names_of_folders_of_good_pictures(name: str) -> None:
    assert is_good(name)
    assert not is_bad(name)


@pytest.mark.parametrize("name", BAD_NAMES.split(","))
def test_names_of_folders_of_others(name: str) -> None:
    assert not is_good(name)
    assert is_bad(name)


@pytest.mark.parametrize("name", ["OK", "Normal", "ok_front"])
def test_good_ones_of_any_name_are_found_with_the_labelled_ones(name: str, tmp_path: Path) -> None:
    write_good(tmp_path / "part/train" / name, 4)
    write_good(tmp_path / "part/test" / name, 2)
    write_good(tmp_path / "part/test/NG/day1", 3)
    root = tmp_path / "part"
    for given in (root, root / "train", root / "train" / name):
        assert find_good(given) == (root / "train" / name, root)
    labels = labelled(root)
    assert [item.kind for item in labels.files] == ["NG"] * 3 + ["good"] * 2
    assert labels.told() == f"good: {name} (2); defects: NG (3)"


def test_two_folders_beside_each_other_are_told_apart(tmp_path: Path) -> None:
    write_good(tmp_path / "OK", 4)
    write_good(tmp_path / "NG", 2)
    assert find_good(tmp_path)[0] == tmp_path / "OK"
    assert labelled(tmp_path).told() == "good: OK (4); defects: NG (2)"


def test_days_and_shifts_below_are_read_and_told(tmp_path: Path) -> None:
    write_good(tmp_path / "parts/monday/early", 3)
    write_good(tmp_path / "parts/tuesday", 2)
    write_good(tmp_path / "parts", 1)
    (tmp_path / "parts/Thumbs.db").write_bytes(b"x")
    (tmp_path / "parts/._000.png").write_bytes(b"mac")
    found = good_pictures(tmp_path / "parts")
    assert found.told() == "6 pictures, 5 of them in 2 folders below (monday/early, tuesday)"
    assert dict(found.skipped) == {"files that are no pictures (.db)": 1, "hidden files": 1}


@pytest.mark.parametrize("name", ["NG", "defects", "test", "ground_truth", "mask"])
def test_defects_and_masks_among_good_pictures_are_refused(name: str, tmp_path: Path) -> None:
    write_good(tmp_path / "parts", 5)
    write_good(tmp_path / "parts" / name, 2)
    with pytest.raises(BadInput, match=f"good pictures only, and there is {name} below it"):
        good_pictures(tmp_path / "parts")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write_good(tmp_path / "parts/a", 2)
    (tmp_path / "parts/a/again").symlink_to(tmp_path / "parts")
    assert len(pictures_below(tmp_path / "parts").files) == 2


def test_what_lies_beside_the_kinds_is_told_not_lost(tmp_path: Path) -> None:
    write_good(tmp_path / "test/good", 2)
    write_good(tmp_path / "test", 3)
    (tmp_path / "test/empty").mkdir()
    labels = labelled(tmp_path)
    assert len(labels.files) == 2
    assert sorted(labels.skipped.values()) == [1, 3]
    assert any("lie in test/ itself" in what for what in labels.skipped)


def test_what_is_called_as_the_only_folder_to_train_on_is_good_in_the_test_too(tmp_path: Path) -> None:
    """Classes are often numbers, or Positive and Negative: no name tells which is which, but the folder to learn from does."""
    write_good(tmp_path / "train/0", 4)
    write_good(tmp_path / "test/0", 2)
    write_good(tmp_path / "test/1", 3)
    assert labelled(tmp_path).told() == "good: 0 (2); defects: 1 (3)"
    write_good(tmp_path / "train/1", 2)
    assert labelled(tmp_path).told() == "good: none; defects: 0 (2), 1 (3)"


def test_pictures_that_nobody_takes_are_told(tmp_path: Path) -> None:
    write_good(tmp_path / "part/train/OK", 5)
    write_good(tmp_path / "part/train/NOK", 2)
    write_good(tmp_path / "part/test/OK", 1)
    write_good(tmp_path / "part/test/dent", 1)
    write_good(tmp_path / "part/val/OK", 3)
    write_good(tmp_path / "part", 4)
    skipped = load_good(tmp_path / "part", PreprocessRecipe(32, 32)).found.skipped
    assert skipped == {
        "pictures that lie in train/NOK/, beside those of OK/": 2,
        "pictures that lie in val/OK/, beside those of OK/": 3,
        "pictures that lie in part/ itself, beside those of OK/": 4,
    }
    assert not load_good(tmp_path / "part/train/OK", PreprocessRecipe(32, 32)).found.skipped


def test_what_an_archive_of_macos_leaves_is_no_picture(tmp_path: Path) -> None:
    write_good(tmp_path / "parts", 2)
    write_good(tmp_path / "parts/__MACOSX/parts", 2)
    assert len(pictures_below(tmp_path / "parts").files) == 2


def test_an_unrelated_test_folder_beside_a_plain_folder_is_not_taken(tmp_path: Path) -> None:
    write_good(tmp_path / "parts", 4)
    write_good(tmp_path / "test/holiday", 2)
    assert find_good(tmp_path / "parts") == (tmp_path / "parts", None)
