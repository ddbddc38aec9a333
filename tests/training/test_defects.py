"""Pictures of defects that take part in a training: which are found, with which masks, and what becomes of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.export.measure import read_frames
from edgead.families.contract import FitData
from edgead.jobs.again import retrainer
from edgead.layout import defect_pictures
from edgead.preprocess import PreprocessRecipe, frame_digest, read_image
from edgead.trained import read_card, trained_on_by
from edgead.training.defects import load_defects
from edgead.training.fit import TrainRequest, train
from edgead.training.tiles import Tiling
from tests.training._parts import defect_mask, draw_part, write_good, write_mvtec

RECIPE = PreprocessRecipe(64, 64)


def write_defects(folder: Path, count: int, masks: bool = True, first_seed: int = 3000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"d{i}.png"), draw_part(first_seed + i, True))
        if masks:
            cv2.imwrite(str(folder / f"d{i}_mask.png"), defect_mask(first_seed + i))
    return folder


PACKAGE = """
from dataclasses import dataclass

import torch

from edgead.families.contract import Family
from edgead.families.options import Options
from edgead.models.detector import Detector

SEEN = []

@dataclass(frozen=True, slots=True)
class PairOptions(Options):
    pass

class Pair(Detector):
    family = "pair"

    def __init__(self, config, image_size):
        super().__init__(config, image_size)
        self.register_buffer("good", torch.zeros(3))

    @classmethod
    def build(cls, config, image_size):
        return cls(config, image_size)

    def detect(self, pixels):
        away = (pixels - self.good[:, None, None]).abs().mean(1)
        return away, away.amax((1, 2))

def fit(data, options):
    SEEN.append(data)
    data.report("pair", 1.0)
    detector = Pair({}, data.size)
    detector.good += float(data.images[0].mean())
    return detector.eval()

def family(name, **more):
    return Family(name, name.title(), "both", "", "edgead_pair:Pair", "edgead_pair:PairOptions", "edgead_pair:fit", **more)

PAIR = family("pair", takes_defects=True)
NEEDY = family("needy", needs_defects=True)
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FitData]]:
    """What each fit of the families "pair" and "needy" of a package was given."""
    site = tmp_path / "site"
    info = site / "edgead_pair-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "edgead_pair.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgead-pair\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgead.families]\npair = edgead_pair:PAIR\nneedy = edgead_pair:NEEDY\n")
    monkeypatch.syspath_prepend(str(site))
    assert Distribution.at(info).name == "edgead-pair"
    import edgead_pair  # type: ignore[import-not-found]

    yield edgead_pair.SEEN
    del sys.modules["edgead_pair"]


def test_a_folder_of_one_kind_with_masks_beside(tmp_path: Path) -> None:
    folder = write_defects(tmp_path / "scratch", 3)
    (folder / "d2_mask.png").unlink()
    found = defect_pictures(folder)
    assert [(item.file.name, item.kind, item.mask and item.mask.name) for item in found.files] == [
        ("d0.png", "scratch", "d0_mask.png"),
        ("d1.png", "scratch", "d1_mask.png"),
        ("d2.png", "scratch", None),
    ]
    assert found.told() == "3 pictures of defects (scratch 3), 2 of them with masks"


@pytest.mark.parametrize("given", ["plate", "plate/test", "plate/test/gash"])
def test_mvtec_layout_gives_the_defects_of_test_with_their_masks(tmp_path: Path, given: str) -> None:
    write_mvtec(tmp_path / "plate", good=4, test=2)
    found = defect_pictures(tmp_path / given)
    assert [(item.file.name, item.kind) for item in found.files] == [("000.png", "gash"), ("001.png", "gash")]
    assert [item.mask for item in found.files] == [tmp_path / f"plate/ground_truth/gash/00{i}_mask.png" for i in range(2)]


def test_masks_in_a_folder_of_the_same_layout_beside_or_below(tmp_path: Path) -> None:
    write_defects(tmp_path / "a/NG/dent", 1, masks=False)
    write_defects(tmp_path / "b", 1, masks=False)
    for place in ("a/masks/dent", "b/mask"):
        (tmp_path / place).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / place / "d0.png"), defect_mask(3000))
    assert [item.mask for item in defect_pictures(tmp_path / "a/NG").files] == [tmp_path / "a/masks/dent/d0.png"]
    found = defect_pictures(tmp_path / "b")
    assert [item.mask for item in found.files] == [tmp_path / "b/mask/d0.png"]
    assert found.skipped == {"files taken for masks, by the names of their folders": 1}


