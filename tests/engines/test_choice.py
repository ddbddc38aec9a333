"""Which engine `edgead run` takes by itself: chosen at export, chosen again by `edgead verify` on another machine."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import Bundle, write_manifest
from edgead.cli.main import main
from edgead.engines import timing
from edgead.engines.choice import no_gain
from edgead.engines.timing import LatencyStats, fastest, in_bursts, wins_no_time
from edgead.measured import Choice
from edgead.testing import FakeEngine
from edgead.types import AnomalyMap, Image
from tests.bundles import Tiny

VERIFY = ["--threads", "1"]


class Box:
    """Its clock, and who was asked last."""

    def __init__(self) -> None:
        self.now_ms, self.asked = 0.0, ""

    def perf_counter(self) -> float:
        return self.now_ms / 1000


class Timed(FakeEngine):
    """Takes `alone_ms`, or `after_ms` when another engine was asked just before, whose threads still spin."""

    def __init__(self, box: Box, name: str, alone_ms: float, after_ms: float) -> None:
        super().__init__([0.0])
        self._box, self._name, self._alone_ms, self._after_ms = box, name, alone_ms, after_ms

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        self._box.now_ms += self._alone_ms if self._box.asked == self._name else self._after_ms
        self._box.asked = self._name
        return super().infer(image)


@pytest.fixture
def bundle(tiny: Tiny, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.bundle("patchcore"), tmp_path / "part.edgead"))


def test_an_engine_that_the_one_before_disturbs_is_still_found_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box()
    monkeypatch.setattr(timing, "time", box)
    engines = {"onnxruntime": Timed(box, "onnxruntime", 4.0, 4.0), "openvino": Timed(box, "openvino", 1.8, 26.0)}
    stats = in_bursts(engines, np.zeros((64, 64, 3), np.uint8))
    assert fastest(stats) == "openvino"
    assert stats["openvino"].p50_ms == pytest.approx(1.8)


def test_another_machine_chooses_again_and_inspect_says_why(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Bundle.open(bundle).manifest
    elsewhere = Choice({"cpu": "another CPU", "cpu_flags": [], "cores": 96}, {"onnxruntime-int8": 0.001})
    measured = dataclasses.replace(manifest.measured, choice=elsewhere)
    write_manifest(bundle, dataclasses.replace(manifest, default_engine="onnxruntime-int8", measured=measured))
    assert main(["inspect", str(bundle)]) == 0
    assert "the fastest on another CPU with 96 cores (onnxruntime-int8 0.001 ms)" in " ".join(capsys.readouterr().out.split())

    assert main(["verify", str(bundle), "--keep-default", *VERIFY]) == 0
    assert Bundle.open(bundle).manifest.default_engine == "onnxruntime-int8"
    capsys.readouterr()
    assert main(["verify", str(bundle), *VERIFY]) == 0
    assert "the default engine was chosen on another machine; here: " in " ".join(capsys.readouterr().out.split())
    after = Bundle.open(bundle).manifest
    times = after.measured.choice.least_ms or {}
    assert set(times) == {record.name for record in manifest.engines}
    assert 0.95 * times[after.default_engine] < min(times.values())  # of two that are nearly alike, the finer one

    assert main(["verify", str(bundle), *VERIFY]) == 0  # chosen here now: nothing to do, nothing written
    assert "chosen on another machine" not in capsys.readouterr().out
    assert Bundle.open(bundle).manifest == after


def test_one_engine_alone_is_no_choice(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle), "--engine", "openvino-fp32", "--keep-default"]) == 2
    assert "--keep-default does not go with --engine" in capsys.readouterr().err


PRECISIONS = {"ov-fp32": "fp32", "ov-fp16": "fp16", "ov-int8": "int8"}


@pytest.mark.parametrize(
    ("fp32", "fp16", "int8", "taken"),
    [
        (10.0, 9.0, 4.0, "ov-int8"),
        (10.0, 9.99, 9.9, "ov-fp32"),  # a hundredth is no reason to round
        (10.0, 10.5, 12.0, "ov-fp32"),
        (10.0, 4.1, 4.0, "ov-fp16"),
        (10.0, 10.0, 9.4, "ov-int8"),
    ],
)
def test_a_coarser_precision_is_the_default_only_where_it_wins_time(fp32: float, fp16: float, int8: float, taken: str) -> None:
    times = dict(zip(PRECISIONS, (fp32, fp16, int8), strict=True))
    stats = {name: LatencyStats.of([ms, ms + 1]) for name, ms in times.items()}
    assert fastest(stats, PRECISIONS) == taken
    told = wins_no_time(times, {name: ("openvino", precision) for name, precision in PRECISIONS.items()})
    assert any(line.startswith("ov-int8 wins no time here") for line in told) == (int8 > 9.5)
    assert any(line.startswith("ov-fp16 wins no time here") for line in told) == (fp16 > 9.5)


def test_a_bundle_whose_int8_wins_no_time_says_so(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    names = [record.name for record in opened.manifest.engines]
    times = {name: 5.0 if "openvino" in name else 9.0 for name in names}
    measured = dataclasses.replace(opened.manifest.measured, choice=Choice({}, times))
    manifest = dataclasses.replace(opened.manifest, measured=measured)
    assert no_gain(manifest) == [
        "openvino-int8 wins no time here: 5.00 ms at least, openvino-fp32 5.00 ms",
        "onnxruntime-int8 wins no time here: 9.00 ms at least, onnxruntime-fp32 9.00 ms",
    ]
