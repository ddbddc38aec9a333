"""Whatever a file or an argument holds, the answer is a documented exit code and a message of less than a screen, never an
internal error, and takes megabytes. Seeded and bounded; the same generators ran for minutes while the readers were written."""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import shutil
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgead.bundle import Chosen, Threshold, file_digest
from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.runtime.records.store import RecordStore
from edgead.types import Verdict
from tests.bundles import Tiny
from tests.runtime.parts import START, record
from tests.spoilt import WORDS, spoil
from tests.vouched import picture, write_vouched

CODES = {0, 2, 3, 4, 5, 7}
SCREEN = 2000
"""Characters."""
MOST_MB = 400

RANDOM = st.randoms(use_true_random=False)


def bounded(examples: int) -> Any:
    """Seeded: the same examples each time."""
    quiet = [
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ]
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=quiet)


@pytest.fixture(autouse=True)
def within_megabytes() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MB * 1024


def edgead(*arguments: object) -> int:
    """Run it in this process; the exit code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    assert code in CODES, (arguments, code, err.getvalue())
    assert len(err.getvalue()) < SCREEN, err.getvalue()
    return code


def written(file: Path, text: str) -> bool:
    """Put it there if it can be put anywhere."""
    try:
        file.write_text(text, "utf-8")
    except UnicodeEncodeError:
        return False
    return True


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a history, an UNKNOWN band and a rule by area."""
    target = write_vouched(tmp_path_factory.mktemp("fuzz") / "part.edgead")
    assert edgead("threshold", target, "--by", "area", "--set", 210, "--region", "include=0.1,0.1,0.8,0.8@205") == 0
    assert edgead("threshold", target, "--set", 211, "--unknown-band", "190:230") == 0
    return target


VERBS = (
    ("inspect",), ("inspect", "--json"), ("verify",), ("threshold",), ("threshold", "--history"), ("threshold", "--undo"),
    ("threshold", "--set", "205"), ("threshold", "--by", "area", "--set", "205"), ("threshold", "--unknown-band", "1:300"),
    ("threshold", "--min-area", "3"),
)  # fmt: skip


@bounded(400)
@given(RANDOM)
def test_a_manifest_with_anything_in_it(bundle: Path, rng: random.Random) -> None:
    file = bundle / "manifest.json"
    before = file.read_bytes()
    try:
        with contextlib.suppress(ValueError):  # an integer that JSON does not write
            if written(file, json.dumps(spoil(json.loads(before), rng))):
                verb, *more = rng.choice(VERBS)
                edgead(verb, bundle, *more)
    finally:
        file.write_bytes(before)


@bounded(150)
@given(RANDOM)
def test_the_bytes_of_a_manifest_in_any_order(bundle: Path, rng: random.Random) -> None:
    file = bundle / "manifest.json"
    before = file.read_bytes()
    content = bytearray(before)
    for _ in range(rng.choice((1, 3, 20))):
        at = rng.randrange(len(content))
        content[at : at + rng.choice((0, 1, 50))] = rng.choice(
            (b"", b"\0", b"\xff", b"}", b"[", b'"', b"NaN", b"1e999", b"9" * 30)
        )
    try:
        file.write_bytes(content)
        edgead(*rng.choice((("inspect", bundle), ("threshold", bundle, "--set", "205"))))
    finally:
        file.write_bytes(before)


