"""What the benchmarks of fresh processes tell, from data of a run."""

from __future__ import annotations

from pathlib import Path

from benchmarks import coldstart, memory, scaling
from benchmarks._fresh import FRAME, camera_folder
from edgead.preprocess import read_image

MODEL = {"family": "simplenet", "bundle": "part", "size_px": 256}


def test_the_camera_is_a_folder_of_full_pictures(tmp_path: Path) -> None:
    folder = camera_folder(tmp_path / "camera", 6)
    assert {read_image(file).shape for file in folder.iterdir()} == {(*FRAME, 3)}
    assert len(list(folder.iterdir())) == 6


def test_a_cold_start_within_the_goal_and_one_beyond() -> None:
    stages = {"rest_ms": 400.0, "bundle_ms": 20.0, "engine_ms": 150.0, "proof_ms": 90.0, "first_part_ms": 30.0}
    rows = [
        {**MODEL, **stages, "engine": "openvino-int8", "empty_cache_ms": 900.0, "filled_cache_ms": 690.0},
        {**MODEL, **stages, "engine": "onnxruntime-fp32", "empty_cache_ms": 1200.0, "filled_cache_ms": 1201.0},
    ]
    text = coldstart.page({"runs": 5, "rows": rows})
    assert "| simplenet, 256 px | openvino-int8 | 900 | 690 | 400 | 20 | 150 | 90 | 30 |" in text
    assert "met by 1 of 2; not by simplenet on onnxruntime-fp32 (1201 ms)." in text


def test_memory_within_the_goal_and_beyond() -> None:
    held = {"files_mb": 80.0, "peak_mb": 260.0, "first_resident_mb": 240.0, "first_files_mb": 80.0, "first_peak_mb": 270.0}
    rows = [
        {**MODEL, **held, "engine": name, "resident_mb": mb} for name, mb in (("openvino-int8", 160.4), ("openvino-fp32", 251.0))
    ]
    text = memory.page({"runs": 2, "parts": 30, "rows": rows})
    assert "| simplenet, 256 px | openvino-int8 | 160 | 80 | 260 | 240 | 270 |" in text
    assert "met by 1 of 2; not by simplenet on openvino-fp32 (251 MB)." in text


def test_scaling_has_a_table_for_each_question() -> None:
    times = {"fp32_ms": 2.5, "int8_ms": 1.25}
    data = {
        "size": [{**MODEL, **times}],
        "bank": [{"rows": 512, **times}],
        "cores": [{**MODEL, "threads": 2, **times}],
        "cameras": [{**MODEL, "cameras": 3, "engines": "one for all", "parts_per_s": 90.5, "p50_ms": 30.0, "p99_ms": 41.0}],
    }
    text = scaling.page(data)
    assert "| 512 | 2.5 | 1.25 |" in text
    assert "| simplenet | 3 | one for all | 90.5 | 30.0 | 41.0 |" in text
