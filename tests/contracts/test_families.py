"""What holds for every family that is trained here, and for one that is added tomorrow. Each is trained once, on tiny parts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edgead.bundle import Bundle
from edgead.calibration.judging.deviation import Limits
from edgead.calibration.judging.guard import GuardOptions
from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.export import ExportOptions, export_bundle
from edgead.families import FAMILIES, find, trained
from edgead.families.contract import FitData, Stopped
from edgead.families.options import to_json
from edgead.jobs.again import retrainer
from edgead.models.detector import Detector
from edgead.models.learning.steps import Checkpoint
from edgead.models.wrappers.tiled import Tiled
from edgead.preprocess import PreprocessRecipe
from edgead.trained import load_model, read_card
from edgead.training.fit import TrainRequest, TrainResult, train
from tests.bundles import part, saved, write_parts
from tests.contracts.quick import QUICK

FEW = 10


@dataclasses.dataclass(frozen=True)
class Tried:
    """A family, trained and exported once."""

    family: str
    size: int
    model: Path
    result: TrainResult
    bundle: Path

    @property
    def options(self) -> dict[str, object]:
        return dict(QUICK.get(self.family, {}))

    @property
    def data(self) -> FitData:
        taught = () if self.result.defects is None else self.result.defects.defects
        return FitData(self.result.images.train, (self.size, self.size), defects=taught)


def side_of(family: str) -> int:
    """64 px, or the least that it takes."""
    return max(64, find(family).size_rule({}).sides()[1]) if find(family).sizes else 64


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tried]:
    made: dict[str, Tried] = {}

    def once(family: str) -> Tried:
        if family not in made:
            folder, size = tmp_path_factory.mktemp(family), side_of(family)
            write_parts(folder / "good", range(FEW), size)
            write_parts(folder / "bad", range(400, 404), size, defect=True)
            request = TrainRequest(
                family, folder / "good", folder / "model", PreprocessRecipe(size, size), QUICK.get(family, {}), heldout=0.3,
                crossfit=False, defects=(folder / "bad",) if find(family).needs_defects else (),
            )  # fmt: skip
            result = train(request)
            wide = Limits(max_flips=1.0, max_auroc_drop=1.0, max_score_deviation=1e6)
            options = ExportOptions(
                ("openvino",), ("fp32", "int8"), limits=wide, guard=GuardOptions(sensitivity_s=0.5), frames_per_class=3,
                calibration_count=6, allow_unsafe=True, threads=1,
            )  # fmt: skip
            bundle = export_bundle(folder / "model", folder / "part.edgead", options).path
            made[family] = Tried(family, size, folder / "model", result, bundle)
        return made[family]

    return once


every = pytest.mark.parametrize("family", trained())


def answers(detector: Detector, pictures: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        found: tuple[Tensor, Tensor] = detector(torch.from_numpy(np.stack(pictures)))
    return found


@every
def test_a_saved_model_answers_as_the_fitted_one(tried: Callable[[str], Tried], family: str) -> None:
    one = tried(family)
    pictures = [part(seed, one.size) for seed in range(50, 53)]
    loaded, card = load_model(one.model)
    assert card.family == family
    assert not loaded.training
    for mine, theirs in zip(answers(one.result.detector, pictures), answers(loaded, pictures), strict=True):
        assert torch.equal(mine, theirs)


@every
def test_the_same_seed_gives_the_same_model(tried: Callable[[str], Tried], family: str) -> None:
    one = tried(family)
    again = find(family).bound(one.options)(one.data).state_dict()
    was = one.result.detector.state_dict()
    assert list(again) == list(was)
    assert all(torch.equal(again[name], was[name]) for name in was)


@every
def test_black_white_and_even_pictures_get_finite_answers(tried: Callable[[str], Tried], family: str) -> None:
    one = tried(family)
    pictures = [np.full((one.size, one.size, 3), grey, np.uint8) for grey in (0, 255, 119)]
    for found in answers(one.result.detector, pictures):
        assert bool(torch.isfinite(found).all())


@every
def test_the_map_is_of_the_picture_and_the_score_is_one_number(tried: Callable[[str], Tried], family: str) -> None:
    one = tried(family)
    anomaly_map, score = answers(one.result.detector, [part(60, one.size), part(61, one.size, defect=True)])
    assert (anomaly_map.shape, score.shape) == ((2, one.size, one.size), (2,))
    assert anomaly_map.dtype == score.dtype == torch.float32
    assert one.result.detector.seen(torch.zeros(1, 3, one.size, one.size)).ndim == 4


@every
def test_a_training_that_is_interrupted_leaves_nothing(tried: Callable[[str], Tried], family: str, tmp_path: Path) -> None:
    one, told = tried(family), []

    def stop() -> bool:
        return bool(told)

    data = dataclasses.replace(one.data, progress=lambda stage, done: told.append(stage), stop=stop)
    with pytest.raises(Stopped):
        find(family).bound(one.options)(data)
    assert len(told) == 1  # it asks at every step

    def interrupt(stage: str, done: float) -> None:
        if stage == told[0]:
            raise KeyboardInterrupt

    request = TrainRequest(
        family, one.result.images.folder, tmp_path / "out", PreprocessRecipe(one.size, one.size), one.options, heldout=0.3,
        defects=(one.model.parent / "bad",) if find(family).needs_defects else (),
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        train(request, interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", [name for name in trained() if find(name).resumes])
def test_an_interrupted_training_goes_on_and_comes_to_the_same_model(
    tried: Callable[[str], Tried], family: str, tmp_path: Path
) -> None:
    one, done_in = tried(family), list[float]()
    checkpoint = Checkpoint(tmp_path / "kept", "this one", every_s=0.0)

    def interrupt(stage: str, done: float) -> None:
        if stage in ("training", "students") and done >= 0.3:
            raise KeyboardInterrupt

    def go_on(stage: str, done: float) -> None:
        if stage in ("training", "students"):
            done_in.append(done)

    with pytest.raises(KeyboardInterrupt):
        find(family).bound(one.options)(dataclasses.replace(one.data, checkpoint=checkpoint, progress=interrupt))
    again = find(family).bound(one.options)(dataclasses.replace(one.data, checkpoint=checkpoint, progress=go_on)).state_dict()
    assert min(done_in) > 0.3  # not from the beginning
    was = one.result.detector.state_dict()
    assert all(torch.equal(again[name], was[name]) for name in was)


@every
def test_it_answers_on_tiles_of_a_larger_picture(tried: Callable[[str], Tried], family: str, tmp_path: Path) -> None:
    one = tried(family)
    tiled = Tiled(one.result.detector, (one.size, 2 * one.size - 16), 16).eval()
    sheet = np.concatenate([part(70, one.size), part(71, one.size)[:, 16:]], 1)
    anomaly_map, score = answers(tiled, [sheet])
    assert anomaly_map.shape == (1, *tiled.image_size)
    tiles = answers(one.result.detector, [sheet[:, : one.size], sheet[:, -one.size :]])[1]
    assert float(score) == pytest.approx(float(tiles.max()), rel=1e-4)
    saved(tmp_path / "tiled", tiled)
    assert torch.equal(answers(load_model(tmp_path / "tiled")[0], [sheet])[1], score)


@every
def test_its_engines_answer_as_the_model_and_int8_was_guarded(tried: Callable[[str], Tried], family: str) -> None:
    manifest = Bundle.open(tried(family).bundle).manifest
    parity = {record.precision: record.parity for record in manifest.engines}
    assert manifest.family == family
    assert max(parity["fp32"].score_error, parity["fp32"].map_error) <= 1e-4
    assert "int8" in parity
    told = json.loads((tried(family).bundle / "manifest.json").read_text("utf-8"))["measured"]
    assert told["guard"]


@every
def test_tensorrt_for_rtx_builds_its_float_graph(tried: Callable[[str], Tried], family: str, tmp_path: Path) -> None:
    """Ahead of time, which needs no GPU; `python -m benchmarks.rtx_builds` does it for every method."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'edgead[tensorrt-rtx]'")
    from edgead.export.tensorrt import BuildOptions, build_engine

    graph, options = tried(family).bundle / "model.onnx", BuildOptions(compute_capabilities=("8.9",))
    build_engine(graph, tmp_path / "x.engine", "tensorrt-rtx", "fp32", options)
    assert (tmp_path / "x.engine").stat().st_size > 1000


