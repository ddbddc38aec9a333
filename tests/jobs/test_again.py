"""The same model at another input size; the same engines as in a bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgead.bundle import Bundle
from edgead.errors import BadInput
from edgead.export import ExportOptions
from edgead.jobs.again import options_like, retrainer
from edgead.preprocess import PreprocessRecipe
from edgead.training.fit import TrainRequest, train
from tests.bundles import Tiny, write_parts


def test_a_model_is_trained_again_only_on_its_own_pictures(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", range(8), 64)
    options = {"layers": ("blocks.4", "blocks.10"), "coreset": 16.0}
    train(TrainRequest("patchcore", tmp_path / "good", tmp_path / "model", PreprocessRecipe(96, 96), options))
    retrain, why_not = retrainer(tmp_path / "model")
    assert retrain is not None
    assert not why_not
    retrain((64, 64), tmp_path / "again", lambda: False)
    one, other = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("model", "again"))
    assert other["image_size"] == [64, 64]
    assert other["config"] == one["config"]
    assert other["origin"]["arguments"] == one["origin"]["arguments"]

    with pytest.raises(BadInput, match="longer than the search may"):
        retrain((64, 64), tmp_path / "late", lambda: True)
    (tmp_path / "good/0000.png").unlink()
    changed, _ = retrainer(tmp_path / "model")
    assert changed is not None
    with pytest.raises(BadInput, match="are not those that the model was trained on"):
        changed((64, 64), tmp_path / "never", lambda: False)
    shutil.rmtree(tmp_path / "good")
    assert retrainer(tmp_path / "model") == (
        None,
        f"the pictures that it was trained on are not at {tmp_path / 'good'} any more",
    )
    assert not (tmp_path / "late").exists()
    assert not (tmp_path / "never").exists()


def test_an_imported_model_is_not_trained_again(tiny: Tiny) -> None:
    assert retrainer(tiny.model()) == (None, "this model was not trained by edgead train")


def test_like_takes_bundles_that_were_exported_without_a_search(tiny: Tiny) -> None:
    options = options_like(Bundle.open(tiny.bundle()), ExportOptions())
    assert options.backends == ("openvino", "onnxruntime")
    assert options.precisions == ("fp32", "int8")
    assert options.weight_bits == 7
    assert options.limits.max_flips == 1.0
    assert dict(options.rewrites) == {}
