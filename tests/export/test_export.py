"""A trained model becomes a bundle whose engines answer as it did, or no bundle at all."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgead.bundle import Bundle
from edgead.calibration.judging.deviation import Limits
from edgead.calibration.judging.guard import GuardOptions
from edgead.engines import open_engine
from edgead.engines.verify import verify_engine
from edgead.errors import BadInput, MissingExtra, ParityFailed, StorageError
from edgead.export import ExportOptions, export_bundle, measure, pipeline, workshop
from edgead.parity import Answers
from edgead.trained import load_model
from tests.bundles import FAMILIES, SIZES, Tiny, part

NAMES = ("openvino-fp32", "onnxruntime-fp32", "openvino-int8", "onnxruntime-int8")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_engine_answers_as_the_trained_model(family: str, tiny: Tiny) -> None:
    bundle = Bundle.open(tiny.bundle(family))
    detector = load_model(tiny.model(family))[0]
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
@pytest.mark.promise("No agreement, no engine")
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
    assert manifest.calibration["images"] == 8
    assert manifest.calibration["findings"][0]["severity"] == "warning"  # so few pictures
    assert len(manifest.calibration["digest"]) == 64
    assert manifest.engine("openvino-int8").built_with["weight_bits"] == "7"
    assert manifest.measured.frames == {"held_out": 6, "good": 6, "defect": 6}
    assert {"torch", "onnx", "openvino", "onnxruntime"} <= manifest.tools.keys()
    times = manifest.measured.choice.least_ms or {}
    assert 0.95 * times[manifest.default_engine] < min(times.values())  # of two that are nearly alike, the finer one
    assert json.loads(json.dumps(manifest.to_json()))


def strict(**more: object) -> ExportOptions:
    """ONNX Runtime INT8 that cannot be within its limits, with next to no search."""
    values = {"limits": Limits(1.0, 1.0, 0.0), "guard": GuardOptions(max_layers=1, sensitivity_s=1.0), "frames_per_class": 4}
    return ExportOptions(("onnxruntime",), ("int8",), allow_unsafe=True, threads=1, **{**values, **more})  # type: ignore[arg-type]


@pytest.mark.promise("No agreement, no engine")
def test_an_engine_that_breaks_a_limit_leaves_no_bundle_and_the_old_one(tiny: Tiny, tmp_path: Path) -> None:
    old = export_bundle(tiny.model(), tmp_path / "part.edgead", ExportOptions(("onnxruntime",), ("fp32",), threads=1))
    words = (
        r"onnxruntime-int8: score deviation 0\.\d+ \(allowed 0\); 1 of 22 layers tried in float, \d helped .*; no bundle written"
    )
    with pytest.raises(ParityFailed, match=words) as caught:
        export_bundle(tiny.model(), old.path, strict())
    assert "--precision fp32" in caught.value.hint
    assert "--max-score-deviation" in caught.value.hint
    assert Bundle.open(old.path).manifest == old.manifest
    assert [p.name for p in tmp_path.iterdir()] == ["part.edgead"]


@pytest.mark.promise("layers to blame go back to float")
def test_layers_that_the_guard_returns_are_float_in_the_bundle(tiny: Tiny, tmp_path: Path) -> None:
    wide = Bundle.open(tiny.bundle()).manifest.measured.guard[0]
    limit = 0.97 * wide.engines["onnxruntime-int8"].score_deviation
    options = strict(limits=Limits(1.0, 1.0, limit), guard=GuardOptions(sensitivity_s=1.0), frames_per_class=6)
    bundle = export_bundle(tiny.model(), tmp_path / "part.edgead", options)
    (told,) = bundle.manifest.measured.guard
    assert told.keep_float
    assert told.engines["onnxruntime-int8"].score_deviation <= limit
    model = onnx.load(bundle.path / "model.int8.onnx")
    float_nodes = {node.name: node for node in model.graph.node}
    assert all(not float_nodes[name].input[0].endswith(".q") for name in told.keep_float)
    assert verify_engine(bundle, "onnxruntime-int8", threads=1).passed


def test_without_labelled_defects_drawn_ones_guard(tiny: Tiny, tmp_path: Path) -> None:
    model = shutil.copytree(tiny.model(), tmp_path / "model")
    info = json.loads((model / "model.json").read_text())
    info["labelled_root"] = None
    (model / "model.json").write_text(json.dumps(info))
    bundle = export_bundle(model, tmp_path / "part.edgead", strict(limits=Limits(1.0, 1.0, 1e6), frames_per_class=6))
    measured = bundle.manifest.measured
    assert measured.frames == {"held_out": 6, "good": 0, "defect": 0, "drawn": 6}
    assert bundle.manifest.engine().auroc is None  # of real defects nothing is known
    assert measured.deviations["onnxruntime-int8"].auroc is not None
    assert measured.deviations["onnxruntime-int8"].frames == 12


def test_a_false_reject_rate_chooses_every_threshold(tiny: Tiny, tmp_path: Path) -> None:
    options = ExportOptions(("onnxruntime",), ("fp32",), max_false_reject=0.2, threads=1)
    manifest = export_bundle(tiny.model(), tmp_path / "part.edgead", options).manifest
    usual = json.loads((tiny.model() / "model.json").read_text())["threshold"]["value"]
    threshold = manifest.engine().threshold
    assert threshold.value < usual
    assert threshold.chosen is not None
    assert (threshold.chosen.max_false_reject, threshold.chosen.guaranteed) == (0.2, True)


def test_an_fp32_engine_that_is_off_fails(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "FP32_LIMIT", 0.0)
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
    model = shutil.copytree(tiny.model(), tmp_path / "model")
    info = json.loads((model / "model.json").read_text())
    info["threshold"] = {"value": 123.5, "method": "by hand"}
    (model / "model.json").write_text(json.dumps(info))
    bundle = export_bundle(model, tmp_path / "part.edgead", ExportOptions(("onnxruntime",), ("fp32",), threads=1))
    assert bundle.manifest.engine().threshold.value == 123.5
    assert bundle.manifest.measured.threshold is not None
    assert bundle.manifest.measured.threshold.method == "by hand"


@pytest.mark.parametrize(
    "values",
    [
        {"backends": ("abacus",)},
        {"backends": ()},
        {"precisions": ("fp8",)},
        {"precisions": ()},
        {"frames_per_class": 1},
        {"golden_count": 0},
        {"weight_bits": 4},
        {"observer": "entropy"},
        {"tool": "magic"},
        {"max_false_reject": 1.0},
    ],
)
def test_options_that_cannot_work_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        ExportOptions(**values)  # type: ignore[arg-type]


def test_a_precision_that_no_backend_has_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="onnxruntime cannot be built in fp16"):
        export_bundle(tiny.model(), tmp_path / "part.edgead", ExportOptions(("onnxruntime",), ("fp32", "fp16"), threads=1))
    assert not list(tmp_path.iterdir())


def test_a_target_that_cannot_be_written_is_a_storage_error(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        export_bundle(tiny.model(), tmp_path / "file" / "part.edgead", ExportOptions(("onnxruntime",), ("fp32",), threads=1))


def test_golden_frames_are_half_defects_spread_over_the_scores() -> None:
    frames = measure.Frames(*[(np.zeros((1, 1, 3), np.uint8),) * n for n in (6, 3, 6)])
    reference = Answers(np.arange(15, dtype=np.float32)[::-1].copy(), np.zeros((15, 1, 1), np.float32))
    chosen = measure.pick_golden(frames, reference, 4)
    assert chosen == [5, 0, 14, 9]
    assert measure.pick_golden(measure.Frames(frames.held_out, (), ()), reference, 4) == [5, 3, 2, 0]
    drawn = measure.Frames(frames.held_out, frames.good, (), frames.defect)
    assert measure.pick_golden(drawn, reference, 4) == chosen