@bounded(150)
@given(RANDOM)
def test_golden_frames_with_anything_in_them(bundle: Path, rng: random.Random) -> None:
    name = rng.choice(("golden/reference.npz", "golden/reference.npz", "golden/000.png", "golden/camera/002.png"))
    files = {file: file.read_bytes() for file in (bundle / name, bundle / "manifest.json")}
    content = bytearray(files[bundle / name])
    for _ in range(rng.choice((1, 4, 30))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    if rng.random() < 0.3:
        del content[rng.randrange(len(content)) :]
    try:
        (bundle / name).write_bytes(content)
        data = json.loads(files[bundle / "manifest.json"])
        data["files"][name] = file_digest(bundle / name)
        (bundle / "manifest.json").write_text(json.dumps(data))
        edgead("verify", bundle)
    finally:
        for file, before in files.items():
            file.write_bytes(before)


@bounded(300)
@given(RANDOM)
def test_a_model_card_with_anything_in_it(tiny: Tiny, tmp_path: Path, rng: random.Random) -> None:
    from edgead.trained import load_model

    model = tiny.model()
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(model / "model.safetensors")
    with contextlib.suppress(ValueError):
        if not written(folder / "model.json", json.dumps(spoil(json.loads((model / "model.json").read_text()), rng))):
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch: nothing to initialise in a layer of size 0
                load_model(folder)
        except BadInput as error:
            assert len(str(error)) < SCREEN


@pytest.fixture(scope="module")
def station(bundle: Path) -> dict[str, Any]:
    free = {"address": "sim", "bundle": str(bundle)}
    top = {
        "name": "top", "address": "sim:fps=50", "bundle": str(bundle), "budget_ms": 200, "threshold": 200.0,
        "trigger": {"source": "interval", "every_ms": 5}, "plc": {"type": "modbus-client", "host": "10.0.0.9", "port": 502},
        "outputs": [{"type": "log"}, {"type": "mqtt", "host": "broker", "topic": "line", "tls": False, "keepalive_s": 5}],
        "stage_budget_ms": {"wait": 3.0}, "selfcheck": {"every_s": 60}, "drift": {"every_ms": 500.0, "max_ng": 0.3},
    }  # fmt: skip
    recipes = {1: str(bundle), 2: {"bundle": str(bundle), "sha256": "0" * 64}}
    return {
        "name": "line-3",
        "cameras": [
            top,
            {"name": "side", "address": "sim", "recipes": recipes, "recipe": 1, "recipe_file": "recipe.txt"},
            {"name": "left", **free},
            {"name": "right", **free},
        ],
        "parts": [{"name": "part", "cameras": ["left", "right"], "trigger": {"source": "gpio", "line": 3}, "budget_ms": 100}],
        "storage": {"folder": "data", "records": {"max_rows": 100}, "pictures": {"max_mb": 10, "max_days": 3}},
        "supervision": {"http": "127.0.0.1:9108", "stalled_after_ms": 5000},
        "process": {"cpus": [0], "threads": 1},
        "trusted": [],
    }


@bounded(400)
@given(RANDOM)
def test_a_station_file_with_anything_in_it(station: dict[str, Any], tmp_path: Path, rng: random.Random) -> None:
    file = tmp_path / "station.yaml"
    with contextlib.suppress(ValueError):
        if written(file, yaml.safe_dump(spoil(station, rng))):
            edgead("station", "check", file)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    store = RecordStore(folder, commit_every_s=0.0)
    for part_id in range(1, 30):
        store.write(record(part_id, Verdict.OK, "", when=START + timedelta(days=part_id), total_ms=1.0))
    assert store.flush(20.0)
    store.close()
    return folder


DATES = ("2026-11-22", "90m", "999999d", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "2026-11-22T06:30", "OK", "ng")


@bounded(300)
@given(RANDOM)
def test_arguments_of_records_with_anything_in_them(records: Path, tmp_path: Path, rng: random.Random) -> None:
    arguments: list[object] = ["records", records]
    options = rng.sample(["--since", "--until", "--verdict", "--part", "--limit"], rng.choice((1, 2, 3)))
    arguments += [f"{option}={rng.choice((*WORDS, *DATES, str(2**63 - 1), '-5'))}" for option in options]
    files = [
        f"--csv={tmp_path / 'parts.csv'}",
        f"--csv={records / 'records.db'}",
        "--csv=",
        f"--csv={tmp_path}",
        "--csv=/dev/full/x",
    ]
    arguments += rng.sample(["--summary", "--json", *files], rng.choice((0, 1, 2)))
    edgead(*arguments)


OPTIONS = {
    "threshold": ("--set", "--max-false-reject", "--max-miss", "--cost-ratio", "--defect-rate", "--unknown-band", "--by",
                  "--pixel-threshold", "--min-area", "--region", "--threads", "--engine"),
    "verify": ("--engine", "--threads", "--trusted"),
    "inspect": ("--trusted",),
    "run": ("--threshold", "--budget-ms", "--threads", "--max-age-ms", "--frame-timeout-ms", "--engine", "--max-parts"),
}  # fmt: skip
VALUES = (
    *WORDS,
    "5%",
    "200:220",
    "1e-300",
    "include=0,0,1,1",
    "exclude=0,0,1,1",
    "include=nan,0,1,1",
    "include=0,0,1,1@1e39",
    "9" * 30,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(8):
        (folder / ("bad" if i % 2 else "good")).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / ("bad" if i % 2 else "good") / f"{i}.png"), picture(i, bool(i % 2)))
    return folder


@bounded(250)
@given(RANDOM)
def test_arguments_of_a_bundle_s_verbs_with_anything_in_them(
    bundle: Path, pictures: Path, tmp_path: Path, rng: random.Random
) -> None:
    verb = rng.choice(sorted(OPTIONS))
    options = rng.sample(OPTIONS[verb], min(rng.choice((1, 2)), len(OPTIONS[verb])))
    arguments: list[object] = [verb, bundle, *(f"{option}={rng.choice(VALUES)}" for option in options)]
    if verb == "threshold":
        arguments += rng.choice(([], ["--good", pictures / "good"], ["--good", pictures / "good", "--defects", pictures / "bad"]))
    elif verb == "run":
        arguments += ["--camera", pictures / "good", "--records", tmp_path / "records.jsonl"]
    before = (bundle / "manifest.json").read_bytes()
    try:
        edgead(*arguments)
    finally:
        (bundle / "manifest.json").write_bytes(before)


def test_a_band_that_the_line_chose_and_somebody_changed(bundle: Path) -> None:
    """`threshold` asks for the same band anew: what stands there must be one."""
    file = bundle / "manifest.json"
    before = file.read_bytes()
    chosen = Chosen("edgead threshold", "2026-01-02T00:00:00+00:00", band="5 %")
    assert Threshold(1.0, "", chosen=chosen).chosen == chosen
    for band in ("five", "5", "%", "5:", "2:1:3", "nan %", "1e999:2", "rates!"):
        data = json.loads(before)
        data["engines"][0]["threshold"]["chosen"] = {"tool": "edgead threshold", "at": "2026-01-02", "band": band}
        file.write_text(json.dumps(data))
        try:
            assert edgead("threshold", bundle, "--set", "205") == 3
        finally:
            file.write_bytes(before)
