"""Every kind of file, with and without pictures, to every engine of it: the whole way of `edgead export FILE`, on tiny files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.engines.timing import LatencyStats, interleaved
from edgead.families.efficientad.network import EfficientAd
from edgead.types import Engine, Image
from tests.export._once import writing_once
from tests.importers import _reference as reference
from tests.importers.test_anomalib import _patchcore_checkpoint, _preprocessing, supersimplenet_checkpoint
from tests.importers.test_draem import checkpoint as draem_checkpoint
from tests.importers.test_draem import weights as draem_weights
from tests.importers.test_graph import write_ir
from tests.importers.test_originals import autoencoder, patchcore_folder, pdn_small
from tests.importers.test_recipes import _lay_out

SIDE = 64
LOOSE = ["--max-flips", "1", "--max-score-deviation", "1000", "--max-auroc-drop", "1", "--allow-unsafe-calibration"]
"""Random weights: this is about what is built, other tests are about how well it answers."""


def _patchcore(folder: Path) -> Path:
    _patchcore_checkpoint(folder / "m.ckpt", anomalib_pre_processor_config=_preprocessing(("Resize", {"size": [SIDE, SIDE]})))
    return folder / "m.ckpt"


def _stepwise(folder: Path) -> Path:
    steps = [("CenterCrop", {"size": 56}), ("Resize", {"size": [SIDE, SIDE]}), ("Normalize", {"mean": [0.5], "std": [0.5]})]
    _patchcore_checkpoint(folder / "m.ckpt", anomalib_pre_processor_config=_preprocessing(*steps))
    return folder / "m.ckpt"


def _supersimplenet(folder: Path) -> Path:
    supersimplenet_checkpoint(folder / "m.ckpt")
    return folder / "m.ckpt"


def _draem(folder: Path) -> Path:
    draem_checkpoint(folder / "m.ckpt", draem_weights(), ("Resize", {"size": [SIDE, SIDE], "antialias": True}))
    return folder / "m.ckpt"


def _efficientad(folder: Path) -> Path:
    torch.manual_seed(0)
    state = {f"model.{k}": v for k, v in EfficientAd({"size": "small", "last_kernel": 4}, (128, 128)).state_dict().items()}
    torch.save(
        {"state_dict": state, "anomalib_pre_processor_config": _preprocessing(("Resize", {"size": [128, 128]}))},
        folder / "m.ckpt",
    )
    return folder / "m.ckpt"


def _patchcore_folder(folder: Path) -> Path:
    torch.save(reference.resnet18_state(), folder / "resnet18.pth")
    patchcore_folder(folder / "model")
    return folder / "model"


def _simplenet(folder: Path) -> Path:
    (folder / "files").mkdir()
    _lay_out("simplenet", folder / "files")
    return (folder / "files/ckpt.pth").rename(folder / "ckpt.pth")


def _modules(folder: Path) -> Path:
    (folder / "model").mkdir()
    for name, module in (("teacher", pdn_small(384)), ("student", pdn_small(768)), ("autoencoder", autoencoder())):
        torch.save(module, folder / f"model/{name}_final.pth")
    return folder / "model"


def _onnx(folder: Path) -> Path:
    """Three convolutions, the first and the last of which INT8 leaves alone."""
    rng = np.random.default_rng(0)
    shapes = ((16, 3, 5, 5), (16, 16, 3, 3), (1, 16, 3, 3))
    weights = [numpy_helper.from_array(rng.normal(0, 0.1, shape).astype(np.float32), f"w{i}") for i, shape in enumerate(shapes)]
    node = helper.make_node
    nodes = [
        node("Conv", ["picture", "w0"], ["a"], pads=[2] * 4), node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "w1"], ["c"], pads=[1] * 4), node("Relu", ["c"], ["d"]),
        node("Conv", ["d", "w2"], ["e"], pads=[1] * 4), node("Abs", ["e"], ["heat"]), node("GlobalMaxPool", ["heat"], ["worst"]),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    outputs = [value(name, TensorProto.FLOAT, None) for name in ("heat", "worst")]
    graph = helper.make_graph(nodes, "g", [value("picture", TensorProto.FLOAT, [1, 3, SIDE, SIDE])], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


def _ir(folder: Path) -> Path:
    return write_ir(_onnx(folder))


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of file is made, what its import must be told, and what can be built of it with pictures, and without."""

    make: Callable[[Path], Path]
    options: tuple[str, ...] = ()
    with_pictures: tuple[str, ...] = ("onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", "openvino-int8")
    without: tuple[str, ...] = ("onnxruntime-fp32", "openvino-fp32")


