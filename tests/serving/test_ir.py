"""The IR that takes the camera's picture: the recipe in it exactly, the engine's labels and scores, and what it cannot hold."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgead
from edgead.bundle import Bundle, EngineRecord
from edgead.cli.main import main
from edgead.decision import PixelRule
from edgead.engines.camera_graph import EXACT, camera_labels, write_camera_ir
from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe
from edgead.serving.files import Request, write_files
from edgead.serving.ir import camera_graph
from tests.bundles import Tiny, part
from tests.cli.test_run import write_bundle

ov: Any = pytest.importorskip("openvino", reason="pip install 'edgead[openvino]'")
op: Any = pytest.importorskip("openvino.opset13")
SIDE = 32


def inner(folder: Path, *, broken_where_black: bool = False) -> Path:
    """An engine whose map is the green channel and whose score is its largest value; of a black picture it tells NaN."""
    image = op.parameter([1, SIDE, SIDE, 3], np.uint8, name="image")
    image.output(0).set_names({"image"})
    green = op.squeeze(
        op.slice(op.convert(image, np.float32), np.array([1]), np.array([2]), np.array([1]), np.array([3])), np.array([3])
    )
    score = op.reduce_max(green, np.array([1, 2]), False)
    if broken_where_black:
        score = op.divide(op.multiply(score, score), score)
    results = [op.result(green), op.result(score)]
    for name, result in zip(("anomaly_map", "score"), results, strict=True):
        result.output(0).set_names({name})
    ov.save_model(ov.Model(results, [image]), folder / "inner.xml", compress_to_fp16=False)
    return folder / "inner.xml"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_bundle(tmp_path_factory.mktemp("ir") / "part.edgead"))


def of(written: Bundle, recipe: PreprocessRecipe, **changes: Any) -> tuple[Bundle, EngineRecord]:
    """A bundle with this recipe, and an OpenVINO engine that decides at 255."""
    (record,) = written.manifest.engines
    threshold = dataclasses.replace(record.threshold, value=255.0, **changes)
    record = dataclasses.replace(record, name="openvino-fp32", backend="openvino", file="openvino/fp32.xml", threshold=threshold)
    return Bundle(written.path, dataclasses.replace(written.manifest, preprocess=recipe, engines=(record,))), record


@pytest.mark.parametrize(
    "recipe",
    [
        PreprocessRecipe(SIDE, SIDE),
        PreprocessRecipe(SIDE, SIDE, resize="linear"),
        PreprocessRecipe(SIDE, SIDE, aspect="letterbox"),
        PreprocessRecipe(SIDE, SIDE, aspect="crop"),
        PreprocessRecipe(SIDE, SIDE, roi=(13, 21, 101, 57)),
        PreprocessRecipe(SIDE, SIDE, roi=(3, 1, 20, 90), aspect="letterbox"),
        PreprocessRecipe(SIDE, SIDE, roi=(0, 0, SIDE, SIDE)),
    ],
    ids=lambda recipe: str(recipe.to_json()),
)
@pytest.mark.parametrize("frame", [(160, 120), (128, 128), (331, 277)], ids=str)
def test_the_graph_computes_the_recipe_to_the_last_grey_level(
    recipe: PreprocessRecipe, frame: tuple[int, int], written: Bundle, tmp_path: Path
) -> None:
    write_camera_ir(inner(tmp_path), tmp_path / "model.xml", camera_graph(*of(written, recipe), frame))
    picture = np.random.default_rng(1).integers(0, 255, (frame[1], frame[0], 3), np.uint8)
    found = ov.Core().compile_model(tmp_path / "model.xml", "CPU", EXACT)(picture[None])
    green = recipe.apply(picture)[..., 1]
    assert np.array_equal(np.rint(found["anomaly_map"][0, 0] * 510.0), green)
    assert found["score"][0] == green.max() and found["threshold"][0] == 255.0


def test_the_label_turns_at_the_threshold_and_what_is_no_number_is_an_anomaly(written: Bundle, tmp_path: Path) -> None:
    recipe = PreprocessRecipe(SIDE, SIDE)
    graph = dataclasses.replace(camera_graph(*of(written, recipe), (SIDE, SIDE)), threshold=200.0)
    write_camera_ir(inner(tmp_path, broken_where_black=True), tmp_path / "model.xml", graph)
    pictures = [np.full((SIDE, SIDE, 3), grey, np.uint8) for grey in (199, 200, 201, 1, 0)]
    found = camera_labels(tmp_path / "model.xml", pictures)
    assert [anomaly for anomaly, _ in found] == [False, True, True, False, True]
    assert [score > 0.5 for _, score in found] == [False, True, True, False, True]  # as Model API decides


@pytest.mark.parametrize(
    ("recipe", "changes", "says"),
    [
        (PreprocessRecipe(SIDE, SIDE, resize="area"), {}, "the resize rule 'area'"),
        (PreprocessRecipe(SIDE, SIDE, resize="antialias"), {}, "the resize rule 'antialias'"),
        (PreprocessRecipe(SIDE, SIDE, crop_from=(64, 64)), {}, "cuts its input from a resized picture"),
        (PreprocessRecipe(SIDE, SIDE), {"pixel": PixelRule(255.0), "by": "area"}, "a rule by area or with regions"),
        (PreprocessRecipe(SIDE, SIDE), {"unknown_band": (200.0, 260.0)}, "an UNKNOWN band"),
        (PreprocessRecipe(SIDE, SIDE, roi=(0, 0, 200, 200)), {}, "does not fit a picture of 128 x 128 px"),
    ],
)
def test_what_the_graph_cannot_hold_is_refused_by_name(
    recipe: PreprocessRecipe, changes: dict[str, Any], says: str, written: Bundle
) -> None:
    with pytest.raises(BadInput, match=says) as told:
        camera_graph(*of(written, recipe, **changes), (128, 128))
    assert told.value.hint


def test_the_size_of_the_pictures_is_asked_for_where_the_bundle_does_not_say_it(written: Bundle) -> None:
    with pytest.raises(BadInput, match="how large the camera's pictures are"):
        camera_graph(*of(written, PreprocessRecipe(SIDE, SIDE)), None)
    assert camera_graph(*of(written, PreprocessRecipe(SIDE, SIDE, pictures=(64, 48))), None).frame == (64, 48)
    with pytest.raises(BadInput, match="is no OpenVINO IR"):
        camera_graph(written, written.manifest.engines[0], (64, 64))


@pytest.fixture(scope="module")
def repository(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openvino")
    write_files(Request(tiny.bundle(), "openvino", folder, "part", engine="openvino-fp32", frame=(96, 80)))
    return folder / "part"


PICTURES = [part(seed, 96, defect=seed % 2 == 0)[:80] for seed in range(900, 912)]


def test_labels_and_scores_are_those_of_the_engine(repository: Path, tiny: Tiny) -> None:
    with edgead.open(tiny.bundle(), "openvino-fp32", threads=1) as judge:
        expected = [judge(picture) for picture in PICTURES]
    found = camera_labels(repository / "1/model.xml", PICTURES)
    assert ["NG" if anomaly else "OK" for anomaly, _ in found] == [one.verdict.value for one in expected]
    scores = [np.clip(0.5 + (one.score - one.threshold) / (2 * abs(one.threshold)), 0, 1) for one in expected]
    assert np.allclose([score for _, score in found], scores, atol=1e-4)


@pytest.mark.skipif(
    importlib.util.find_spec("model_api") is None, reason="pip install openvino-model-api (by hand: docs/serve.md)"
)
def test_model_api_gives_the_same_labels(repository: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")  # it imports onnxruntime, whose telemetry keeps a database open
    from model_api.adapters import OpenvinoAdapter, create_core
    from model_api.models import Model

    plugin = {key: str(value) for key, value in EXACT.items()}
    model = Model.create_model(OpenvinoAdapter(create_core(), str(repository / "1/model.xml"), plugin_config=plugin))
    with edgead.open(tiny.bundle(), "openvino-fp32", threads=1) as judge:
        expected = [{"NG": "Anomaly", "OK": "Normal"}[judge(picture).verdict.value] for picture in PICTURES]
    assert [model(picture).pred_label for picture in PICTURES] == expected


def test_the_ir_says_to_model_api_and_model_server_how_it_is_run(repository: Path) -> None:
    model = ov.Core().read_model(repository / "1/model.xml")
    told = {name: model.get_rt_info(["model_info", name]).astype(str) for name in ("model_type", "labels", "embedded_processing")}
    assert told == {"model_type": "AnomalyDetection", "labels": "Normal Anomaly", "embedded_processing": "True"}
    assert list(model.inputs[0].get_shape()) == [1, 80, 96, 3]
    assert '"INFERENCE_PRECISION_HINT": "f32"' in (repository / "config.json").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--for", "triton", "--frame", "96x80"), "--frame: for openvino only"),
        (("--for", "openvino", "--frame", "96x80", "--threads", "1"), "--threads: not for openvino"),
    ],
)
def test_what_does_not_apply_is_refused(
    words: tuple[str, ...], says: str, written: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve-files", str(written.path), "-o", str(tmp_path), *words]) == 2
    assert says in capsys.readouterr().err
