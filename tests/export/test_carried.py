"""The threshold that training chose from all good pictures lies, for each engine, where it says what the trained model says."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.cli._thresholds import facts
from edgead.errors import BadInput
from edgead.export.measure import NEAREST, ThresholdRule, carried
from edgead.export.pipeline import ExportOptions, export_bundle
from edgead.manifest import Origin, Threshold
from edgead.preprocess import PreprocessRecipe
from edgead.trained import CrossFitted, ModelCard
from edgead.training.fit import TrainRequest, train
from tests.training._parts import draw_part, write_good

REFERENCE = np.linspace(0, 10, 80, dtype=np.float32)
CROSSFIT = CrossFitted("leave-one-out", 5, tuple(float(i) for i in range(80)), (), ())


def card(value: float, crossfit: CrossFitted | None = CROSSFIT) -> ModelCard:
    return ModelCard(
        family="f", config={}, image_size=(16, 16), name="n", preprocess=PreprocessRecipe(16, 16),
        threshold=Threshold(value, "m"), origin=Origin(), crossfit=crossfit,
    )  # fmt: skip


def test_an_engine_that_answers_as_the_model_does_gets_its_threshold() -> None:
    assert carried(7.5, REFERENCE, REFERENCE) == 7.5


def test_one_that_says_something_else_gets_what_it_says_there() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, len(REFERENCE)).astype(np.float32)
    bent = REFERENCE * np.float32(0.9) + np.float32(0.4) + noise
    assert carried(7.5, REFERENCE, bent) == pytest.approx(0.9 * 7.5 + 0.4, abs=0.03)
    bent[np.argmin(np.abs(REFERENCE - 7.5))] += 5  # one frame that is answered otherwise moves nothing
    assert carried(7.5, REFERENCE, bent) == pytest.approx(0.9 * 7.5 + 0.4, abs=0.03)
    assert NEAREST % 2 == 1


def test_engines_follow_the_threshold_of_training_and_the_rate_that_is_asked_for() -> None:
    automatic = ThresholdRule.of(card(76.0), REFERENCE, 5, None)
    assert automatic.trained.value == pytest.approx(76.0, abs=1e-3) and automatic.trained.chosen is not None
    assert (automatic.trained.chosen.good, automatic.trained.chosen.crossfit) == (80, "leave-one-out")
    own = automatic.own(REFERENCE + np.float32(1))
    assert own.value == pytest.approx(77.0, abs=1e-3) and own.method.endswith("where this engine says the same")
    assert automatic.without_largest() == pytest.approx(76.0, abs=1e-3)
    asked = ThresholdRule.of(card(76.0), REFERENCE, 5, 0.25)
    assert asked.trained.value == pytest.approx(60.0, abs=1e-3)
    by_hand = ThresholdRule.of(card(5.0), REFERENCE, 5, None)
    assert by_hand.own(REFERENCE + np.float32(1)).value == 5.0
    assert by_hand.without_largest() is None
    before = ThresholdRule.of(card(1.0, None), REFERENCE, 20, 0.05)  # a model of before
    assert before.trained.chosen is not None and (before.trained.chosen.good, before.trained.chosen.crossfit) == (20, "")
    assert before.own(REFERENCE * 2).value == pytest.approx(2 * before.trained.value)


def test_a_bundle_says_what_its_threshold_comes_from(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 23)
    cv2.imwrite(str(folder / "odd.png"), draw_part(3000, defect=True))
    result = train(TrainRequest("patchcore", folder, tmp_path / "model", PreprocessRecipe(64, 64), {"coreset": 100}))
    options = ExportOptions(("onnxruntime",), ("fp32",), threads=1)
    bundle = export_bundle(tmp_path / "model", tmp_path / "part.edgead", options)
    threshold = bundle.manifest.engine().threshold
    assert threshold.value == pytest.approx(result.threshold.value, rel=1e-5)
    assert threshold.chosen is not None
    assert (threshold.chosen.good, threshold.chosen.crossfit, threshold.chosen.guaranteed) == (24, "leave-one-out", False)
    assert "leave-one-out score 23 of 24 good pictures" in facts(threshold)
    assert "good parts NG: 8 % expected, no guarantee (leave-one-out)" in facts(threshold)
    said = [noticed.message for noticed in bundle.manifest.measured.judgement]  # `edgead inspect` tells them
    assert [line for line in said if "a score that chance does not explain: odd.png" in line]

    file = tmp_path / "model/model.json"
    spoilt = json.loads(file.read_text())
    spoilt["crossfit"]["scores"] = ["many"]
    file.write_text(json.dumps(spoilt))
    with pytest.raises(BadInput, match=r"crossfit\.scores"):
        export_bundle(tmp_path / "model", tmp_path / "other.edgead", options)
