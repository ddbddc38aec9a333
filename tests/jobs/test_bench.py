"""What is measured of engines, without a command line: an engine that takes the largest colour value."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.errors import BadInput
from edgead.jobs.bench import BenchRequest, bench
from tests.cli.test_run import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bench") / "tiny.edgead")


def request(bundle: Path, **more: object) -> BenchRequest:
    quick = {"rounds": 1, "warmup": 1, "frame": (64, 48), "threads": 1, "cold_runs": 0}
    return BenchRequest((bundle,), **{**quick, **more})  # type: ignore[arg-type]


def test_throughput_of_several_parts_at_once(bundle: Path) -> None:
    told: list[tuple[str, float]] = []
    found = bench(request(bundle, throughput=True, cache=False), lambda stage, done: told.append((stage, done)))
    assert all(result.many_per_s is not None and result.many_per_s > 0 for result in found.results)
    assert not found.settings.cache
    assert told[-1] == ("several at once", 1.0)
    assert {stage for stage, _ in told} == {"measuring", "several at once"}


def test_cold_start_and_memory_come_from_a_fresh_process(bundle: Path) -> None:
    (result,) = bench(request(bundle, cold_runs=1)).results
    assert result.cold_start_ms is not None and result.resident_mb is not None and result.peak_mb is not None
    assert result.cold_start_ms > result.stages["total"].p50_ms
    assert 10 < result.resident_mb <= result.peak_mb + 1


def test_without_a_size_the_frame_is_the_usual_one(bundle: Path) -> None:
    assert bench(request(bundle, frame=None)).settings.frame == (1920, 1080)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(BadInput, match="nothing to measure"):
        BenchRequest(())
