"""The front door of rewrites: what is on by default, what is asked for, and that "exact" is checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.families import rewriting
from edgead.families.rewriting import parse, plan_for, rewrite
from edgead.models.detector import Detector
from edgead.models.rewrites import Material, Rewrite, Setting
from edgead.models.wrappers.resized import Resized

SIZE = (8, 8)


class Gain(Detector):
    """Map: the red channel times a gain; score: its maximum."""

    family = "gain"
    gain: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__(config, image_size)
        self.register_buffer("gain", torch.tensor(2.0))

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        anomaly_map = pixels[:, 0] * self.gain
        return anomaly_map, anomaly_map.flatten(1).amax(1)


def scaled(factor: float) -> Callable[[Detector, Setting, Material], Detector | None]:
    def apply(detector: Detector, setting: Setting, material: Material) -> Detector | None:
        assert next(material.batches()).shape[2:] == SIZE
        changed = copy.deepcopy(detector)
        changed.gain *= factor
        return changed

    return apply


TABLE = (
    Rewrite("idle", True, "does nothing", bool, lambda d, s, m: None, default=True),
    Rewrite("same", True, "rounding only", bool, scaled(1 + 1e-6), default=True),
    Rewrite("liar", True, "says that it is exact", bool, scaled(1.01), default=True),
    Rewrite("less", False, "a number", int, scaled(0.5)),
)


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "known", lambda family: TABLE if family == "gain" else ())
    monkeypatch.setattr(rewriting, "by_name", lambda wanted: {one.name: one for one in TABLE})


@pytest.fixture
def material() -> Material:
    rng = np.random.default_rng(0)
    return Material.of([rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(3)])


def test_exact_rewrites_are_on_unless_left_out_and_lossy_ones_off_unless_asked_for() -> None:
    assert plan_for("gain", {}) == {"idle": True, "same": True, "liar": True}
    assert plan_for("gain", {"less": 3}, ("same", "liar")) == {"idle": True, "less": 3}


def test_only_what_keeps_its_promise_is_kept(material: Material) -> None:
    detector = Gain({}, SIZE)
    changed, applied = rewrite(detector, plan_for("gain", {"less": 1}), material)
    assert [(one.name, one.kept) for one in applied] == [("same", True), ("liar", False), ("less", True)]
    assert float(detector.gain) == 2.0  # the trained one is untouched
    assert isinstance(changed, Gain) and float(changed.gain) == pytest.approx(1.0, rel=1e-5)
    assert applied[2].error == pytest.approx(0.5, rel=0.1)


def test_a_detector_behind_a_resize_is_rewritten_where_it_stands(material: Material) -> None:
    outer = Resized(Gain({}, SIZE), (16, 16), antialias=False)
    rng = np.random.default_rng(0)
    pictures = Material.of([rng.integers(0, 256, (16, 16, 3), np.uint8)])
    changed, applied = rewrite(outer, {"less": 1}, pictures)
    assert applied[0].kept and float(outer.inner.gain) == 2.0  # type: ignore[arg-type]
    assert isinstance(changed, Resized) and float(changed.inner.gain) == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "left_out", "says"),
    [
        ({"none": True}, (), "no rewrite 'none' for gain models"),
        ({"other": True}, (), "no rewrite 'other'"),
        ({}, ("other",), "no rewrite 'other'"),
        ({"same": True}, ("same",), "both asked for and left out"),
    ],
)
def test_wrong_names_are_told(asked: dict[str, Setting], left_out: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        plan_for("gain", asked, left_out)


def test_settings_are_read_from_text() -> None:
    assert parse(["less=3"]) == {"less": 3}
    with pytest.raises(BadInput, match="'less=many' is not usable"):
        parse(["less=many"])
    with pytest.raises(BadInput, match="no rewrite 'fewer'"):
        parse(["fewer=3"])
