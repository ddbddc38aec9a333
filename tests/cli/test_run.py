"""`edgead run` as a user sees it, on a tiny bundle whose score is the largest colour value of the picture."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.bundle import EngineRecord, Manifest, Threshold, new_bundle, write_golden, write_manifest
from edgead.cli._told import summary
from edgead.cli.main import main
from edgead.cli.run import Wanted, camera_of
from edgead.config.reading import read_station
from edgead.jobs.doctor.box import PROBE
from edgead.manifest import Origin
from edgead.measured import Measured, TrainedThreshold
from edgead.parity import Answers, ParityReport
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.stats import Stats
from edgead.types import TensorSpec
from tests.waiting import PATIENCE_S

WITHOUT_LAB = """
import sys
for name in ("torch", "onnx", "sklearn", "safetensors", "pydantic"):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
from edgead.cli.main import main
sys.exit(main())
"""


def write_bundle(target: Path, *, wrong_by: float = 0.0) -> Path:
    """Scores above 200 are NG; with `wrong_by` the stored answers are not those of the engine."""
    image = np.random.default_rng(0).integers(0, 180, (16, 16, 3), np.uint8)
    largest = image.max(axis=2).astype(np.float32)
    reference = Answers(np.array([largest.max() + wrong_by], np.float32), largest[None])
    manifest = Manifest(
        name="tiny",
        family="patchcore",
        model={},
        origin=Origin(),
        preprocess=PreprocessRecipe(16, 16),
        inputs=(TensorSpec("image", (1, 16, 16, 3), "uint8"),),
        outputs=(TensorSpec("anomaly_map", (1, 16, 16), "float32"), TensorSpec("score", (1,), "float32")),
        engines=(
            EngineRecord(
                "onnxruntime-fp32",
                "onnxruntime",
                "fp32",
                "model.onnx",
                Threshold(200.0, "given"),
                ParityReport(1, 0.0, 0.0, 0.0, 0),
            ),
        ),
        default_engine="onnxruntime-fp32",
        calibration=None,
        golden=1,
        measured=Measured(threshold=TrainedThreshold(200.0, "given")),
        tools={},
        machine={},
        created_at="2026-01-01T00:00:00+00:00",
    )
    with new_bundle(target) as folder:
        (folder / "model.onnx").write_bytes(PROBE)
        write_golden(folder, [image], reference)
        write_manifest(folder, manifest)
    return target


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("run") / "tiny.edgead")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A good one, a bad one, one that is not a picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((32, 32, 3), 100, np.uint8))
    cv2.imwrite(str(folder / "b.png"), np.full((32, 32, 3), 250, np.uint8))
    (folder / "c.png").write_bytes(b"not a picture")
    return folder


def test_a_folder_gives_one_record_a_picture_and_a_summary(
    bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records.jsonl"
    saved = tmp_path / "saved"
    assert main(["run", str(bundle), "--camera", str(pictures), "--records", str(records), "--save-ng", str(saved)]) == 0
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert [(line["part_id"], line["verdict"], line["score"]) for line in lines] == [
        (1, "OK", 100),
        (2, "NG", 250),
        (3, "UNKNOWN", None),
    ]
    assert "c.png" in lines[2]["cause"]
    assert sorted(f.suffix for f in saved.iterdir()) == [".jpg", ".png"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "3 parts: 1 OK, 1 NG, 1 UNKNOWN (1 unreadable_image)" in shown.err
    assert "1 parts saved" in shown.err


def test_a_threshold_by_hand_and_a_limit_of_parts(bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["run", str(bundle), "--camera", str(pictures), "--threshold", "90", "--max-parts", "1", "--records", "/dev/null"])
        == 0
    )
    assert "1 parts: 0 OK, 1 NG, 0 UNKNOWN" in capsys.readouterr().err


def test_a_line_box_has_no_lab_and_the_records_come_through_the_pipe(bundle: Path, pictures: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LAB, "run", str(bundle), "--camera", str(pictures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE_S, check=True)
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["OK", "NG", "UNKNOWN"]
    assert done.stderr.startswith("tiny: onnxruntime-fp32 on")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(bundle: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "edgead", "run", str(bundle), "--camera", "sim:fps=50,width=64,height=64"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        process.send_signal(number)
        rest, errors = process.stdout.read(), process.stderr.read()  # communicate() would miss what readline() has read ahead
    assert process.returncode == 0
    ids = [json.loads(line)["part_id"] for line in (first + rest).splitlines()]
    assert ids == list(range(1, len(ids) + 1))
    assert f"{len(ids)} parts: " in errors


def test_a_run_that_lost_records_ends_with_7(bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(bundle), "--camera", str(pictures), "--records", "/dev/full"]) == 7
    assert "lost: (3 records)" in capsys.readouterr().err


DEADLY = """
import sys
from edgead.runtime.outputs.command import CommandOutput

class Panic(BaseException):
    pass

def signal(self, inspection):
    if inspection.part_id == 2:
        raise Panic("a bug in native code")