@every
def test_its_options_come_back_from_the_card_and_it_trains_again(
    tried: Callable[[str], Tried], family: str, tmp_path: Path
) -> None:
    one = tried(family)
    arguments = read_card(one.model).origin.arguments
    assert arguments is not None
    assert arguments.rest == to_json(one.options)
    assert find(family).options_type().from_json(family, arguments.rest) == one.options
    again, why = retrainer(one.model)
    assert again is not None, why
    step = find(family).size_rule({}).sides()[0] if find(family).sizes else 16
    again((one.size + step, one.size), tmp_path / "again", lambda: False)
    detector, card = load_model(tmp_path / "again")
    assert detector.image_size == (one.size, one.size + step)
    assert card.origin.arguments is not None and card.origin.arguments.rest == arguments.rest


@every
def test_it_is_measured_and_runs(
    tried: Callable[[str], Tried], family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tried(family)
    (tmp_path / "parts").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"parts/{i}.png"), part(80 + i, one.size, defect=i == 2))
    assert main(["bench", str(one.bundle), "--rounds", "1", "--warmup", "1", "--frame", "64x48", "--no-cold"]) == 0
    assert main(["verify", str(one.bundle)]) == 0
    records = tmp_path / "records.jsonl"
    assert main(["run", str(one.bundle), "--camera", str(tmp_path / "parts"), "--records", str(records)]) == 0
    capsys.readouterr()
    assert [json.loads(line)["verdict"] in ("OK", "NG") for line in records.read_text().splitlines()] == [True] * 3


@every
def test_its_size_rule_times_the_network_that_is_fitted(tried: Callable[[str], Tried], family: str) -> None:
    """Or one with a bank of as many rows: `edgead train --budget-ms` predicts by it."""
    one = tried(family)
    assert find(family).sizes, "a family without a size rule is refused by --budget-ms"
    rule = find(family).size_rule(one.options)
    made = rule.unfitted((one.size, one.size), rule.banks(one.size**2, FEW)[0])
    answers(made, [part(60, one.size)])
    work = []
    for detector in (made, one.result.detector):
        with FlopCounterMode(display=False) as counted:
            answers(detector, [part(60, one.size)])
        work.append(counted.get_total_flops())
    assert work[0] == pytest.approx(work[1], rel=0.05)


@every
def test_unusable_options_are_refused_by_name(family: str) -> None:
    kind = find(family).options_type()
    with pytest.raises(BadInput, match=f"{family} has no option colour"):
        kind.of(family, {"colour": "red"})
    for one in kind.known():
        with pytest.raises(BadInput, match=f"arguments.{one.name} is an object of 0, expected"):
            kind.from_json(family, {one.name: {}})
    assert kind.table().count("\n") == len(kind.known()) + 1


@pytest.mark.parametrize("family", [name for name, entry in FAMILIES.items() if not entry.fit])
def test_what_is_only_imported_is_not_trained(family: str) -> None:
    with pytest.raises(BadInput, match="is not trained by edgead"):
        find(family).bound({})
