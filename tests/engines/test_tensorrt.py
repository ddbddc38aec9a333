"""The TensorRT runner on a fake GPU that counts: whatever fails, nothing stays allocated. The real ones: test_tensorrt_gpu.py."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.bundle import EngineRecord, Threshold
from edgead.engines import _tensorrt, tensorrt
from edgead.engines.cuda import CudaError, DeviceInfo
from edgead.engines.tensorrt import TensorRtEngine, TensorRtRtxEngine
from edgead.errors import BadInput, BundleMismatch, EngineError
from tests.engines._fakes import SHAPES, SIZE, FakeCuda, fake_tensorrt


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "fp32.engine").write_bytes(b"plan")
    return tmp_path / "fp32.engine"


@pytest.fixture
def opened(plan: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens the engine on a fake GPU with a fake TensorRT."""

    def make(cuda: FakeCuda, file: Path = plan, graph: bool = True, **how: Any) -> TensorRtEngine:
        monkeypatch.setattr(tensorrt, "load_tensorrt", lambda backend: fake_tensorrt(cuda, **how))
        monkeypatch.setattr(_tensorrt, "_logs", {})
        return TensorRtEngine(file, graph=graph, cuda=cuda)

    return make


def picture(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def right(engine: TensorRtEngine, image: Any) -> None:
    score, anomaly_map = engine.infer(image)
    assert score == float(image.max())
    assert np.array_equal(anomaly_map, image.max(axis=2))


@pytest.mark.parametrize("graph", [True, False])
def test_each_picture_gets_its_own_answer(opened: Any, graph: bool) -> None:
    engine = opened(cuda := FakeCuda(), graph=graph)
    assert engine.replays is graph
    assert [t.name for t in (*engine.inputs, *engine.outputs)] == list(SHAPES)
    before = len(cuda.held)
    first = engine.infer(picture(0))[1]
    kept = first.copy()
    for seed in range(20):
        right(engine, picture(seed))
    assert np.array_equal(first, kept)  # an answer does not change with the next picture
    assert len(cuda.held) == before  # nothing is allocated for a picture
    engine.close()
    engine.close()
    assert not cuda.held
    assert cuda.closed
    with pytest.raises(EngineError, match="is closed"):
        engine.infer(picture(0))


def test_with_a_graph_each_picture_costs_one_launch(opened: Any) -> None:
    engine = opened(cuda := FakeCuda())
    cuda.calls.clear()
    right(engine, picture(3))
    assert cuda.calls == ["launch", "synchronize"]
    engine.close()


def test_a_network_that_cannot_be_recorded_runs_without_and_says_so(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        engine = opened(FakeCuda(), capturable=False)
    assert not engine.replays
    assert "cannot be recorded as a CUDA graph" in caplog.text
    right(engine, picture(1))
    engine.close()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()], ids=["cuda", "ctrl-c"])
@pytest.mark.parametrize("graph", [True, False])
def test_whatever_call_fails_nothing_stays_allocated(opened: Any, graph: bool, error: BaseException | None) -> None:
    reached = 0
    for number in range(1, 100):
        cuda = FakeCuda(fail_at=number, error=error)
        engine = None
        try:
            engine = opened(cuda, graph=graph)
            right(engine, picture(number))
            if len(cuda.calls) < number:
                break
        except (EngineError, KeyboardInterrupt) as caught:
            reached += 1
            if isinstance(caught, EngineError):
                assert "on purpose" in str(caught)
        finally:
            if engine is not None:
                engine.close()
            assert not cuda.held, f"call {number} ({cuda.calls[-1]}) failed and left something behind"
            assert cuda.closed
    assert reached >= 14
    assert number < 99


def test_after_a_failed_inference_the_next_one_is_right(opened: Any) -> None:
    for number in range(1, 12):
        engine = opened(cuda := FakeCuda(), graph=False)
        cuda._fail_at = len(cuda.calls) + number
        try:
            engine.infer(picture(1))
        except EngineError as error:
            assert "inference failed with" in str(error)
            right(engine, picture(2))
        engine.close()
        assert not cuda.held


def test_after_ctrl_c_the_next_answer_is_not_the_old_ones(opened: Any) -> None:
    engine = opened(cuda := FakeCuda())
    cuda._fail_at, cuda._error = len(cuda.calls) + 2, KeyboardInterrupt()  # while it waits for the GPU
    with pytest.raises(KeyboardInterrupt):
        engine.infer(picture(1))
    right(engine, picture(2))
    engine.close()
    assert not cuda.held


