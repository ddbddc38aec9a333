"""The GPU benchmark on a machine without one says so; its arithmetic is checked with contenders of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu
from edgead.engines.cuda import DeviceInfo, no_driver


def test_without_a_gpu_it_says_so_in_one_line_and_exits_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> None:
        raise no_driver("a test")

    monkeypatch.setattr(gpu, "open_cuda", none)
    assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 5
    said = capsys.readouterr()
    assert said.err == "benchmarks.gpu: no NVIDIA driver or GPU is usable here (a test)\n"
    assert not said.out
    assert not (tmp_path / "gpu.json").exists()


def test_contenders_take_turns_and_the_warm_up_is_not_counted() -> None:
    asked: list[str] = []

    def contender(name: str) -> Any:
        return lambda image: asked.append(name) or 0.0

    rows = gpu.timed("m", {"a": contender("a"), "b": contender("b")}, np.zeros((4, 4, 3), np.uint8), rounds=3, warmup=2)
    assert asked == ["a", "b"] * 5
    assert [row.contender for row in rows] == ["a", "b"]
    assert all(row.p50_ms <= row.p95_ms <= row.p99_ms for row in rows)


def test_the_table_and_the_file_hold_the_published_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = gpu.Row("efficientad", "tensorrt fp16, CUDA graph", 2.0, 2.1, 2.2, 500.0, 1.5, 0.25)
    monkeypatch.setattr(gpu, "gpu", lambda: DeviceInfo("RTX A6000", "8.6", 1, "13.0"))
    monkeypatch.setattr(gpu, "load_tensorrt", lambda backend: type("trt", (), {"__version__": "10.3"}))
    monkeypatch.setattr(gpu, "compete", lambda *args: ([row], ["this torch has no CUDA"]))
    assert gpu.main(["--models", "efficientad", "--backend", "tensorrt", "--json", str(tmp_path / "gpu.json")]) == 0
    said = capsys.readouterr().out
    assert "25 %" in said
    assert "published, RTX A6000" in said
    assert "left out: this torch has no CUDA" in said
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["rows"][0]["p50_ms"] == 2.0
    assert found["published"]["efficientad"] == {
        "model": "EfficientAD-S",
        "gpu": "RTX A6000",
        "latency_ms": 2.2,
        "images_per_s": 614,
    }
    assert found["machine"]["gpu"]["name"] == "RTX A6000"
