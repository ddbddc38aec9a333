"""`edgead threshold` as a line engineer sees it. The bundle's map is each pixel's largest colour value, its score the maximum."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.bundle import TRAINED_ON, Bundle, EngineRecord, Threshold, file_digest, rewrite_manifest
from edgead.cli.main import main
from edgead.preprocess import frame_digest, read_image
from edgead.types import Verdict
from tests.cli.test_run import WITHOUT_LAB, write_bundle
from tests.waiting import PATIENCE_S

FIRST, SECOND = "onnxruntime-fp32", "second"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Two engines of the same file, both NG from 200 on."""
    opened = Bundle.open(write_bundle(tmp_path / "tiny.edgead"))
    record = opened.manifest.engine()
    both = (record, dataclasses.replace(record, name=SECOND))
    rewrite_manifest(opened, dataclasses.replace(opened.manifest, engines=both))
    return opened.path


def pictures(folder: Path, values: range | list[int], spot: int = 1) -> Path:
    """One 16 x 16 px picture for each value: black with a spot of `spot` x `spot` px of it."""
    folder.mkdir()
    for i, value in enumerate(values):
        image = np.zeros((16, 16, 3), np.uint8)
        image[4 : 4 + spot, 4 : 4 + spot] = value
        cv2.imwrite(str(folder / f"{i:03d}.png"), image)
    return folder


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return pictures(tmp_path / "good", range(1, 121))


@pytest.fixture
def defects(tmp_path: Path) -> Path:
    return pictures(tmp_path / "defects", range(110, 150), spot=3)


def record(path: Path, name: str = FIRST) -> EngineRecord:
    return Bundle.open(path).manifest.engine(name)


def test_every_engine_gets_its_threshold_with_its_promise(bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["threshold", str(bundle), "--good", str(good), "--max-false-reject", "1%"]) == 0
    for name in (FIRST, SECOND):
        found = record(bundle, name)
        assert 120 < found.threshold.value < 120.001  # rank ceil(121 * 0.99) = 120
        assert found.threshold.chosen is not None
        assert (found.threshold.chosen.good, found.threshold.chosen.guaranteed) == (120, True)
        assert found.threshold.chosen.false_reject_rate == 1 / 121
        assert (found.threshold.chosen.tool, len(found.threshold.chosen.digest)) == ("edgead threshold", 64)
        assert [t.value for t in found.history] == [200.0]
    shown = capsys.readouterr().out
    assert "guarantee: of good parts like these pictures" in shown
    assert "0.826 %" in shown  # on average
    assert "2.47 %" in shown  # with 95 % confidence: 1 - 0.05 ** (1 / 120)
    assert "0/120" in shown
    assert "0.1 % needs 879 more good pictures" in shown


def test_what_was_chosen_is_what_run_and_inspect_use_and_verify_does_not_mind(
    bundle: Path, good: Path, defects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["threshold", str(bundle), "--set", "115.5"]) == 0
    records = tmp_path / "records.jsonl"
    assert main(["run", str(bundle), "--camera", str(defects), "--records", str(records)]) == 0
    verdicts = [json.loads(line)["verdict"] for line in records.read_text().splitlines()]
    assert verdicts == ["OK"] * 6 + ["NG"] * 34
    assert main(["verify", str(bundle)]) == 0
    assert main(["inspect", str(bundle), "--json"]) == 0
    assert "115.5" in capsys.readouterr().out


