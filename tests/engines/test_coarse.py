import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.engines.coarse import SUFFIX, CoarseToFineEngine, Gate, write_tiles
from edgead.errors import EngineError
from edgead.models.detector import Detector
from edgead.models.wrappers.coarse import CoarseToFine
from edgead.types import AnomalyMap, Image, TensorSpec
from tests.models._tiled import ask, big_picture, bright_coarse_to_fine

SIZE = (90, 122)


class TorchEngine:
    """A detector as an engine."""

    def __init__(self, detector: Detector, only_score: bool = False) -> None:
        self.detector, self.only_score, self.closed, self.asked = detector, only_score, 0, 0
        shape = ask(detector, np.zeros((*detector.image_size, 3), np.uint8))[0].shape
        self.inputs = (TensorSpec("image", (1, *detector.image_size, 3), "uint8"),)
        self.outputs = (
            TensorSpec("anomaly_map", (1, 1, 1) if only_score else shape, "float32"),
            TensorSpec("score", (1,), "float32"),
        )

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        self.asked += 1
        maps, scores = ask(self.detector, np.ascontiguousarray(image))
        return float(scores[0]), np.full((1, 1), scores[0]) if self.only_score else maps[0]

    def close(self) -> None:
        self.closed += 1


def engine_of(
    detector: CoarseToFine, gate: Gate, only_score: bool = False
) -> tuple[CoarseToFineEngine, TorchEngine, TorchEngine]:
    detector.set_gate(gate)
    coarse, tile = TorchEngine(detector.coarse), TorchEngine(detector.inner.inner, only_score)
    return CoarseToFineEngine(coarse, tile, detector.inner.grid, detector.coarse.factor, detector.gate), coarse, tile


def middle_level(detector: CoarseToFine, picture: Image) -> float:
    with torch.no_grad():
        return float(detector.evidence(detector.coarse(torch.from_numpy(picture)[None])[0]).median()) + 1e-4


@pytest.mark.parametrize(("size", "factor"), [(SIZE, 4), ((96, 128), 3), ((64, 64), 2)])
def test_it_answers_as_the_model_and_runs_only_suspicious_tiles(size: tuple[int, int], factor: int) -> None:
    detector = bright_coarse_to_fine(size, 32, 8, factor)
    shares = []
    for seed in range(4):
        picture = big_picture(seed, *size)
        engine, _, tile = engine_of(detector, Gate(middle_level(detector, picture), 0.7, 1.0, 6.0))
        score, anomaly_map = engine.infer(picture)
        (wanted_map,), (wanted,) = ask(detector, picture)
        assert score == pytest.approx(float(wanted), rel=1e-5)
        assert np.abs(anomaly_map - wanted_map).max() < 1e-4 * np.ptp(wanted_map)
        assert engine.tiles_run == tile.asked
        shares.append(tile.asked / len(detector.inner.grid))
    assert all(0 < share < 1 for share in shares)


def test_the_slowest_picture_runs_every_tile() -> None:
    detector = bright_coarse_to_fine(SIZE, 32, 8, 4)
    engine, _, tile = engine_of(detector, Gate(math.inf, 1.0, 0.0, 1.0))
    picture = big_picture(0, *SIZE)
    engine.infer(picture)
    assert tile.asked == 0
    slowest = engine.slowest()
    score, anomaly_map = slowest.infer(picture)
    assert tile.asked == slowest.tiles_run == len(detector.inner.grid)
    (wanted_map,), (wanted,) = ask(detector.inner, picture)
    assert score == pytest.approx(float(wanted), rel=1e-5)
    assert np.abs(anomaly_map - wanted_map).max() < 1e-4 * np.ptp(wanted_map)


def test_a_coarse_answer_that_is_no_number_sends_the_tiles() -> None:
    detector = bright_coarse_to_fine(SIZE, 32, 8, 4)
    engine, coarse, tile = engine_of(detector, Gate(math.inf, 1.0, 0.0, 1.0))
    broken = np.full(coarse.outputs[0].shape[1:], np.nan, np.float32)
    coarse.infer = lambda image: (0.0, broken)  # type: ignore[method-assign]
    engine.infer(big_picture(0, *SIZE))
    assert tile.asked == len(detector.inner.grid)


def test_of_tiles_that_tell_their_score_only_it_tells_the_score_only() -> None:
    detector = bright_coarse_to_fine(SIZE, 32, 8, 4)
    picture = big_picture(1, *SIZE)
    engine, _, _ = engine_of(detector, Gate(-math.inf, 1.0, 0.0, 1.0), only_score=True)
    score, anomaly_map = engine.infer(picture)
    assert score == pytest.approx(float(ask(detector.inner, picture)[1][0]), rel=1e-5)
    assert anomaly_map.shape == engine.outputs[0].shape[1:] == (1, 1)


def written(folder: Path, detector: CoarseToFine) -> Path:
    file = folder / f"engine{SUFFIX}"
    write_tiles(file, folder / "coarse.xml", folder / "tile.xml", detector.inner.grid, 8, detector.coarse.factor, detector.gate)
    return file


def test_a_written_one_opens_and_closes_both_engines(tmp_path: Path) -> None:
    detector = bright_coarse_to_fine(SIZE, 32, 8, 4)
    detector.set_gate(Gate(3.0, 1.0, 0.0, 2.0))
    parts = {"coarse.xml": TorchEngine(detector.coarse), "tile.xml": TorchEngine(detector.inner.inner)}
    engine = CoarseToFineEngine.open(written(tmp_path, detector), lambda file: parts[file.name])
    picture = big_picture(4, *SIZE)
    assert engine.infer(picture)[0] == pytest.approx(float(ask(detector, picture)[1][0]), rel=1e-5)
    engine.close()
    assert [part.closed for part in parts.values()] == [1, 1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told.pop("gate"),
        lambda told: told["gate"].pop("cap"),
        lambda told: told.update(overlap=99),
        lambda told: told.update(factor="two"),
        lambda told: told.update(factor=2),
        lambda told: told["gate"].update(level=math.nan),
    ],
)
def test_a_damaged_one_is_refused_and_nothing_stays_open(tmp_path: Path, spoil: object) -> None:
    detector = bright_coarse_to_fine(SIZE, 32, 8, 4)
    file = written(tmp_path, detector)
    told = json.loads(file.read_text())
    spoil(told)  # type: ignore[operator]
    file.write_text(json.dumps(told))
    opened: list[TorchEngine] = []

    def load(part: Path) -> TorchEngine:
        opened.append(TorchEngine(detector.coarse if part.name == "coarse.xml" else detector.inner.inner))
        return opened[-1]

    with pytest.raises(EngineError):
        CoarseToFineEngine.open(file, load)
    assert all(part.closed == 1 for part in opened)


def test_a_tile_engine_that_does_not_load_leaves_the_coarse_one_closed(tmp_path: Path) -> None:
    detector = bright_coarse_to_fine(SIZE, 32, 8, 4)
    coarse = TorchEngine(detector.coarse)

    def load(part: Path) -> TorchEngine:
        if part.name == "coarse.xml":
            return coarse
        raise EngineError("no such file", hint="")

    with pytest.raises(EngineError, match="no such file"):
        CoarseToFineEngine.open(written(tmp_path, detector), load)
    assert coarse.closed == 1
