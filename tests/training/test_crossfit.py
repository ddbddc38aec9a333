"""Every good picture serves for the threshold, by the score of a model that has not seen it; odd ones are named, set nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.efficientad.fit import fold_fit
from edgead.families.efficientad.network import EfficientAd
from edgead.families.efficientad.options import EfficientAdOptions
from edgead.families.patchcore.fit import fit as fit_patchcore
from edgead.families.patchcore.memory import BankMemory
from edgead.families.patchcore.network import PatchCore
from edgead.families.patchcore.options import PatchCoreOptions
from edgead.models.detector import Detector
from edgead.preprocess import PreprocessRecipe
from edgead.thresholds.choose import crossfit_rate, threshold_from_good
from edgead.thresholds.conformal import from_good
from edgead.training import crossfit
from edgead.training.crossfit import LEAVE_ONE_OUT, cross_fit, leave_one_out
from edgead.training.evaluate import answers, good_scores
from edgead.training.fit import TrainRequest, train
from edgead.types import Image
from tests.bundles import Tiny
from tests.training._parts import draw_part, write_good

RECIPE = PreprocessRecipe(64, 64)
SIZE = (64, 64)


def parts(count: int) -> list[Image]:
    return [draw_part(i) for i in range(count)]


def fit(images: Sequence[Image], **options: float) -> PatchCore:
    return fit_patchcore(FitData(images, SIZE), PatchCoreOptions(**{"coreset": 1.0, "neighbours": 1, **options}))  # type: ignore[arg-type]


def test_with_all_patches_kept_a_picture_is_scored_as_by_a_model_without_it() -> None:
    images = parts(6)
    detector = fit(images)
    found = leave_one_out(detector, [BankMemory(detector.product)], images)
    truly = [answers(fit(images[:i] + images[i + 1 :]), image)[0] for i, image in enumerate(images)]
    assert found == pytest.approx(truly, rel=1e-3)
    assert min(found) > 2 * max(good_scores(detector, images))  # by heart


def test_the_model_answers_afterwards_as_before() -> None:
    images = parts(5)
    detector = fit_patchcore(FitData(images, SIZE), PatchCoreOptions(coreset=100))
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    leave_one_out(detector, [BankMemory(detector.product)], images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())
    assert not detector.product._forward_hooks


def test_a_picture_that_all_rows_are_of_is_not_scored() -> None:
    images = parts(4)
    detector = fit_patchcore(FitData(images, SIZE), PatchCoreOptions(coreset=1))
    found = cross_fit(detector, _never, FitData(images, SIZE), 1.0)
    assert (found.how, len(found.indices)) == (LEAVE_ONE_OUT, 3)


class Knows(Detector):
    """Scores 1 what it was trained on and 2 anything else."""

    family = "knows"

    def __init__(self, images: Sequence[Image]) -> None:
        super().__init__({}, SIZE)
        self.known = [image.tobytes() for image in images]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, *SIZE), torch.tensor([1.0 if image.numpy().tobytes() in self.known else 2.0])


def _knows(data: FitData) -> Knows:
    return Knows(data.images)


def _never(data: FitData) -> Detector:
    raise AssertionError("no training was to be done")


@pytest.mark.parametrize(("count", "folds"), [(7, 7), (33, 5)])
def test_other_families_are_trained_again_without_each_fold(count: int, folds: int) -> None:
    found = cross_fit(Knows([]), _knows, FitData(parts(count), SIZE), 1.0)
    assert (found.how, found.indices) == (f"{folds} folds", tuple(range(count)))
    assert set(found.scores) == {2.0}


def test_where_trainings_take_long_there_are_fewer_folds_or_none() -> None:
    images = parts(30)
    assert cross_fit(Knows([]), _knows, FitData(images, SIZE), crossfit.FOLDS_S / 3).how == "3 folds"
    none = cross_fit(Knows([]), _never, FitData(images, SIZE), crossfit.FOLDS_S)
    assert (none.how, len(none.scores)) == ("", 0)
    assert "would take more than 600 s" in none.why


def test_a_new_student_for_a_fold_leaves_the_model_as_it_is(tiny: Tiny) -> None:
    from edgead.trained import load_model

    detector, _ = load_model(tiny.model("efficientad"))
    assert isinstance(detector, EfficientAd)
    px = detector.image_size[0]
    images = [draw_part(i, px=px) for i in range(4)]
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    refit, share = fold_fit(detector, EfficientAdOptions(patches=500))
    made = refit(FitData(images, detector.image_size))
    assert share < 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())
    same = [name for name, tensor in made.state_dict().items() if torch.equal(tensor, before[name])]
    assert {name.split(".")[0] for name in same} >= {"teacher", "ae", "mean_std", "quantiles"}
    assert {name.split(".")[0] for name in before} - {name.split(".")[0] for name in same} <= {"student"}
    assert answers(made, images[0])[0] != answers(detector, images[0])[0]
    assert fold_fit(detector, EfficientAdOptions(steps=5))[1] == 1  # trained on: nothing short of the whole training


def test_nearest_neighbours_in_all_good_parts_keep_to_the_rate() -> None:
    """The proof in docs/thresholds.md, tried: leave-one-out distances set the threshold, one new part is asked."""
    rng, n, rate, over = np.random.default_rng(0), 39, 0.05, 0
    for _ in range(4000):
        points = rng.standard_t(2, (n + 1, 2))
        apart = np.linalg.norm(points[:, None] - points, axis=2) + np.diag(np.full(n + 1, np.inf))
        known = apart[:n, :n].min(1)
        over += apart[n, :n].min() > from_good(known, rate, LEAVE_ONE_OUT).cut
    assert over / 4000 <= rate + 3 * (rate / 4000) ** 0.5


@pytest.mark.parametrize(("pictures", "above"), [(2, 0), (10, 0), (18, 0), (19, 0), (39, 1), (80, 3), (399, 3), (2000, 19)])
def test_the_default_rate_lets_four_pictures_agree_and_is_never_one_that_cannot_be_told(pictures: int, above: int) -> None:
    scores = np.random.default_rng(0).uniform(size=pictures)
    threshold = threshold_from_good(scores, crossfit=LEAVE_ONE_OUT)
    assert int((scores >= threshold.value).sum()) == above
    assert crossfit_rate(scores) <= max(0.05, 1 / (pictures + 1))
    chosen = threshold.chosen
    assert chosen is not None and chosen.expected_false_reject == pytest.approx((above + 1) / (pictures + 1))
    assert (chosen.guaranteed, chosen.false_reject_rate, chosen.false_reject_bound) == (False, None, None)


def test_one_odd_picture_of_many_does_not_set_the_threshold_and_is_named(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 30)
    cv2.imwrite(str(folder / "777.png"), draw_part(3000, defect=True))
    results = {}
    for crossed in (True, False):
        request = TrainRequest("patchcore", folder, tmp_path / f"{crossed}", RECIPE, {"coreset": 300}, seed=1, crossfit=crossed)
        results[crossed] = train(request)
    result = results[True]
    assert len(result.scored.scores) == 31 and result.scored.how == LEAVE_ONE_OUT
    defect = answers(result.detector, draw_part(3001, defect=True))[0]
    assert defect >= result.threshold.value
    assert [result.scored.files[i].name for i in result.scored.odd()] == ["777.png"]
    first = result.oddest[0]
    assert (first.file.name, first.odd) == ("777.png", True)
    assert result.threshold.chosen is not None and result.threshold.chosen.expected_false_reject == 2 / 32
    card = json.loads((tmp_path / "True/model.json").read_text())["crossfit"]
    assert (card["how"], card["heldout"], card["odd"]) == (LEAVE_ONE_OUT, 5, ["777.png"])
    assert len(card["scores"]) == len(card["files"]) == 31
    held = results[False]
    assert (held.scored.how, len(held.scored.scores), held.scored.why) == ("", 5, "asked for")
    assert held.threshold.chosen is not None and held.threshold.chosen.crossfit == ""


def test_a_picture_is_left_out_by_its_name(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good/monday", 8).parent
    request = TrainRequest("patchcore", folder, tmp_path / "out", RECIPE, {"coreset": 50}, leave_out=("monday/003.png",))
    result = train(request)
    assert result.images.count == 7
    assert "003.png" not in {file.name for file in result.scored.files}
    assert json.loads((tmp_path / "out/model.json").read_text())["origin"]["arguments"]["leave_out"] == ["monday/003.png"]
    with pytest.raises(BadInput, match=r"003\.png is to be left out") as refused:
        train(TrainRequest("patchcore", folder, tmp_path / "other", RECIPE, leave_out=("003.png",)))
    assert refused.value.hint == "it is called monday/003.png"
