import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import peers
from benchmarks._peers import case as laying
from benchmarks._peers import ours, theirs
from benchmarks._peers.case import Case, Counts, lite0_weights
from benchmarks._peers.environment import DEFAULT, REQUIREMENTS, python_of
from benchmarks._peers.process import Worker, WorkerFailed
from benchmarks._peers.tables import goals, page, readme
from benchmarks._peers.worker import LAYERS, LITE0
from benchmarks._sets import SETS
from edgead.importers.weights import backbone_with, from_timm_lite
from edgead.models.backbones import load_backbone
from edgead.preprocess import read_image

ROOT = Path(__file__).parents[2]
FEW = Counts(4, 2, 2, 3, 3)

FAKE = """
import json, sys
from pathlib import Path
import numpy as np
for line in sys.stdin:
    asked = json.loads(line)
    with open("asked.txt", "a") as log:
        log.write(asked["do"] + "\\n")
    if asked["do"] == "fall":
        sys.exit(7)
    files = {name: name for name in ("openvino", "openvino-fixed", "int8_ptq")}
    did = {"train": {"rows": 4, "fit_s": 1.0}, "export": files}.get(asked["do"])
    if asked["do"] in ("predict", "infer"):
        names = sorted(f"{p.parent.name}/{p.name}" for p in Path(asked["folder"]).glob("*/*.png"))[::-1]
        Path(asked["out"]).parent.mkdir(parents=True, exist_ok=True)
        np.savez(asked["out"], names=np.array(names), scores=np.arange(len(names), dtype=float), labels=np.arange(len(names)) > 2)
    if asked["do"] == "train":
        Path(asked["out"]).parent.mkdir(parents=True)
    print(json.dumps({"error": "no such model"} if asked["do"] == "refuse" else {"did": did}), flush=True)
"""


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case.of("elpv", 0, tmp_path / "cache", FEW)


def fake(tmp_path: Path) -> Worker:
    script = tmp_path / "fake.py"
    script.write_text(FAKE, "utf-8")
    return Worker(Path(sys.executable), tmp_path / "run", tmp_path / "log.txt", script)


def test_what_the_other_side_refuses_and_that_it_ended_are_told(tmp_path: Path) -> None:
    with fake(tmp_path) as worker:
        with pytest.raises(WorkerFailed, match=r"refuse: no such model; see .*log\.txt"):
            worker.ask("refuse")
        assert worker.ask("train", out=tmp_path / "a/model.ckpt")["rows"] == 4  # it goes on
        with pytest.raises(WorkerFailed, match="fall: the worker ended with exit code 7"):
            worker.ask("fall")
        with pytest.raises(WorkerFailed, match="ended"):
            worker.ask("train")


def test_the_worker_speaks_the_protocol_also_without_anomalib(tmp_path: Path) -> None:
    np.savez(tmp_path / "frames.npz", np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8))
    with Worker(Path(sys.executable), tmp_path / "run", tmp_path / "log.txt") as worker:
        assert worker.ask("frames", file=tmp_path / "frames.npz") == {"frames": 2}
        with pytest.raises(WorkerFailed, match="clock: KeyError: 'never opened'"):
            worker.ask("clock", name="never opened", calls=1)


def test_anomalib_runs_in_the_environment_that_the_requirements_make(tmp_path: Path) -> None:
    python = python_of(DEFAULT)
    if python is None:
        pytest.skip(f"no environment with anomalib in {DEFAULT}: python -m benchmarks._peers.environment")
    wanted = dict(line.split("==") for line in REQUIREMENTS.read_text("utf-8").splitlines() if "==" in line)
    with Worker(python, tmp_path / "run", tmp_path / "log.txt") as worker:
        for name, version in worker.ask("hello").items():
            assert version.split("+")[0] == wanted[name]