CommandOutput.signal = signal
from edgead.cli.main import main
sys.exit(main())
"""


def test_a_run_in_which_a_thread_died_does_not_end_with_0_although_it_worked_again(bundle: Path, pictures: Path) -> None:
    command = [sys.executable, "-c", DEADLY, "run", str(bundle), "--camera", str(pictures), "--on-ng", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    assert done.returncode == 6
    assert len(done.stdout.splitlines()) == 3
    assert "thread died: camera, output CommandOutput (1 times, the last time of Panic: a bug in native code)" in done.stderr


def test_a_camera_that_does_not_open_is_one_line_and_a_hint_without_secrets(bundle: Path) -> None:
    address = "rtsp://operator:s3cret@127.0.0.1:9/line"
    command = [sys.executable, "-m", "edgead", "run", str(bundle), "--camera", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    assert done.returncode == 6
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first == "edgead run: camera rtsp://***@127.0.0.1:9/line does not open"
    assert second.startswith("  -> ")


def test_an_engine_that_answers_otherwise_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = write_bundle(tmp_path / "wrong.edgead", wrong_by=30.0)
    assert main(["run", str(wrong), "--camera", "sim"]) == 4
    assert "does not answer as the trained model did" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--camera", "no/such/folder"], 2, "no/such/folder does not exist"),
        (["--camera", "sim", "--engine", "tensorrt"], 2, "no engine 'tensorrt'"),
        (["--camera", "sim", "--max-parts", "0"], 2, "--max-parts: '0' is not a whole number from 1 on"),
        (["--camera", "sim", "--budget-ms", "0"], 2, "budget"),
        (["--camera", "sim", "--threshold", "nan"], 2, "threshold"),
        (["--camera", "sim", "--on-ng", "no-such-program"], 2, "no-such-program"),
        (["--camera", "sim", "--records", "/no/such/file"], 7, "cannot write records"),
    ],
)
def test_mistakes_are_one_clear_line(
    bundle: Path, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(bundle), *arguments]) == code
    shown = capsys.readouterr().err
    assert says in shown.splitlines()[0]
    assert "internal error" not in shown


def test_the_runtime_imports_no_lab() -> None:
    code = "import sys, edgead.runtime.loop.station; print([m for m in ('torch', 'onnx', 'rich', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=5 * PATIENCE_S, check=True)
    assert done.stdout.strip() == "[]"


def test_a_camera_of_the_command_line_is_what_a_station_file_says_of_one(tmp_path: Path) -> None:
    """Every field, so none has a second default anywhere."""
    file = tmp_path / "station.yaml"
    outputs = "[{type: command, on_ng: 'true'}]"
    file.write_text(f"name: s\ncameras: [{{name: camera, address: '0', bundle: part.edgead, outputs: {outputs}}}]\n")
    nothing = dict.fromkeys(field.name for field in fields(Wanted))
    given = {"bundle": tmp_path / "part.edgead", "camera": "0", "on_ng": "true", "records": "-", "realtime": False}
    assert camera_of(Wanted(**{**nothing, **given})) == read_station(file).cameras[0]  # type: ignore[arg-type]
    camera, station = read_station(file).cameras[0], StationSettings()
    assert [f.name for f in fields(station) if getattr(camera, f.name) != getattr(station, f.name)] == []


def test_a_bundle_that_is_not_there_is_told_before_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "nope.edgead")]) == 3
    assert "nope.edgead is not a bundle: it does not exist" in capsys.readouterr().err


def test_an_age_limit_is_for_live_cameras(bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for recording in (str(pictures), "sim:parts=2"):
        assert main(["run", str(bundle), "--camera", recording, "--max-age-ms", "50"]) == 2
        assert "(--max-age-ms) is for live cameras: a recording's pictures have no age" in capsys.readouterr().err


def test_what_never_arrived_is_in_the_summary() -> None:
    told = summary(
        Stats(), {}, {"WebhookOutput": {"accepted": 5, "lost": 2, "waiting": 1}, "MqttOutput": {"lost": 0, "waiting": 0}}
    )
    assert "verdicts that did not arrive: (3 WebhookOutput)" in told


@pytest.mark.parametrize("camera", ["sim:parts=2", "0", "pictures", "rtsp://127.0.0.1:1/line.mp4"])
def test_a_speed_of_its_own_is_for_video_files(tmp_path: Path, camera: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    address = str(tmp_path / camera) if camera == "pictures" else camera
    assert main(["run", str(write_bundle(tmp_path / "part.edgead")), "--camera", address, "--realtime"]) == 2
    assert "is no video file: realtime plays those at their own speed" in capsys.readouterr().err


def test_without_a_bundle_the_only_one_here_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--camera", "sim:parts=1"]) == 2
    assert f"there is no bundle in {tmp_path}" in capsys.readouterr().err
    write_bundle(tmp_path / "part.edgead")
    (tmp_path / "part.edgead.versions").mkdir()
    (tmp_path / "notes.edgead").write_text("a file")
    assert main(["run", "--camera", "sim:parts=1,width=64,height=64"]) == 0
    assert "1 parts: " in capsys.readouterr().err
    write_bundle(tmp_path / "another.edgead")
    assert main(["run", "--camera", "sim:parts=1"]) == 2
    told = capsys.readouterr().err
    assert "another.edgead, part.edgead" in told and "edgead run another.edgead --camera 0" in told


def test_what_is_missing_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in ([], "BUNDLE|station.yaml is missing"), ([str(bundle)], "--camera is missing"):
        assert main(["run", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_options_of_a_bundle_are_refused_by_name_with_a_station_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--camera", "0", "--threads", "2", "--no-cache", "--save-ng", "x"]
    assert main(["run", str(tmp_path / "station.yaml"), *options]) == 2
    assert "--camera, --save-ng, --threads, --no-cache: not with a station file" in capsys.readouterr().err


def test_the_result_as_json_leaves_standard_output_to_itself(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgead", "run", str(bundle), "--camera", str(pictures), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE_S, check=True)
    found = json.loads(done.stdout)
    assert found["schema"] == "edgead.run/1" and found["died"] == []
    assert [(lane["name"], lane["verdicts"]) for lane in found["lanes"]] == [("camera", {"OK": 1, "NG": 1, "UNKNOWN": 1})]
    refused = subprocess.run([*command, "--records", "-"], capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    assert refused.returncode == 2 and "standard output is for the result" in refused.stderr
