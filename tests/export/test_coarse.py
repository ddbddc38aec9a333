"""A coarse-to-fine model as one bundle."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.calibration.judging.deviation import Limits
from edgead.cli.main import main
from edgead.engines import open_engine
from edgead.engines.coarse import SUFFIX, CoarseToFineEngine
from edgead.errors import BadInput, EngineError
from edgead.export import ExportOptions, export_bundle
from edgead.preprocess import list_images, read_image
from edgead.trained import load_model
from edgead.training.fit import TrainRequest, train
from edgead.training.tiles import Tiling
from tests.models._tiled import ask
from tests.training.test_tiles import FEW, RECIPE, write_sheet_set

WIDE = Limits(max_flips=1.0, max_auroc_drop=1.0, max_score_deviation=1e6)
OPTIONS = ExportOptions(
    backends=("openvino", "onnxruntime"), limits=WIDE, frames_per_class=4, calibration_count=8, allow_unsafe=True, threads=1
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """Model folder and bundle of drawn sheets."""
    folder = tmp_path_factory.mktemp("coarse")
    root = write_sheet_set(folder / "sheets")
    train(TrainRequest("patchcore", root, folder / "model", RECIPE, FEW, heldout=0.3, tiling=Tiling(64, 64, 16, 2)))
    return folder / "model", export_bundle(folder / "model", folder / "sheets.edgead", OPTIONS)


def test_each_engine_answers_as_the_trained_model(made: tuple[Path, Bundle]) -> None:
    model, bundle = made
    detector, card = load_model(model)
    pictures = [
        read_image(file) for kind in ("good", "gash") for file in list_images(Path(card.labelled_root or "") / "test" / kind)
    ]
    maps, scores = ask(detector, *pictures)
    span = np.ptp(maps)
    runs = set()
    for record in bundle.manifest.engines:
        assert record.file.endswith(SUFFIX)
        limit = 1e-4 if record.precision == "fp32" else 0.15
        engine = open_engine(bundle, record.name, threads=1, keep=False)
        assert isinstance(engine, CoarseToFineEngine)
        for picture, anomaly_map, score in zip(pictures, maps, scores, strict=True):
            told, told_map = engine.infer(picture)
            assert abs(told - score) < limit * span
            assert np.abs(told_map - anomaly_map).max() < limit * span
            runs.add(engine.tiles_run)
        engine.close()
    assert {record.precision for record in bundle.manifest.engines} == {"fp32", "int8"}
    assert min(runs) < 6


def test_verify_and_a_second_opening_measure_the_same(made: tuple[Path, Bundle], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(made[1].path), "--engine", "openvino-int8"]) == 0
    assert "same answer" in capsys.readouterr().out


def test_a_part_that_the_manifest_does_not_vouch_for_is_refused(made: tuple[Path, Bundle]) -> None:
    bundle = Bundle.open(made[1].path)
    del bundle.manifest.files["openvino/coarse.xml"]
    with pytest.raises(EngineError, match=r"no file openvino/coarse.xml"):
        open_engine(bundle, "openvino-fp32", threads=1, keep=False)


def test_the_whole_model_is_there_as_one_graph_too(made: tuple[Path, Bundle]) -> None:
    from edgead.engines.onnxruntime import OnnxRuntimeEngine

    model, bundle = made
    picture = read_image(list_images(model / "heldout")[0])
    (anomaly_map,), (score,) = ask(load_model(model)[0], picture)
    engine = OnnxRuntimeEngine(bundle.path / "model.onnx", threads=1)
    told, told_map = engine.infer(picture)
    engine.close()
    assert abs(told - score) < 1e-4 * np.ptp(anomaly_map)
    assert np.abs(told_map - anomaly_map).max() < 1e-4 * np.ptp(anomaly_map)


def test_nncf_is_refused(made: tuple[Path, Bundle], tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    options = ExportOptions(backends=("openvino",), precisions=("int8",), tool="nncf", limits=WIDE, allow_unsafe=True)
    with pytest.raises(BadInput, match="NNCF does not quantise"):
        export_bundle(made[0], tmp_path / "x.edgead", options)
    assert not (tmp_path / "x.edgead").exists()


def test_the_manifest_tells_what_it_is(made: tuple[Path, Bundle]) -> None:
    manifest = json.loads((made[1].path / "manifest.json").read_text())
    assert manifest["model"]["tiles"] == {"size": [64, 64], "overlap": 16}
    assert manifest["model"]["coarse"]["factor"] == 2
    assert set(manifest["measured"]["latency_ms"]) == {record.name for record in made[1].manifest.engines}