WEIGHTS = ("--weights", "{folder}/resnet18.pth")
PORTS = ("--score", "worst", "--map", "heat")
KINDS = {
    "anomalib Patchcore": Kind(_patchcore),
    "anomalib Patchcore, steps": Kind(_stepwise),
    "anomalib Supersimplenet": Kind(_supersimplenet),
    "anomalib Draem": Kind(_draem),
    "anomalib EfficientAd": Kind(_efficientad),
    "patchcore-inspection": Kind(_patchcore_folder, WEIGHTS),
    "SimpleNet": Kind(
        _simplenet,
        ("--weights", "{folder}/files/resnet18.pth", "--backbone", "resnet18", "--layers", "layer2,layer3", "--size", str(SIDE)),
    ),
    "EfficientAD modules": Kind(_modules, with_pictures=("onnxruntime-fp32",), without=()),  # 256 px: slow
    "ONNX": Kind(_onnx, PORTS),
    "OpenVINO IR": Kind(_ir, PORTS, ("openvino-fp32",), ("openvino-fp32",)),
}


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Half of the time went into graphs that were written before (with pictures and without, they are the same) and a third into
    timing engines by the hundred: each is written and timed once. All cells stay."""

    def once(engines: Mapping[str, Engine], image: Image) -> dict[str, LatencyStats]:
        return interleaved({name: partial(engine.infer, image) for name, engine in engines.items()}, rounds=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgead.export.workshop.write_onnx", writing_once(tmp_path_factory.mktemp("graphs")))
        patch.setattr("edgead.export.pipeline.in_bursts", once)
        yield


def _good(folder: Path, count: int = 8) -> Path:
    folder.mkdir()
    for i, image in enumerate(reference.pictures(count, SIDE)):
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return folder


def _export(kind: Kind, folder: Path, names: tuple[str, ...], *more: str) -> Bundle:
    source = kind.make(folder)
    backends, precisions = (",".join(sorted({name.split("-")[part] for name in names})) for part in (0, 1))
    told = [text.format(folder=folder) for text in kind.options]
    line = ["export", str(source), "-o", str(folder / "out.edgead"), "--threads", "1", "--frames", "2", "--threshold", "2.5"]
    loose = [] if precisions == "fp32" else LOOSE
    assert main([*line, *told, "--backend", backends, "--precision", precisions, *loose, *more]) == 0
    return Bundle.open(folder / "out.edgead")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_exports_with_good_pictures(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    bundle = _export(kind, tmp_path, kind.with_pictures, "--images", str(_good(tmp_path / "good")))
    assert tuple(sorted(record.name for record in bundle.manifest.engines)) == kind.with_pictures
    assert all(record.threshold.value == 2.5 for record in bundle.manifest.engines)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.without])
def test_every_kind_of_file_exports_in_fp32_without_pictures(name: str, tmp_path: Path) -> None:
    """EfficientAD's exact rewrites look at pictures: generated ones do, when there are no others."""
    kind = KINDS[name]
    bundle = _export(kind, tmp_path, kind.without)
    assert tuple(sorted(record.name for record in bundle.manifest.engines)) == kind.without


def test_modules_without_pictures_say_what_they_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(_modules(tmp_path)), "-o", str(tmp_path / "out.edgead")]) == 2
    assert "--images" in capsys.readouterr().err


def test_calibration_pictures_alone_serve_as_the_parts_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Generated pictures are another product to them: nothing is judged against those."""
    good = _good(tmp_path / "good", 24)
    source, told = str(_onnx(tmp_path)), [*PORTS, "--threshold", "0.5"]
    line = ["export", source, "-o", str(tmp_path / "one.edgead"), "--backend", "onnxruntime", "--threads", "1"]
    assert main([*line, *told, "--calibration", str(good), "--max-flips", "1"]) == 0
    manifest = Bundle.open(tmp_path / "one.edgead").manifest
    assert manifest.origin.data is not None and manifest.origin.data.images == 24
    assert {record.name for record in manifest.engines} == {"onnxruntime-fp32", "onnxruntime-int8"}
    assert main(["import", source, *told, "-o", str(tmp_path / "model")]) == 0  # the same in two steps
    line = ["export", str(tmp_path / "model"), "-o", str(tmp_path / "two.edgead"), "--backend", "onnxruntime", "--threads", "1"]
    assert main([*line, "--calibration", str(good), "--max-flips", "1"]) == 0
    again = Bundle.open(tmp_path / "two.edgead").manifest
    assert again.origin.data == manifest.origin.data
    assert "another product" not in capsys.readouterr().err
    assert main([*line[:3], str(tmp_path / "three.edgead"), *line[4:]]) == 0
    assert [record.name for record in Bundle.open(tmp_path / "three.edgead").manifest.engines] == ["onnxruntime-fp32"]
    assert "INT8 left out" in capsys.readouterr().out


def test_int8_without_pictures_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["export", str(_patchcore(tmp_path)), "-o", str(tmp_path / "out.edgead"), "--precision", "int8"]
    assert main(line) == 2
    assert "INT8 needs good pictures" in capsys.readouterr().err


def test_the_bundle_of_followed_steps_answers_a_camera_picture_as_the_model_does(tmp_path: Path) -> None:
    """The recipe's crop and the graph's resize, in the engine that the line runs."""
    from edgead.engines.onnxruntime import OnnxRuntimeEngine
    from edgead.importers import import_model

    bundle = _export(KINDS["anomalib Patchcore, steps"], tmp_path, ("onnxruntime-fp32",))
    imported = import_model(tmp_path / "m.ckpt")
    picture = np.ascontiguousarray(reference.pictures(1, 120)[0][:80])
    engine = OnnxRuntimeEngine(bundle.path / bundle.manifest.engines[0].file, threads=1)
    try:
        score, _ = engine.infer(bundle.manifest.preprocess.apply(picture))
    finally:
        engine.close()
    with torch.inference_mode():
        wanted = imported.detector(torch.from_numpy(imported.recipe.apply(picture))[None])[1]
    assert score == pytest.approx(float(wanted[0]), rel=1e-4)
