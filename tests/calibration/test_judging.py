"""Plain words on what a model is worth."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.calibration.judging.worth import figures_of, judge

FINE = {
    "test_good": 30.0, "test_defects": 30.0, "image_auroc": 0.98, "brightness_auroc": 0.6, "caught": 0.93, "rejected": 0.02,
    "caught_without": 0.95,
}  # fmt: skip


def codes(**changed: float) -> list[str]:
    return [finding.code for finding in judge({**FINE, **changed})]


def test_a_fine_model_and_an_unknown_one_need_no_word() -> None:
    assert codes() == []
    assert judge({}) == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"image_auroc": 0.8, "brightness_auroc": 0.93}, "worse-than-brightness"),
        ({"image_auroc": 0.62}, "hardly-tells"),
        ({"caught": 0.04, "caught_without": 0.05}, "catches-few"),
        ({"rejected": 0.3}, "rejects-good"),
        ({"caught": 0.7, "caught_without": 0.95}, "one-picture"),
    ],
)
def test_each_fault_is_told(changed: dict[str, float], code: str) -> None:
    assert codes(**changed) == [code]


def test_a_model_without_a_fault_is_not_told_that_brightness_does_as_well() -> None:
    assert codes(image_auroc=1.0, brightness_auroc=1.0) == []
    (told,) = judge({**FINE, "image_auroc": 0.9, "brightness_auroc": 0.9})
    assert "no worse (AUROC 0.90) than the model (0.90)" in told.message


def test_the_share_of_defects_and_what_to_try_are_in_the_words() -> None:
    (told,) = judge({**FINE, "image_auroc": 0.75, "caught": 0.04, "caught_without": 0.04})
    assert "catches 4% of the 30 labelled defects" in told.message
    assert "--tiles" in told.message
    (told,) = judge({**FINE, "caught": 0.04, "caught_without": 0.04})
    assert "edgead threshold" in told.message  # the scores tell them apart


def test_a_few_labelled_defects_say_nothing_and_drawn_ones_stand_in() -> None:
    assert codes(test_defects=2.0, caught=0.0, caught_without=0.0, image_auroc=0.5) == []
    drawn = {"drawn_count": 24.0, "drawn_auroc": 0.9, "drawn_caught": 0.1, "drawn_caught_without": 0.6}
    assert [finding.code for finding in judge(drawn)] == ["one-picture", "catches-few"]
    assert "24 drawn defects" in judge(drawn)[1].message


def test_figures_come_from_the_scores_of_each_kind() -> None:
    """Four held out, four labelled good, four defects that only brightness tells."""
    grey = [np.full((32, 32, 3), value, np.uint8) for value in (100, 101, 99, 100, 100, 101, 99, 100, 150, 151, 149, 150)]
    scores = np.array([1, 2, 3, 9, 1, 2, 3, 4, 5, 2, 3, 4], np.float32)
    found = figures_of(grey, scores, 4, 4, threshold=9.0, without=3.5, drawn=False)
    assert found["caught"] == 0.0
    assert found["caught_without"] == 0.5
    assert found["brightness_auroc"] == 1.0
    assert found["image_auroc"] < 0.8
    assert {"worse-than-brightness", "one-picture", "catches-few"} <= {finding.code for finding in judge(found)}
    assert figures_of(grey[:8], scores[:8], 4, 4, 9.0, None, drawn=False) == {}
