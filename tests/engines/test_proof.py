"""Before a station runs: its engine's answers to two golden frames, and nothing else, speak for it."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.engines import open_engine
from edgead.engines.proof import prove
from edgead.engines.verify import trained_threshold
from edgead.errors import ParityFailed
from tests.bundles import Tiny


@pytest.fixture(scope="module")
def bundle(tiny: Tiny) -> Bundle:
    return Bundle.open(Path(tiny.bundle()))


def between(scores: np.ndarray, low: int, high: int) -> float:
    return float((scores[low] + scores[high]) / 2)


def test_frames_that_are_not_asked_count_as_equal_whatever_the_engines_own_threshold(bundle: Bundle) -> None:
    scores = np.sort(bundle.golden().reference.scores)
    trained = trained_threshold(bundle)
    assert scores[0] < trained <= scores[-1]
    # Of INT8 answers another threshold is right; the trained model's scores of the frames in the middle know nothing of it.
    own = next(
        between(scores, i, i + 1)
        for i in (1, len(scores) - 3)
        if ((scores >= trained) != (scores >= between(scores, i, i + 1))).any()
    )
    record = bundle.manifest.engine("openvino-fp32")
    record = dataclasses.replace(record, threshold=dataclasses.replace(record.threshold, value=own), history=())
    with closing(open_engine(bundle, record.name, 1)) as engine:
        assert prove(bundle, record, engine) == np.median(bundle.golden().reference.maps)


def test_a_label_that_flips_on_a_frame_that_was_asked_is_refused(bundle: Bundle) -> None:
    record = bundle.manifest.engine("openvino-fp32")
    scores = np.sort(bundle.golden().reference.scores)
    beyond = dataclasses.replace(record.threshold, value=float(scores[-1]) + 1.0)  # the most anomalous one would be OK
    record = dataclasses.replace(record, threshold=beyond, history=())
    with (
        closing(open_engine(bundle, record.name, 1)) as engine,
        pytest.raises(ParityFailed, match="does not answer"),
    ):
        prove(bundle, record, engine)