def test_what_anomalib_made_is_kept_and_its_answers_are_brought_into_order(case: Case, tmp_path: Path) -> None:
    with fake(tmp_path) as worker:
        made = theirs.make(worker, case, 256, tmp_path)
        asked = (tmp_path / "run/asked.txt").read_text("utf-8").split()
        again = theirs.make(worker, case, 256, tmp_path)
    assert asked == ["train", "export", "predict", "infer", "infer", "infer", "infer"]
    assert (tmp_path / "run/asked.txt").read_text("utf-8").split() == asked
    assert made.answers["torch"].scores.tolist() == [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]  # told in reverse
    assert made.answers["int8_ptq"].labels.tolist() == [True, True, True, False, False, False]
    assert again.made == made.made == {"rows": 4, "fit_s": 1.0}


def test_nothing_that_judges_was_seen_before(case: Case) -> None:
    for name in SETS:
        try:
            SETS[name].find()
        except FileNotFoundError:
            continue
        drawn = laying._drawn(name, 1, Counts())
        files = [file for part in drawn.values() for file in part]
        assert len(files) == len(set(files)), name
    assert case.defective.tolist() == [True] * 3 + [False] * 3
    assert [picture.shape for picture in case.judged_pictures()] == [(300, 300, 3)] * 6
    seen = {read_image(file).tobytes() for file in case.data.rglob("*.png")}
    assert not seen & {picture.tobytes() for picture in case.judged_pictures()}
    assert case.rows(0.01, 256) == int(4 * 32 * 32 * 0.01)


def test_both_sides_get_the_same_backbone(tmp_path: Path) -> None:
    with np.load(lite0_weights(tmp_path / "lite0.npz"), allow_pickle=False) as found:
        weights = {name: torch.from_numpy(found[name]) for name in found.files}
    name, layers = from_timm_lite(LITE0, LAYERS)
    own = load_backbone("efficientnet_lite0")
    assert layers == own.layers
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        for one, other in zip(backbone_with(name, layers, weights)(pixels), own(pixels), strict=True):
            assert torch.equal(one, other)


