"""A served bundle: answers as `edgead.open`, and its exchange for a changed one."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgead
from edgead.bundle import Bundle, rewrite_manifest
from edgead.errors import ParityFailed
from edgead.line.shelf import Shelf
from edgead.manifest import Threshold
from edgead.serving.served import Served
from edgead.serving.wanted import Named
from edgead.testing.fakes import FakeClock
from edgead.types import Verdict
from tests.cli.test_run import write_bundle

DARK, BRIGHT = np.zeros((16, 16, 3), np.uint8), np.full((20, 30, 3), 250, np.uint8)


@contextmanager
def serving(path: Path, budget_ms: float | None = None, clock: FakeClock | None = None) -> Iterator[Served]:
    served = Served(Named("part", "", path), Shelf(threads=1, keep=False), None, budget_ms, clock or FakeClock())
    try:
        yield served
    finally:
        served.close()


def changed(path: Path, **changes: object) -> str:
    """Another bundle there, and its digest."""
    bundle = Bundle.open(path)
    return rewrite_manifest(bundle, dataclasses.replace(bundle.manifest, **changes)).digest


def test_answers_are_those_of_open_and_a_broken_picture_is_unknown(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "part.edgead")
    png = cv2.imencode(".png", np.random.default_rng(3).integers(0, 255, (40, 30, 3), np.uint8))[1].tobytes()
    deep = np.full((16, 16), 65535, np.uint16)
    pictures = (DARK, BRIGHT, BRIGHT[..., 0], png, png[:200], b"", deep, np.zeros((0, 3, 3), np.uint8))
    with serving(path) as served, edgead.open(path, threads=1) as judge:
        answer = served.judge(pictures).result()
        expected = [judge(one) for one in pictures]
    assert [(one.verdict, one.cause) for one in answer.found] == [(one.verdict, one.cause) for one in expected]
    assert np.array_equal([one.score for one in answer.found], [one.score for one in expected], equal_nan=True)
    assert all(
        one.anomaly_map is None if other.anomaly_map is None else np.array_equal(one.anomaly_map, other.anomaly_map)
        for one, other in zip(answer.found, expected, strict=True)
    )
    words = [one.verdict.value for one in answer.found]
    assert words == ["OK", "NG", "NG", "NG", "UNKNOWN", "UNKNOWN", "NG", "UNKNOWN"]
    assert (answer.bundle, answer.engine, answer.map_size) == (Bundle.open(path).digest, "onnxruntime-fp32", (16, 16))
    assert served.counts.verdicts == {"OK": 1, "NG": 4, "UNKNOWN": 3} and served.counts.causes == {"bad_frame": 3}


def test_a_changed_bundle_takes_the_place_of_the_former(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "part.edgead")
    with serving(path) as served:
        assert not served.look()
        other = changed(path, name="other")
        assert served.look() and not served.look()
        answer = served.judge([DARK]).result()
        assert answer.bundle == other and answer.found[0].verdict is Verdict.OK
        assert served.counts.exchanged == 1


def test_a_new_threshold_alone_decides_from_then_on(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "part.edgead")
    with serving(path) as served:
        (record,) = Bundle.open(path).manifest.engines
        changed(path, engines=(dataclasses.replace(record, threshold=Threshold(100.0, "given")),))
        picture = np.full((16, 16, 3), 150, np.uint8)
        before = served.judge([picture]).result().found[0]
        assert served.look()
        after = served.judge([picture]).result().found[0]
    assert (before.verdict, before.threshold) == (Verdict.OK, 200.0)
    assert (after.verdict, after.threshold) == (Verdict.NG, 100.0)


def test_what_cannot_be_used_is_not_taken_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bundle that is half there, none at all, or answers otherwise: the former goes on, and the whole one is taken later."""
    path = write_bundle(tmp_path / "part.edgead")
    with serving(path) as served, caplog.at_level(logging.WARNING, "edgead.serve"):
        first = served.bundle.digest
        changed(path, name="other")
        shutil.copytree(path, tmp_path / "whole.edgead")
        (path / "model.onnx").unlink()
        assert not served.look() and not served.look()
        shutil.rmtree(path)
        assert not served.look()
        shutil.move(write_bundle(tmp_path / "wrong.edgead", wrong_by=90.0), path)
        assert not served.look()
        assert served.judge([BRIGHT]).result().bundle == first
        shutil.rmtree(path)
        shutil.move(tmp_path / "whole.edgead", path)
        assert served.look()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == served.counts.refused == 3
    for word, line in zip(
        ("model.onnx is missing", "No such file", "does not answer as the trained model did"), told, strict=True
    ):
        assert word in line and "the former bundle goes on" in line


def test_a_bundle_that_answers_otherwise_is_not_served(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "part.edgead", wrong_by=90.0)
    with pytest.raises(ParityFailed):
        Served(Named("part", "", path), Shelf(threads=1, keep=False), None, None, FakeClock())


class Ticking(FakeClock):
    """Each look at it takes 30 ms."""

    def now_ns(self) -> int:
        self.advance(0.03)
        return super().now_ns()


def test_what_comes_later_than_the_budget_is_unknown(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "part.edgead")
    with serving(path, 100.0, Ticking()) as served:
        found = served.judge([DARK] * 3).result().found
    assert [(one.verdict.value, one.cause) for one in found] == [("OK", ""), ("UNKNOWN", "late"), ("UNKNOWN", "late")]
    assert np.isnan(found[2].score)  # it was not even begun
