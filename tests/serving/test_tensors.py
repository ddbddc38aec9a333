"""A request's tensors: what is a picture, what is not of the protocol's form, and what is answered."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgead.errors import BadInput
from edgead.serving.tensors import MOST_PICTURES, answered, output_types, outputs_of, pictures_of
from edgead.types import Inspection, StageTimes, Verdict


@pytest.mark.parametrize(
    ("shape", "count"),
    [((4, 5, 3), 1), ((2, 4, 5, 3), 2), ((4, 5), 1), ((4, 5, 1), 1), ((4, 5, 4), 1), ((7, 4, 5), 7), ((1, 0, 0, 3), 1)],
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pictures_come_alone_or_together(shape: tuple[int, ...], count: int, kind: type) -> None:
    assert len(pictures_of("picture", np.zeros(shape, kind))) == count


def test_files_come_as_bytes() -> None:
    assert pictures_of("file", np.array([b"a", b""], object)) == (b"a", b"")
    assert pictures_of("file", np.array([[b"a"], [b"b"]], object)) == (b"a", b"b")


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("image", np.zeros((1, 4, 4, 3), np.uint8), "there is no input 'image'"),
        ("picture", np.zeros((1, 4, 4, 3), np.float32), "picture is of float32"),
        ("picture", np.zeros((1, 4, 4, 3), np.int8), "picture is of int8"),
        ("picture", np.zeros(4, np.uint8), "shape"),
        ("picture", np.zeros((1, 1, 4, 4, 3), np.uint8), "shape"),
        ("picture", np.zeros((0, 4, 4, 3), np.uint8), "a request of 0 pictures"),
        ("file", np.array([], object), "a request of 0 pictures"),
        ("file", np.array(["text"], object), "file holds no BYTES"),
        ("file", np.zeros(3, np.uint8), "file holds no BYTES"),
        ("file", np.array([b""] * (MOST_PICTURES + 1), object), f"a request of {MOST_PICTURES + 1} pictures"),
    ],
)
def test_what_is_no_request_is_told(name: str, tensor: np.ndarray, says: str) -> None:
    with pytest.raises(BadInput, match=says) as told:
        pictures_of(name, tensor)
    assert told.value.hint


def test_the_map_is_answered_only_when_it_is_asked_for_and_there_is_one() -> None:
    assert "map" not in outputs_of(None, True)
    assert outputs_of(["map", "score", "map"], True) == ("map", "score")
    with pytest.raises(BadInput, match="this engine tells no map"):
        outputs_of(["map"], False)
    with pytest.raises(BadInput, match="no output 'heat'"):
        outputs_of(["heat"], True)
    assert [one["name"] for one in output_types(False, (1, 1))] == ["verdict", "cause", "score", "threshold"]


def test_a_picture_without_an_answer_has_no_number() -> None:
    """NaN is no score that could be compared with a threshold and be OK."""
    heat = np.ones((2, 3), np.float32)
    found = [
        Inspection(1, Verdict.NG, "", 0.1 + 0.2, 0.3, heat, StageTimes(), None),
        Inspection(2, Verdict.UNKNOWN, "bad_frame: \udc80", math.nan, 0.3, None, StageTimes(), None),
    ]
    made = answered(found, ("verdict", "cause", "score", "threshold", "map"), (2, 3))
    assert made["verdict"].tolist() == [b"NG", b"UNKNOWN"]
    assert made["cause"].tolist() == [b"", b"bad_frame: \\udc80"]
    assert made["score"][0] == 0.1 + 0.2 and math.isnan(made["score"][1])
    assert made["map"].shape == (2, 2, 3) and (made["map"][0] == heat).all() and np.isnan(made["map"][1]).all()