def test_bundles_of_other_code_are_made_again_unless_they_are_to_be_kept(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    now = ours._fresh(folder, keep=False)
    (folder / "bundle").touch()
    assert ours._fresh(folder, keep=False) == now == ours.source_digest()
    assert (folder / "bundle").exists()
    (folder / "source").write_text("older", "utf-8")
    assert ours._fresh(folder, keep=True) == "older"
    assert (folder / "bundle").exists()
    assert ours._fresh(folder, keep=False) == now
    assert not (folder / "bundle").exists()


def test_ratios_are_taken_within_rounds() -> None:
    busy = iter([1.0, 1.0, 10.0, 1.0])  # warming up, then three rounds, one of them with the machine busy
    slow: list[float] = []

    def own(calls: int) -> list[float]:
        slow.append(next(busy))
        return [99.0] + [10.0 * slow[-1]] * (calls - 1)

    def other(calls: int) -> list[float]:
        return [99.0] + [30.0 * slow[-1]] * (calls - 1)

    samples = peers.take_turns({"edgead INT8, imported": own, "anomalib OpenVINO": other}, 3, 2, 60.0)
    assert samples["anomalib OpenVINO"] == [[30.0, 30.0], [300.0, 300.0], [30.0, 30.0]]
    rows = peers.compared(samples)
    assert rows["anomalib OpenVINO"]["times"] == 3.0
    assert rows["anomalib OpenVINO"]["times_quartiles"] == [3.0, 3.0]
    assert (rows["anomalib OpenVINO"]["n"], rows["anomalib OpenVINO"]["p50_ms"]) == (6, 30.0)
    assert rows["edgead INT8, imported"]["times"] == 1.0


def test_the_interval_of_an_auroc_is_that_of_pictures_drawn_anew() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat([False, True], 60)
    scores = rng.normal(size=120) + truth
    low, high = peers._interval(truth, scores)
    assert low < peers.auroc(truth, scores) < high
    assert high - low == pytest.approx(0.16, abs=0.04)  # 2 x 1.96 standard errors of an AUROC of .76 on 60 + 60 (Hanley, McNeil)
    assert peers._interval(truth, truth.astype(float)) == (1.0, 1.0)


def variant(name: str, flips: int, weights: str = "anomalib") -> dict[str, Any]:
    return {
        "variant": name, "weights": weights, "auroc": 0.9, "interval": [0.85, 0.95], "flips": flips,
        "false_rejects": 1, "misses": 2,
    }  # fmt: skip


def timed(name: str, times: float, threads: int = 1) -> dict[str, Any]:
    return {
        "set": "elpv", "seed": 0, "threads": threads, "frame_px": "300 x 300", "variant": name,
        "float_layers": "f32", "n": 9, "rounds": 3, "p50_ms": 10 * times, "p95_ms": 11 * times,
        "times": times, "times_quartiles": [times, times],
        "times_p95": times, "base": "edgead INT8, imported",
    }  # fmt: skip


def results(flips: int = 1) -> dict[str, Any]:
    variants = [variant("anomalib torch", 0), variant("anomalib OpenVINO", 7), variant("anomalib INT8_PTQ", 11)]
    variants += [variant("edgead INT8, imported", flips), variant("edgead torch", 0, "edgead")]
    one = {"set": "elpv", "judged": 60, "rows": 614, "refused": {}, "variants": variants}
    data: dict[str, Any] = {
        "peer": {"anomalib": "2.7.0"}, "input_px": 256, "share": 0.01,
        "load_while_timed": [[0.2, 0.1, 0.1]], "machine": {"cores": 2}, "skipped": {"screws": "not here"},
        "cases": [{**one, "seed": 0}, {**one, "seed": 1}],
        "latency": [
            timed("anomalib OpenVINO", 4.0), timed("anomalib OpenVINO, 256 px", 1.9), timed("anomalib OpenVINO", 3.0, threads=2),
            timed("edgead INT8, imported", 1.0),
        ],
    }  # fmt: skip
    return {**data, "goals": goals(data)}


def test_goals_take_the_fastest_export_of_the_set_where_edgead_is_ahead_least() -> None:
    told = {one["goal"]: (one["reached"], one["met"]) for one in results()["goals"]}
    assert list(told.values()) == [(round(2 / 120, 4), False), (1.9, False)]
    assert results(flips=0)["goals"][0]["met"]


def test_the_page_and_the_readme_tell_flips_over_all_seeds_and_what_is_missing() -> None:
    text = page(results())
    assert text.startswith("## ")
    assert "| elpv | 2 | 120 | 14 | 22 | 2 |" in text
    assert "0.900 (0.85 to 0.95), 4 missed, 2 rejected |" in text
    assert "| elpv | 300 x 300 | 1 | anomalib OpenVINO | 40.0 | 44.0 | 4.00 (4.00 to 4.00) | 4.00 | f32 |" in text
    assert "Left out: screws: not here." in text
    assert "| elpv | 14 of 120 flipped, 4.0 x the time | 22 of 120 flipped |  | 2 of 120 flipped, the time |" in readme(results())


def test_the_readme_says_what_was_measured() -> None:
    data = json.loads((ROOT / "benchmarks/results/peers.json").read_text("utf-8"))
    assert readme(data) in (ROOT / "README.md").read_text("utf-8"), "run python -m benchmarks.performance"
    assert data["goals"] == goals(data)


def test_a_missing_environment_names_the_command_that_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        peers.main(["--environment", str(tmp_path / "none")])
    assert end.value.code == 2
    assert f"python -m benchmarks._peers.environment {tmp_path / 'none'}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--sets", "moon"], ["--latency-only"]])
def test_what_cannot_be_run_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        peers.main(arguments)
    assert end.value.code == 2