def test_too_few_pictures_are_told_of(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = pictures(tmp_path / "few", range(1, 11))
    assert main(["threshold", str(bundle), "--good", str(few)]) == 0
    shown = capsys.readouterr().out
    assert "no guarantee for 1 %: 89 more good pictures are needed, these promise 9.09 %" in shown
    assert "rough: from 10 good pictures" in shown


def test_copies_count_once(bundle: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = pictures(tmp_path / "again", [5, 6, 200])
    assert main(["threshold", str(bundle), "--good", str(good), "--good", str(again)]) == 0
    assert "121 good pictures (2 copies of others counted once)" in capsys.readouterr().out
    chosen = record(bundle).threshold.chosen
    assert chosen is not None
    assert chosen.good == 121


def test_the_digest_is_of_the_pictures_whatever_their_names(bundle: Path, tmp_path: Path) -> None:
    digests = []
    for name, values in (("a", [1, 2, 3]), ("b", [3, 2, 1]), ("c", [3, 2, 4])):
        assert main(["threshold", str(bundle), "--good", str(pictures(tmp_path / name, values))]) == 0
        chosen = record(bundle).threshold.chosen
        assert chosen is not None
        digests.append(chosen.digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_miss_rate_needs_only_defects(bundle: Path, defects: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["threshold", str(bundle), "--defects", str(defects), "--max-miss", "5%", "--engine", FIRST]) == 0
    assert record(bundle).threshold.value == 111.0  # the second of 40
    assert record(bundle, SECOND).threshold.value == 200.0
    shown = capsys.readouterr().out
    assert "defects like the given ones: at most 4.88 % are missed on average" in shown
    assert "1/40" in shown


def test_both_rates_with_a_band_between(bundle: Path, good: Path, defects: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wish = [
        "threshold",
        str(bundle),
        "--good",
        str(good),
        "--defects",
        str(defects),
        "--max-false-reject",
        "1%",
        "--max-miss",
        "5%",
    ]
    assert main(wish) == 2
    assert "no threshold keeps both" in capsys.readouterr().err
    assert record(bundle).history == ()
    assert main([*wish, "--unknown-band", "rates"]) == 0
    rule = record(bundle).threshold.rule
    assert rule.unknown_band == (111.0, rule.threshold)
    assert rule.decide(115.0, None) == (Verdict.UNKNOWN, "unsure")


def test_a_cost_ratio(bundle: Path, good: Path, defects: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["threshold", str(bundle), "--good", str(good), "--defects", str(defects), "--cost-ratio", "50"]
    assert main([*command, "--defect-rate", "10%"]) == 0
    assert 109 < record(bundle).threshold.value <= 110
    shown = capsys.readouterr().out
    assert "cheapest when a miss costs 50 false rejects and 10 % of parts are defective" in shown
    assert main(command) == 0  # as many defects as among the pictures
    assert "25 % of parts are defective" in capsys.readouterr().out


def test_by_area_a_pixel_threshold_is_chosen_and_stays_of_that_kind(
    bundle: Path, good: Path, defects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good parts have single bright pixels, defects are 3 x 3: by area good parts look like black ones."""
    arguments = ["--by", "area", "--min-area", "2%", "--region", "exclude=0,0,1,0.1"]
    assert main(["threshold", str(bundle), "--good", str(good), "--defects", str(defects), *arguments]) == 0
    pixel = record(bundle).threshold.rule.pixel
    assert pixel is not None
    assert (pixel.min_area_px, len(pixel.regions)) == (6, 1)  # 2 % of 256, rounded up
    assert 0.0 < pixel.threshold < 1.0  # six connected pixels of a good part are black
    shown = capsys.readouterr().out
    assert "NG when 6 connected map pixels reach" in shown
    assert "0/40" in shown  # missed
    assert "of which 87.5 % are looked at" in shown
    brighter = pictures(tmp_path / "brighter", range(30, 150), spot=3)
    assert main(["threshold", str(bundle), "--good", str(brighter)]) == 0
    again = record(bundle).threshold.rule.pixel
    assert again is not None
    assert (again.min_area_px, again.regions) == (pixel.min_area_px, pixel.regions)
    assert 149.0 < again.threshold < 149.001
    records = tmp_path / "records.jsonl"
    assert main(["run", str(bundle), "--camera", str(brighter), "--records", str(records)]) == 0
    assert {json.loads(line)["verdict"] for line in records.read_text().splitlines()} == {"OK"}


def test_for_a_given_pixel_threshold_the_minimal_area_is_chosen(bundle: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "spots", range(100, 250), spot=3)
    assert main(["threshold", str(bundle), "--good", str(folder), "--pixel-threshold", "90"]) == 0
    pixel = record(bundle).threshold.rule.pixel
    assert pixel is not None
    assert (pixel.threshold, pixel.min_area_px) == (90.0, 10)  # every good one has 9


def test_what_was_asked_for_stays(bundle: Path, good: Path) -> None:
    command = ["threshold", str(bundle), "--good", str(good)]
    assert main([*command, "--max-false-reject", "0.05", "--unknown-band", "20%"]) == 0
    first = record(bundle).threshold
    assert first.unknown_band is not None
    assert (int(first.value), int(first.unknown_band[0])) == (115, 97)
    assert main(command) == 0
    assert dataclasses.replace(record(bundle).threshold, chosen=None) == dataclasses.replace(first, chosen=None)
    assert main([*command, "--unknown-band", "none"]) == 0
    assert record(bundle).threshold.unknown_band is None


def test_back_to_the_score(bundle: Path, good: Path) -> None:
    assert main(["threshold", str(bundle), "--by", "area", "--pixel-threshold", "90", "--min-area", "4"]) == 0
    assert record(bundle).threshold.rule.by == "area"
    assert main(["threshold", str(bundle), "--by", "score", "--good", str(good)]) == 0
    assert record(bundle).threshold.rule.by == "score"
    assert record(bundle).threshold.pixel is None


def test_history_and_undo(bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["threshold", str(bundle), "--set", "150", "--engine", SECOND]) == 0
    assert main(["threshold", str(bundle), "--undo"]) == 0  # only what the last change touched
    assert record(bundle, SECOND).threshold.value == 200.0
    assert record(bundle).history == ()
    capsys.readouterr()
    assert main(["threshold", str(bundle), "--history"]) == 0
    shown = capsys.readouterr().out
    assert "given by hand" in shown
    assert "taken back" in shown
    assert main(["threshold", str(bundle), "--undo"]) == 2
    assert "no earlier threshold" in capsys.readouterr().err


def test_nothing_is_changed_by_looking(bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (bundle / "manifest.json").read_bytes()
    assert main(["threshold", str(bundle)]) == 0
    assert "NG at score 200 and above (given), in force" in capsys.readouterr().out
    assert main(["threshold", str(bundle), "--good", str(good), "--dry-run"]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert (bundle / "manifest.json").read_bytes() == before


def test_good_pictures_that_do_not_look_good_are_asked_about(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = pictures(tmp_path / "other", range(190, 250))
    assert main(["threshold", str(bundle), "--good", str(other)]) == 0
    assert "50 of these 60 are NG by the threshold before: are they good" in capsys.readouterr().out


def spoil(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


def float_picture(folder: Path) -> Path:
    folder.mkdir()
    cv2.imwrite(str(folder / "deep.tiff"), np.zeros((16, 16), np.float32))
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--good", "{tmp}/empty"], 2, "holds no pictures"),
        (["--good", "{tmp}/nowhere"], 2, "is not a folder"),
        (["--good", "{tmp}/one"], 2, "cannot be chosen from 1 good"),
        (["--good", "{tmp}/twins"], 2, "cannot be chosen from 1 good"),
        (["--good", "{tmp}/broken"], 2, "x.png is not a readable picture"),
        (["--good", "{tmp}/deep"], 2, "deep.tiff: pictures of type float32"),
        (["--good", "{good}", "--defects", "{good}"], 2, "is also among the good pictures"),
        (["--good", "{good}", "--engine", "tensorrt"], 2, "no engine 'tensorrt'"),
        (["--good", "{good}", "--unknown-band", "0.5%"], 2, "leaves no UNKNOWN band"),
        (["--good", "{good}", "--region", "exclude=0,0,1,1"], 2, "no part would ever be NG"),
        (["--good", "{good}", "--min-area", "257"], 2, "no part would ever be NG"),
        (["--good", "{good}", "--region", "include=0,0,1,1@0"], 2, "are NG whatever the threshold"),
        (["--good", "{good}", "--set", "5", "--max-false-reject", "1%"], 2, "--set does not go together"),
        (["--good", "{good}", "--by", "score", "--min-area", "4"], 2, "decide nothing by score"),
        (["--good", "{good}", "--pixel-threshold", "4", "--unknown-band", "5%"], 2, "band is one of thresholds"),
        (["--max-false-reject", "1%"], 2, "needs good pictures"),
        (["--defects", "{good}"], 2, "choose no threshold"),
        (["--max-miss", "1%"], 2, "needs pictures of defects"),
        (["--cost-ratio", "5", "--good", "{good}"], 2, "needs good pictures and defects"),
        (["--unknown-band", "rates"], 2, "lies between two rates"),
        (["--unknown-band", "5%"], 2, "needs good pictures"),
        (["--unknown-band", "5:9"], 2, "does not hold the threshold"),
        (["--undo", "--set", "5"], 2, "--undo goes alone"),
        (["--undo"], 2, "no earlier threshold"),
        (["--set", "nan"], 2, "--set: 'nan' is not a number"),
        (["--dry-run"], 2, "--dry-run: nothing is chosen"),
        (["--undo", "--threads", "1"], 2, "--threads: no engine is asked"),
        (["--history", "--set", "5"], 2, "--history goes alone"),
        (["--by", "area"], 2, "no threshold is given"),
        (["--pixel-threshold", "inf"], 2, "--pixel-threshold: 'inf' is not a number"),
    ],
)
def test_mistakes_are_one_clear_line_and_change_nothing(
    bundle: Path, good: Path, tmp_path: Path, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    pictures(tmp_path / "one", [7])
    pictures(tmp_path / "twins", [7, 7, 7])
    spoil(tmp_path / "broken", "x.png", b"not a picture")
    float_picture(tmp_path / "deep")
    before = sorted((p.name, p.stat().st_mtime_ns) for p in bundle.rglob("*"))
    filled = [argument.format(tmp=tmp_path, good=good) for argument in arguments]
    assert main(["threshold", str(bundle), *filled]) == code
    shown = capsys.readouterr().err
    first = next(line for line in shown.splitlines() if line.startswith("edgead threshold: "))
    assert says in first
    assert "internal error" not in shown
    assert sorted((p.name, p.stat().st_mtime_ns) for p in bundle.rglob("*")) == before


@pytest.mark.parametrize("flag", ["--max-false-reject", "--max-miss", "--defect-rate"])
@pytest.mark.parametrize("value", ["0", "1", "100%", "-1", "nan", "5", "much"])
def test_rates_out_of_bounds_are_refused_when_read(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["threshold", "x.edgead", flag, value]) == 2
    assert f"{value!r} is not a rate above 0 and below 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["include", "include=1,2", "include=0,0,1", "within=0,0,1,1", "include=a,b,c,d", "include=0,0,2,2", "exclude=0,0,1,1@5", "@"],
)
def test_regions_that_are_none_are_refused_when_read(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["threshold", "x.edgead", "--region", text]) == 2
    assert "--region: " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["2:1", "a:b", "nan:1", "1:1"])
def test_bands_that_are_none_are_refused_when_read(text: str) -> None:
    assert main(["threshold", "x.edgead", "--unknown-band", text]) == 2


def test_an_answer_that_is_not_finite_is_told_with_its_picture(
    bundle: Path, good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgead.engines.onnxruntime import OnnxRuntimeEngine

    monkeypatch.setattr(OnnxRuntimeEngine, "infer", lambda *_: (float("nan"), np.zeros((16, 16), np.float32)))
    assert main(["threshold", str(bundle), "--good", str(good)]) == 2
    assert "gives an answer that is not finite to" in capsys.readouterr().err
    assert record(bundle).history == ()


def test_engines_that_do_not_open_here_are_left_out(bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = Bundle.open(bundle)
    foreign = dataclasses.replace(opened.manifest.engine(SECOND), backend="somebody-elses")
    rewrite_manifest(opened, opened.manifest.with_engine(foreign))
    assert main(["threshold", str(bundle), "--good", str(good)]) == 0
    assert "left out, its threshold stays: second: unknown engine 'somebody-elses'" in capsys.readouterr().out
    assert record(bundle, SECOND).threshold == Threshold(200.0, "given")
    assert record(bundle).threshold.value != 200.0
    assert main(["threshold", str(bundle), "--good", str(good), "--engine", SECOND]) == 2


def test_a_bundle_on_a_read_only_disk_is_a_storage_error(bundle: Path, good: Path) -> None:
    inside = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting read-only needs unshare with user namespaces (util-linux)")
    command = [sys.executable, "-m", "edgead", "threshold", str(bundle), "--good", str(good)]
    wrapped = [unshare, "-rm", "sh", "-c", inside, str(bundle), *command]
    done = subprocess.run(wrapped, capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith(f"edgead threshold: {bundle} is not writable")


@pytest.mark.promise("The line box needs neither torch nor onnx")
def test_it_needs_no_lab(bundle: Path, good: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LAB, "threshold", str(bundle), "--good", str(good)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert record(bundle).threshold.value < 121


def with_trained_on(path: Path, files: list[Path]) -> None:
    """Note in a bundle that its model was trained on these pictures."""
    bundle = Bundle.open(path)
    frames = [bundle.manifest.preprocess.apply(read_image(file)) for file in files]
    (path / TRAINED_ON).write_text("".join(f"{frame_digest(frame)}\n" for frame in frames))
    files_now = {**bundle.manifest.files, TRAINED_ON: file_digest(path / TRAINED_ON)}
    rewrite_manifest(bundle, dataclasses.replace(bundle.manifest, files=files_now))


def test_pictures_that_the_model_was_trained_on_guarantee_nothing(
    bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """120 pictures would guarantee 1 %; 60 of them the model knows by heart."""
    with_trained_on(bundle, sorted(good.iterdir())[:60])
    assert main(["threshold", str(bundle), "--good", str(good), "--max-false-reject", "1%"]) == 0
    said = capsys.readouterr().out
    assert "60 more are left out: the model was trained on them" in said
    assert "guarantee: of good parts" not in said
    assert "no guarantee for 1 %" in said
    chosen = record(bundle).threshold.chosen
    assert chosen is not None
    assert (chosen.good, chosen.guaranteed) == (60, False)


def test_pictures_of_training_alone_choose_nothing(bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_trained_on(bundle, sorted(good.iterdir()))
    before = record(bundle)
    assert main(["threshold", str(bundle), "--good", str(good)]) == 2
    assert "120 of the 120 good pictures are those that the model was trained on" in capsys.readouterr().err
    assert record(bundle) == before


def test_defects_that_the_model_was_trained_on_say_nothing_of_new_ones(
    bundle: Path, good: Path, defects: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(defects.iterdir())
    with_trained_on(bundle, files[:2])
    arguments = ["threshold", str(bundle), "--good", str(good), "--defects", str(defects), "--engine", FIRST]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"{len(files) - 2} defects" in said
    assert "2 more are left out: the model was trained on them" in said
    with_trained_on(bundle, files)
    assert main(arguments) == 2
    assert f"all {len(files)} defects are those that the model was trained on" in capsys.readouterr().err


def test_the_pictures_that_matter_are_named(bundle: Path, good: Path, defects: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Good 119.png is of value 120, the largest; defects from 110 on."""
    arguments = ["--good", str(good), "--defects", str(defects), "--max-false-reject", "2%", "--engine", FIRST]
    assert main(["threshold", str(bundle), *arguments]) == 0
    said = capsys.readouterr().out
    assert "good pictures that set the threshold: 118.png (119), 117.png (118)" in said
    assert "good pictures that are NG: 119.png (120)\n" in said
    assert "defects that are OK: 000.png (110)" in said
    assert "and 5 more" in said


def test_folders_below_are_read_and_all_bad_files_named(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "days").mkdir()
    pictures(tmp_path / "days/monday", range(1, 100))
    pictures(tmp_path / "days/tuesday", range(100, 121))
    assert main(["threshold", str(bundle), "--good", str(tmp_path / "days"), "--max-false-reject", "1%"]) == 0
    assert "120 good pictures" in capsys.readouterr().out
    for name in ("monday/x.png", "tuesday/y.png"):
        (tmp_path / "days" / name).write_bytes(b"cut")
    assert main(["threshold", str(bundle), "--good", str(tmp_path / "days")]) == 2
    said = capsys.readouterr().err
    assert "x.png" in said
    assert "y.png" in said
