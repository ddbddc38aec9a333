"""The space of a search: every combination once, the mildest first."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.export.search.space import Axis, Choice, axes_for, combinations, deeper, settings_at, smaller_sizes, thread_counts

CHOICES = st.builds(
    Choice,
    st.sampled_from(["openvino", "onnxruntime"]),
    st.sampled_from(["fp32", "int8"]),
    st.dictionaries(st.sampled_from(["rows", "dims", "bank"]), st.one_of(st.integers(2, 99), st.just("int8"), st.just(True))).map(
        lambda settings: tuple(sorted(settings.items()))
    ),
    st.none() | st.tuples(st.integers(32, 512), st.integers(32, 512)),
    st.none() | st.integers(1, 8),
    st.lists(st.text("ab/", min_size=1), max_size=3).map(tuple),
)
AXES = st.lists(st.integers(1, 3), max_size=3).map(
    lambda counts: [Axis(f"axis{i}", tuple(range(1, n + 1))) for i, n in enumerate(counts)]
)


@given(CHOICES, CHOICES)
def test_a_choice_comes_back_from_json_and_has_a_key_of_its_own(one: Choice, other: Choice) -> None:
    assert Choice.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert (one.key == other.key) == (one == other)


@given(AXES)
def test_combinations_are_complete_and_none_comes_before_a_milder_one(axes: list[Axis]) -> None:
    found = combinations(axes)
    every = 1
    for axis in axes:
        every *= len(axis.settings) + 1
    assert len(set(found)) == len(found) == every - 1
    for i, levels in enumerate(found):
        assert not any(deeper(levels, later) for later in found[i + 1 :])
        assert settings_at(axes, levels) == {axis.name: axis.settings[k - 1] for axis, k in zip(axes, levels, strict=True) if k}


@given(st.tuples(st.integers(16, 1024), st.integers(16, 1024)))
def test_smaller_sizes_are_smaller_and_usable(size: tuple[int, int]) -> None:
    for smaller in smaller_sizes(size):
        assert smaller != size
        assert all(side >= 64 and side % 32 == 0 for side in smaller)


def test_sizes_of_256_px() -> None:
    assert smaller_sizes((256, 256)) == [(224, 224), (192, 192), (160, 160), (128, 128)]


def test_all_cores_are_the_default_and_not_tried_again() -> None:
    assert thread_counts(1) == []
    assert thread_counts(8) == [1, 2, 4]


def test_what_the_user_chose_himself_is_not_searched() -> None:
    config = {"rows": 2048, "channels": 152}
    assert [axis.name for axis in axes_for("patchcore", config)] == ["feature_map", "bank", "dims", "rows"]
    assert [axis.name for axis in axes_for("patchcore", config, taken=["rows"])] == ["feature_map", "bank", "dims"]
    assert axes_for("patchcore", {"rows": 64, "channels": 16}, taken=["feature_map", "bank"]) == ()


@pytest.mark.parametrize("family", ["patchcore", "simplenet", "efficientad"])
def test_settings_are_those_that_the_rewrites_take(family: str) -> None:
    from edgead.families.rewriting import known

    rewrites = {one.name: one for one in known(family)}
    for axis in axes_for(family, {"rows": 2048, "channels": 152}):
        for setting in axis.settings:
            assert rewrites[axis.name].parse("" if setting is True else str(setting)) == setting


def test_a_choice_reads_well() -> None:
    choice = Choice("openvino", "int8", (("feature_map", True), ("rows", 512)), (192, 192), 1, ("a", "b"))
    assert str(choice) == "openvino-int8 feature_map rows=512 192x192 px 2 layers float 1 thread"