def test_what_cannot_be_pictures_of_defects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a folder"):
        defect_pictures(tmp_path / "none")
    with pytest.raises(BadInput, match="is called as a folder of good pictures"):
        defect_pictures(write_good(tmp_path / "OK", 2))
    write_good(tmp_path / "only/good", 2)
    with pytest.raises(BadInput, match=r"holds no pictures of defects \(2 good pictures, by the names of their folders\)"):
        defect_pictures(tmp_path / "only")
    folder = write_defects(tmp_path / "pairs", 1, masks=False)
    cv2.imwrite(str(folder / "d0.bmp"), defect_mask(3000))
    with pytest.raises(BadInput, match=r"holds pictures of the same name: d0\.bmp, d0\.png"):
        defect_pictures(folder)


def test_masks_go_through_the_recipe_and_small_defects_stay(tmp_path: Path) -> None:
    folder = tmp_path / "dots"
    folder.mkdir()
    picture, mask = draw_part(1, px=256), np.zeros((256, 256), np.uint8)
    mask[128:130, 200] = 255  # a sixteenth of one pixel at 32 px
    cv2.imwrite(str(folder / "a.png"), picture)
    cv2.imwrite(str(folder / "a_mask.png"), mask)
    for aspect in ("stretch", "letterbox"):
        found = load_defects([folder], PreprocessRecipe(32, 48, aspect=aspect))
        (one,) = found.defects
        assert one.image.shape == (48, 32, 3)
        assert one.mask is not None and one.mask.shape == (48, 32)
        assert 1 <= one.mask.sum() <= 6
        assert one.mask[:, 23:28].sum() == one.mask.sum()
    with pytest.raises(BadInput, match="the masks of all 1 lie outside of what the model looks at"):
        load_defects([folder], PreprocessRecipe(32, 32, roi=(0, 0, 100, 100)))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((64, 64), np.uint8), "marks nothing"),
        (np.ones((64, 64), np.uint8), "marks nothing"),
        (np.full((32, 32), 255, np.uint8), "has another size than its picture"),
        (None, "is not a readable picture"),
    ],
)
def test_a_mask_that_cannot_be_one_is_named(tmp_path: Path, mask: np.ndarray | None, said: str) -> None:
    folder = write_defects(tmp_path / "bad", 2)
    if mask is None:
        (folder / "d1_mask.png").write_bytes(b"torn")
    else:
        cv2.imwrite(str(folder / "d1_mask.png"), mask)
    with pytest.raises(BadInput, match=f"d1_mask.png.*{said}"):
        load_defects([folder], RECIPE)


