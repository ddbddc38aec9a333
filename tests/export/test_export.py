"""A trained model becomes a bundle whose engines answer as it did, or no bundle at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgead.bundle import Bundle
from edgead.engines import open_engine
from edgead.engines.verify import verify_engine
from edgead.errors import BadInput, MissingExtra, ParityFailed, StorageError
from edgead.export import ExportOptions, export_bundle, measure, pipeline
from edgead.models.detector import load_detector
from edgead.parity import Answers
from tests.bundles import FAMILIES, SIZES, Tiny, part

NAMES = ("openvino-fp32", "onnxruntime-fp32", "openvino-int8", "onnxruntime-int8")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_engine_answers_as_the_trained_model(family: str, tiny: Tiny) -> None:
    bundle = Bundle.open(tiny.bundle(family))
    detector = load_detector(tiny.model(family))[0]
    picture = part(777, SIZES[family], defect=True)  # not one of those that export has seen
    with torch.no_grad():
        anomaly_map, score = (output[0].numpy() for output in detector(torch.from_numpy(picture)[None]))
    span = float(np.ptp(bundle.golden().reference.maps))
    assert [record.name for record in bundle.manifest.engines] == list(NAMES)
    for name in NAMES:
        engine = open_engine(bundle, name, threads=1)
        told_score, told_map = engine.infer(picture)
        engine.close()
        limit = 1e-4 if name.endswith("fp32") else 0.3
        assert abs(told_score - float(score)) <= limit * span, name
        assert np.abs(told_map - anomaly_map).max() <= limit * span, name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bundle_proves_itself(family: str, tiny: Tiny) -> None:
    bundle = Bundle.open(tiny.bundle(family))
    for name in NAMES:
        assert verify_engine(bundle, name, threads=1).passed, name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_keeps_the_contract(family: str, tiny: Tiny) -> None:
    bundle = Bundle.open(tiny.bundle(family))
    size = SIZES[family]
    for name in ("model.onnx", "model.int8.onnx"):
        model = onnx.load(bundle.path / name)
        ends = {v.name: (v.type.tensor_type.elem_type, [d.dim_value for d in v.type.tensor_type.shape.dim]) for v in
                (*model.graph.input, *model.graph.output)}  # fmt: skip
        assert ends == {"image": (2, [1, size, size, 3]), "anomaly_map": (1, [1, size, size]), "score": (1, [1])}
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert str(Path(__file__).parents[2]) not in str(model)  # nothing tells where it was made


def test_the_manifest_tells_how_it_was_made(tiny: Tiny) -> None:
    manifest = Bundle.open(tiny.bundle()).manifest
    assert (manifest.family, manifest.golden) == ("patchcore", 8)
    assert manifest.calibration is not None
    assert manifest.calibration["images"] == 4
    assert len(manifest.calibration["digest"]) == 64
    assert manifest.engine("openvino-int8").built_with["weight_bits"] == "7"
    assert manifest.measured["frames"] == {"held_out": 6, "good": 6, "defect": 6}
    assert {"torch", "onnx", "openvino", "onnxruntime"} <= manifest.tools.keys()
    assert manifest.default_engine == min(manifest.measured["latency_ms"], key=manifest.measured["latency_ms"].get)
    assert json.loads(json.dumps(manifest.to_json()))


def test_an_engine_that_breaks_a_limit_leaves_no_bundle_and_the_old_one(tiny: Tiny, tmp_path: Path) -> None:
    old = export_bundle(tiny.model(), tmp_path / "part.edgead", ExportOptions(("onnxruntime",), ("fp32",), threads=1))
    strict = ExportOptions(("onnxruntime",), ("int8",), max_auroc_drop=-1.0, frames_per_class=4, threads=1)
    with pytest.raises(ParityFailed, match=r"onnxruntime-int8 flips \d+ of 12 labels \(allowed 1\), AUROC ") as caught:
        export_bundle(tiny.model(), old.path, strict)
    assert "--precision fp32" in caught.value.hint
    assert Bundle.open(old.path).manifest == old.manifest
    assert [p.name for p in tmp_path.iterdir()] == ["part.edgead"]


def test_an_fp32_engine_that_is_off_fails(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "FP32_LIMIT", 0.0)
    with pytest.raises(ParityFailed, match="onnxruntime-fp32 is off by"):
        export_bundle(tiny.model(), tmp_path / "part.edgead", ExportOptions(("onnxruntime",), ("fp32",), threads=1))
    assert not list(tmp_path.iterdir())


def test_one_installed_backend_is_enough(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "installed_backends", lambda: ("onnxruntime",))
    bundle = export_bundle(tiny.model(), tmp_path / "part.edgead", ExportOptions(precisions=("fp32",), threads=1))
    assert [record.name for record in bundle.manifest.engines] == ["onnxruntime-fp32"]


def test_a_backend_that_was_asked_for_must_be_there(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match="openvino"):
        export_bundle(tiny.model(), tmp_path / "part.edgead", ExportOptions(("openvino",), threads=1))
    assert not list(tmp_path.iterdir())


def test_a_threshold_set_by_hand_stays(tiny: Tiny, tmp_path: Path) -> None:
    import shutil

    model = shutil.copytree(tiny.model(), tmp_path / "model")
    info = json.loads((model / "model.json").read_text())
    info["threshold"] = {"value": 123.5, "method": "by hand"}
    (model / "model.json").write_text(json.dumps(info))
    bundle = export_bundle(model, tmp_path / "part.edgead", ExportOptions(("onnxruntime",), ("fp32",), threads=1))
    assert bundle.manifest.engine().threshold.value == 123.5
    assert bundle.manifest.measured["threshold"]["method"] == "by hand"


@pytest.mark.parametrize(
    "values",
    [{"backends": ("tensorrt",)}, {"precisions": ("fp8",)}, {"precisions": ()}, {"frames_per_class": 1}, {"golden_count": 0}],
)
def test_options_that_cannot_work_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        ExportOptions(**values)  # type: ignore[arg-type]


def test_a_target_that_cannot_be_written_is_a_storage_error(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        export_bundle(tiny.model(), tmp_path / "file" / "part.edgead", ExportOptions(("onnxruntime",), ("fp32",), threads=1))


def test_auroc_counts_ties_half() -> None:
    good, defect = np.array([0.0, 1.0, 1.0], np.float32), np.array([1.0, 2.0], np.float32)
    assert measure.auroc(good, defect) == pytest.approx((1 + 0.5 + 0.5 + 3) / 6)
    assert measure.auroc(good, defect[:0]) is None


def test_golden_frames_are_half_defects_spread_over_the_scores() -> None:
    frames = measure.Frames(*[(np.zeros((1, 1, 3), np.uint8),) * n for n in (6, 3, 6)])
    reference = Answers(np.arange(15, dtype=np.float32)[::-1].copy(), np.zeros((15, 1, 1), np.float32))
    chosen = measure.pick_golden(frames, reference, 4)
    assert chosen == [5, 0, 14, 9]
    assert measure.pick_golden(measure.Frames(frames.held_out, (), ()), reference, 4) == [5, 3, 2, 0]
