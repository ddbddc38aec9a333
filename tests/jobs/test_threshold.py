"""Thresholds chosen without a command line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.errors import BadInput
from edgead.jobs.choosing import ThresholdRequest
from edgead.jobs.threshold import choose_thresholds, undo_thresholds
from edgead.thresholds.written import area, band, rate, region
from tests.cli.test_run import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "tiny.edgead")


def pictures(folder: Path, values: range) -> Path:
    """Black pictures with a spot of each value, which is their score."""
    folder.mkdir()
    for value in values:
        image = np.zeros((16, 16, 3), np.uint8)
        image[4, 4] = value
        cv2.imwrite(str(folder / f"{value:03d}.png"), image)
    return folder


def test_a_choice_is_told_written_and_taken_back(bundle: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    request = ThresholdRequest(bundle, good=(pictures(tmp_path / "good", range(1, 121)),), max_false_reject=0.01)
    written = choose_thresholds(request, lambda stage, done: told.append((stage, done)))
    assert written.chosen is not None
    (row,) = written.chosen.rows
    assert 120 < row.threshold.value < 120.001
    assert (written.chosen.good.count, row.choice.rejected.events, row.rejected_before) == (120, 0, 0)
    assert row.named.setting[0] == "120.png (120)"
    assert Bundle.open(bundle).manifest.engine().threshold == row.threshold
    assert written.bundle.digest == Bundle.open(bundle).digest
    assert told[-1] == ("asking the engines", 1.0)
    ((before, after),) = undo_thresholds(bundle).pairs
    assert (before.threshold.value, after.threshold.value) == (row.threshold.value, 200.0)


def test_looking_changes_nothing(bundle: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    written = choose_thresholds(ThresholdRequest(bundle, value=150.0, dry_run=True))
    assert [after.threshold.value for _, after in written.pairs] == [150.0]
    assert (bundle / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "wrong", [{"max_false_reject": 5.0}, {"defect_rate": float("nan")}, {"by": "colour"}, {"value": 1.0, "cost_ratio": 2.0}]
)
def test_a_request_that_makes_no_sense_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        ThresholdRequest(Path("x.edgead"), good=(Path("good"),), **wrong)  # type: ignore[arg-type]


def test_numbers_as_people_write_them() -> None:
    assert rate("0.1%") == rate("0.001") == 0.001
    assert (band("5%"), band("5 %"), band("1:2.5"), band("rates")) == (0.05, 0.05, (1.0, 2.5), "rates")
    assert (area("12"), area("0.5%"), area("0.005")) == (12, 0.005, 0.005)
    box, triangle = region("include=0.1,0.2,0.3,0.4@1.5"), region("exclude=0,0,1,0,0,1")
    assert box is not None
    assert triangle is not None
    assert (box.points[0], box.threshold, box.include) == ((0.1, 0.2), 1.5, True)
    assert (len(triangle.points), triangle.include) == (3, False)
    assert region("none") is None


@pytest.mark.parametrize("text", ["0", "-1", "\u0661\u0662", "9" * 5000, "much", "0%"])
def test_areas_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        area(text)