def test_a_broken_gpu_does_not_keep_close_from_finishing(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    engine = opened(cuda := FakeCuda())
    cuda.releases_fail = True
    with caplog.at_level(logging.WARNING):
        engine.close()
    assert caplog.text.count("fallen off the bus") >= 7  # all were tried
    assert cuda.closed


def test_two_engines_do_not_disturb_each_other(opened: Any) -> None:
    first, second = opened(one := FakeCuda()), opened(two := FakeCuda())
    for seed in range(5):
        right(first, picture(seed))
        right(second, picture(seed + 50))
    first.close()
    right(second, picture(9))
    second.close()
    assert not one.held
    assert not two.held


def test_a_start_that_tensorrt_refuses_is_one_line_with_its_reason(opened: Any) -> None:
    with pytest.raises(CudaError, match="could not start: no kernel") as caught:
        opened(cuda := FakeCuda(), starts=False)
    assert "\n" not in str(caught.value)
    assert not cuda.held


def test_a_damaged_plan_is_one_line_with_tensorrts_reason(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.engine").write_bytes(b"something else")
    with pytest.raises(EngineError, match=r"cannot load .*bad\.engine: Serialization assertion") as caught:
        opened(cuda := FakeCuda(), tmp_path / "bad.engine")
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    assert not cuda.held


def test_a_plan_of_something_else_is_refused(opened: Any) -> None:
    with pytest.raises(EngineError, match="is not an edgead graph"):
        opened(cuda := FakeCuda(), shapes={"image": ((1, SIZE, SIZE, 3), "float32"), "score": ((1,), "float32")})
    assert not cuda.held


def test_an_open_batch_is_run_with_one_picture(opened: Any) -> None:
    shapes = {name: ((-1, *shape[1:]), dtype) for name, (shape, dtype) in SHAPES.items()}
    engine = opened(FakeCuda(), shapes=shapes)
    assert engine.inputs[0].shape == (1, SIZE, SIZE, 3)
    right(engine, picture(4))
    engine.close()


def test_another_picture_is_refused_before_anything_is_copied(opened: Any) -> None:
    engine = opened(cuda := FakeCuda())
    cuda.calls.clear()
    with pytest.raises(BadInput, match="takes a 8 x 8 x 3 uint8 picture"):
        engine.infer(picture(0)[:4])
    assert not cuda.calls
    engine.close()


def test_gpu_time_is_measured_by_events_that_are_given_back(opened: Any) -> None:
    engine = opened(cuda := FakeCuda())
    before = len(cuda.held)
    assert engine.gpu_ms(runs=4) > 0
    assert len(cuda.held) == before
    engine.close()


def record(backend: str, **built_with: str) -> EngineRecord:
    return EngineRecord(f"{backend}-fp16", backend, "fp16", "x.engine", Threshold(1.0, "test"), None, None, built_with)


HERE = DeviceInfo("Orin", "8.7", 1, "12.6")


ORIN = {"tensorrt": "10.3.0", "compute_capability": "8.7", "gpu": "Orin"}


@pytest.mark.parametrize(
    ("backend", "built_with", "said"),
    [
        ("tensorrt", ORIN, ""),
        ("tensorrt", {}, ""),
        ("tensorrt", {**ORIN, "tensorrt": "10.7.0"}, "TensorRT 10.7.0, and here is 10.3.0"),
        ("tensorrt", {**ORIN, "compute_capability": "8.9"}, "compute capability 8.9, and here is Orin (8.7)"),
        ("tensorrt", {**ORIN, "gpu": "Orin NX"}, "Orin NX, and here is Orin (8.7)"),
        ("tensorrt-rtx", {"tensorrt-rtx": "10.3.0", "compute_capability": "8.6,8.7", "gpu": "another"}, ""),
        ("tensorrt-rtx", {"compute_capability": "8.6,8.9"}, "compute capability 8.6,8.9, and here is Orin (8.7)"),
    ],
)
def test_a_mismatch_names_both_sides(backend: str, built_with: dict[str, str], said: str) -> None:
    assert _tensorrt.mismatch(record(backend, **built_with), "10.3.0", HERE) == said


def test_a_mismatch_is_refused_with_the_line_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(tensorrt, "load_tensorrt", lambda backend: fake_tensorrt(cuda))
    with pytest.raises(BundleMismatch, match=r"built for TensorRT for RTX 1\.0, and here is 9\.8\.7") as caught:
        TensorRtRtxEngine.check_record(record("tensorrt-rtx", **{"tensorrt-rtx": "1.0"}), Path("part.edgead"), cuda)
    assert caught.value.hint == "edgead export --on-device part.edgead"
    assert caught.value.exit_code == 3
    assert cuda.closed
