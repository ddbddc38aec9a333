"""Compressed banks in exported graphs: few bytes on the disk, the same answers on every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch

from benchmarks.coreset import bank_bytes, stored_bytes
from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.targets import target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine, write_ir
from edgead.export.graph import write_onnx
from edgead.export.tensorrt import BuildOptions, build_engine
from edgead.families.contract import FitData
from edgead.families.patchcore.fit import fit
from edgead.families.patchcore.network import PatchCore
from edgead.families.patchcore.options import PatchCoreOptions
from edgead.families.rewriting import parse, plan_for, rewrite
from edgead.models.rewrites import Material
from edgead.models.wrappers.resized import Resized
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.cameras.conveyor import draw_part

SIZE = (96, 96)
PICTURES = [draw_part(np.random.default_rng(seed), size=SIZE)[0] for seed in range(8)]
ROWS, DIMS = 100, 64


@pytest.fixture(scope="module")
def trained() -> PatchCore:
    return fit(FitData(PICTURES, SIZE), PatchCoreOptions(coreset=300))


def compressed(trained: Any, *texts: str) -> Any:
    pictures = [cv2.resize(picture, trained.image_size[::-1]).astype(np.uint8) for picture in PICTURES[:2]]
    return rewrite(trained, plan_for("patchcore", parse([f"rows={ROWS}", *texts])), Material.of(pictures))[0]


def bank_tensors(graph: Path) -> dict[tuple[int, ...], str]:
    """Shape and type of every constant that is as large as a bank of 100 rows."""
    tensors = onnx.load(str(graph)).graph.initializer
    name = onnx.TensorProto.DataType.Name
    return {tuple(t.dims): name(t.data_type) for t in tensors if ROWS in t.dims and len(t.dims) == 2}


def errors(engine: Any, detector: Any) -> tuple[float, float]:
    """Largest error of score and map relative to the range of the detector's maps; the engine is closed."""
    spoilt = PICTURES[0].copy()
    spoilt[30:50, 30:50] = 255
    pictures = [spoilt, *PICTURES[1:3]]
    with torch.no_grad():
        maps, scores = (out.numpy() for out in detector(torch.from_numpy(np.stack(pictures))))
    told = [engine.infer(picture) for picture in pictures]
    engine.close()
    reach = float(np.ptp(maps))
    worst = max(float(np.abs(one - own).max()) for (_, one), own in zip(told, maps, strict=True))
    return max(abs(score - own) for (score, _), own in zip(told, scores, strict=True)) / reach, worst / reach


@pytest.fixture(scope="module")
def small(trained: PatchCore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A detector with 100 rows of 64 dimensions in 8 bits, and its graph."""
    detector, graph = compressed(trained, "dims=64", "bank=int8"), tmp_path_factory.mktemp("small") / "model.onnx"
    write_onnx(detector, graph)
    return detector, graph


def check(detector: Any, graph: Path) -> None:
    """The built IR is as small as the graph, and engines answer as the detector does."""
    ir = graph.with_suffix(".xml")
    write_ir(graph, ir)
    assert ir.with_suffix(".bin").stat().st_size < graph.stat().st_size * 1.02
    for engine in (OpenVinoEngine(ir), OnnxRuntimeEngine(graph)):
        assert max(errors(engine, detector)) < 1e-4


def test_8_bit_rows_are_stored_once_and_engines_agree(small: tuple[Any, Path]) -> None:
    assert bank_tensors(small[1]) == {(ROWS, DIMS): "INT8"}
    assert bank_bytes(small[0]) == stored_bytes(small[1], ROWS) == ROWS * (DIMS + 4 + 4)  # what the benchmark tells
    check(*small)


def test_half_rows_are_stored_once_and_engines_agree(trained: PatchCore, tmp_path: Path) -> None:
    detector, graph = compressed(trained, "bank=fp16"), tmp_path / "model.onnx"
    write_onnx(detector, graph)
    assert bank_tensors(graph) == {(ROWS, 152): "FLOAT16"}
    check(detector, graph)


def test_int8_engines_multiply_the_stored_integers(small: tuple[Any, Path], tmp_path: Path) -> None:
    detector, graph = small
    for i, picture in enumerate(PICTURES):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    pictures = CalibrationSet.from_folder(tmp_path, PreprocessRecipe(SIZE[1], SIZE[0]), len(PICTURES))
    int8 = tmp_path / "model.int8.onnx"
    report = calibrate(graph, pictures, target_for("openvino"), output=int8, allow_unsafe=True)
    product = next(row for row in report.layers if row.op == "Gemm")
    assert product.multiplications == 12 * 12 * ROWS * DIMS
    assert np.isinf(product.weight_sqnr_db)  # nothing was rounded again
    before, after = ({t.name: t for t in onnx.load(str(file)).graph.initializer} for file in (graph, int8))
    assert after["product.weight.s8"] == before["product.weight.s8"]
    assert bank_tensors(int8) == {(ROWS, DIMS): "INT8"}
    for engine in (OpenVinoEngine(int8), OnnxRuntimeEngine(int8)):
        score_error, map_error = errors(engine, detector)
        assert score_error < 0.05
        assert map_error < 0.2


def test_a_bank_behind_a_resize_is_stored_small_too(trained: PatchCore, tmp_path: Path) -> None:
    detector = compressed(Resized(trained, (120, 120), antialias=False).eval(), "bank=int8")
    write_onnx(detector, tmp_path / "model.onnx")
    assert bank_tensors(tmp_path / "model.onnx") == {(ROWS, 152): "INT8"}


def test_tensorrt_for_rtx_builds_a_compressed_bank(small: tuple[Any, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    options = BuildOptions(compute_capabilities=("8.9",))
    assert build_engine(small[1], tmp_path / "fp32.engine", "tensorrt-rtx", "fp32", options).warnings == ()