def test_a_family_that_takes_them_is_fitted_with_them_and_they_are_not_judged(
    seen: list[FitData], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_mvtec(tmp_path / "plate", good=8, test=4)
    some = tmp_path / "some"
    some.mkdir()
    for name in ("000.png", "001.png"):
        (some / name).write_bytes((root / "test/gash" / name).read_bytes())
        (some / f"{Path(name).stem}_mask.png").write_bytes((root / f"ground_truth/gash/{Path(name).stem}_mask.png").read_bytes())
    assert main(["train", "pair", str(root), "-o", str(tmp_path / "m"), "--size", "64", "--defects", str(some)]) == 0
    said = capsys.readouterr().out
    assert "2 pictures of defects (some 2), 2 of them with masks" in said
    assert "2 of them that the model was trained on, which say nothing of new parts" in said
    assert len(seen) > 2  # the model, and those of cross-fitting
    for data in seen:
        assert len(data.defects) == 2
        assert all(one.image.shape == (64, 64, 3) and one.mask is not None and one.mask.any() for one in data.defects)
    metrics = read_card(tmp_path / "m").metrics
    assert (metrics["test_defects"], metrics["test_good"], metrics["test_trained_on"]) == (2, 4, 2)
    frames = read_frames(tmp_path / "m", RECIPE, root, 50, trained_on=trained_on_by(tmp_path / "m"))
    assert (len(frames.defect), len(frames.good)) == (2, 4)
    assert "left out: 2 defects that the model was trained on" in frames.labels


def test_when_all_labelled_defects_were_trained_on_drawn_ones_judge(seen: list[FitData], tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "plate", good=8, test=2)
    result = train(TrainRequest("pair", root, tmp_path / "m", RECIPE, crossfit=False, defects=(root,)))
    assert result.metrics["test_trained_on"] == 2
    assert "caught" not in result.metrics
    assert result.metrics["drawn_count"] > 0


def test_it_trains_again_with_the_same_ones_and_with_no_others(seen: list[FitData], tmp_path: Path) -> None:
    good, bad = write_good(tmp_path / "good", 6), write_defects(tmp_path / "bad", 2)
    train(TrainRequest("pair", good, tmp_path / "m", RECIPE, crossfit=False, defects=(bad,)))
    known = read_card(tmp_path / "m").origin.arguments
    assert known is not None and known.defects is not None
    assert [(one.path, one.images) for one in known.defects] == [(str(bad), 2)]
    again, _ = retrainer(tmp_path / "m")
    assert again is not None
    again((96, 96), tmp_path / "larger", lambda: False)
    assert [one.image.shape for one in seen[-1].defects] == [(96, 96, 3)] * 2
    cv2.imwrite(str(bad / "d1_mask.png"), np.full((64, 64), 255, np.uint8))
    again, _ = retrainer(tmp_path / "m")
    assert again is not None
    with pytest.raises(BadInput, match=r"pictures of defects in .* are not those that the model was trained on"):
        again((96, 96), tmp_path / "never", lambda: False)
    for file in bad.iterdir():
        file.unlink()
    bad.rmdir()
    assert retrainer(tmp_path / "m") == (
        None, f"the pictures of defects that it was trained on are not at {bad} any more",
    )  # fmt: skip


def test_on_tiles_those_that_show_the_defect_take_part(seen: list[FitData], tmp_path: Path) -> None:
    good, bad = write_good(tmp_path / "good", 6), tmp_path / "bad"
    bad.mkdir()
    mask = np.zeros((64, 64), np.uint8)
    mask[4:12, 4:12] = 255
    cv2.imwrite(str(bad / "a.png"), draw_part(9, True))
    cv2.imwrite(str(bad / "a_mask.png"), mask)
    train(TrainRequest("pair", good, tmp_path / "m", RECIPE, crossfit=False, defects=(bad,), tiling=Tiling(32, 32, 0, coarse=2)))
    coarse, tiled = seen
    (one,) = tiled.defects
    assert one.image.shape == (32, 32, 3)
    assert one.mask is not None and one.mask.sum() == 64
    assert np.array_equal(one.image, draw_part(9, True)[:32, :32])
    (small,) = coarse.defects
    assert small.mask is not None and small.mask.sum() == 16
    (bad / "a_mask.png").unlink()
    with pytest.raises(BadInput, match=r"a\.png has no mask"):
        train(TrainRequest("pair", good, tmp_path / "n", RECIPE, crossfit=False, defects=(bad,), tiling=Tiling(32, 32, 0)))


def test_a_picture_is_good_or_a_defect_and_copies_count_once(tmp_path: Path) -> None:
    good, bad = write_good(tmp_path / "good", 6), write_defects(tmp_path / "bad", 1)
    (bad / "copy.png").write_bytes((bad / "d0.png").read_bytes())
    more = write_defects(tmp_path / "more", 2)  # the first one again, and a new one
    found = load_defects([bad, more], RECIPE)
    assert ([file.name for file in found.files], [file.parent.name for file in found.duplicates]) == (
        ["copy.png", "d1.png"], ["bad", "more"],
    )  # fmt: skip
    (bad / "x.png").write_bytes((good / "003.png").read_bytes())
    with pytest.raises(BadInput, match=r"x\.png is also among the good pictures"):
        load_defects([bad], RECIPE, {frame_digest(read_image(good / "003.png"))})


@pytest.mark.parametrize(
    ("family", "defects", "said"),
    [
        ("patchcore", True, "PatchCore learns from good pictures only: --defects does not apply"),
        ("needy", False, "Needy needs pictures of defects too"),
    ],
)
def test_what_does_not_apply_is_refused_before_anything_is_read(
    seen: list[FitData], tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str, defects: bool, said: str
) -> None:
    good, bad = write_good(tmp_path / "good", 6), write_defects(tmp_path / "bad", 1)
    more = ["--defects", str(bad)] if defects else []
    assert main(["train", family, str(good), "-o", str(tmp_path / "m"), "--size", "64", *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_pictures_of_another_size_are_warned_of(seen: list[FitData], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write_good(tmp_path / "good", 6), tmp_path / "bad"
    bad.mkdir()
    cv2.imwrite(str(bad / "a.png"), draw_part(1, True, px=64)[:40])
    arguments = ["train", "pair", str(good), "-o", str(tmp_path / "m"), "--size", "64", "--defects", str(bad), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["defects"] == 1
    assert main(arguments[:-1]) == 0
    assert "1 of 1 pictures of defects are of other sizes than the good ones" in capsys.readouterr().out
