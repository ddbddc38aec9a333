"""The bundle on disk: what was written is what is read, everything else is refused by name, and the old one survives."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead import disk
from edgead.bundle import (
    Bundle,
    Chosen,
    EngineRecord,
    Manifest,
    Threshold,
    new_bundle,
    rewrite_manifest,
    write_golden,
    write_manifest,
)
from edgead.decision import PixelRule, Region
from edgead.errors import BadInput, BundleError, BundleMismatch, EdgeadError, StorageError
from edgead.manifest import Origin
from edgead.measured import (
    Candidate,
    Choice,
    Deviated,
    Guarded,
    Measured,
    Refused,
    Search,
    SearchAccuracy,
    SearchChoice,
    Timed,
    TrainedThreshold,
)  # fmt: skip
from edgead.parity import Answers, ParityReport
from edgead.preprocess import PreprocessRecipe
from edgead.types import TensorSpec
from edgead.versions import former

NUMBERS = st.floats(-3e38, 3e38)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | NUMBERS | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
FACTS = st.dictionaries(NAMES, JSON, max_size=3)
FREE = FACTS.map(lambda facts: {f"of {key}": value for key, value in facts.items()})
"""Facts under names that nobody reads, hence of any kind: hypothesis tries words of the code, too, which have theirs."""
RECIPES = st.builds(
    PreprocessRecipe,
    width=st.integers(16, 8192),
    height=st.integers(16, 8192),
    roi=st.none() | st.tuples(*[st.integers(0, 99)] * 2, *[st.integers(1, 99)] * 2),
    resize=st.sampled_from(["area", "linear"]),
)
SPECS = st.lists(
    st.builds(TensorSpec, NAMES, st.lists(st.integers(1, 9), max_size=4).map(tuple), st.just("float32")), max_size=2
).map(tuple)
SHARES = st.floats(0.0, 1.0)
OPTIONAL = st.none() | SHARES
ERRORS = st.floats(0.0, 1e30)
CHOSEN = st.builds(
    Chosen,
    NAMES,
    NAMES,
    good=st.integers(0, 9999),
    defects=st.integers(0, 9999),
    max_false_reject=OPTIONAL,
    max_miss=OPTIONAL,
    cost_ratio=st.none() | ERRORS,
    guaranteed=st.booleans(),
    false_reject_rate=OPTIONAL,
    false_reject_bound=OPTIONAL,
    miss_rate=OPTIONAL,
    miss_bound=OPTIONAL,
    confidence=SHARES,
    band=st.sampled_from(["", "rates", "5 %", "1.5:2.5", "-1e-09:3e+20"]),
    digest=NAMES,
)
REGIONS = st.builds(
    lambda points, include, own: Region(tuple(points), include, own if include else None),
    st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=4),
    st.booleans(),
    st.none() | st.floats(-1e9, 1e9),
)
PIXELS = st.builds(PixelRule, st.floats(-1e9, 1e9), st.integers(1, 999), st.lists(REGIONS, max_size=2).map(tuple))


@st.composite
def thresholds(draw: st.DrawFn) -> Threshold:
    pixel = draw(st.none() | PIXELS)
    value = draw(NUMBERS)
    level = value if pixel is None else pixel.threshold
    band = draw(st.none() | st.just((level, level + 1.0)).filter(lambda ends: ends[0] < ends[1]))
    by = "score" if pixel is None else "area"
    return Threshold(value, draw(NAMES), band, pixel, by, draw(st.none() | CHOSEN), draw(st.just("") | NAMES))


RECORDS = st.builds(
    EngineRecord,
    name=NAMES,
    backend=NAMES,
    precision=st.sampled_from(["fp32", "int8"]),
    file=st.just("model.onnx"),
    threshold=thresholds(),
    parity=st.builds(ParityReport, st.integers(0, 99), ERRORS, ERRORS, ERRORS, st.integers(0, 99)),
    auroc=OPTIONAL,
    built_with=st.dictionaries(NAMES, NAMES, max_size=2),
    history=st.lists(thresholds(), max_size=2).map(tuple),
)


OWN = st.dictionaries(NAMES.map("_".__add__), FREE, max_size=1)  # keys of another tool, which stay
DEVIATED = st.builds(Deviated, st.integers(0, 9), ERRORS, st.integers(0, 9), OPTIONAL, st.none() | st.floats(-1, 1), OWN)
CANDIDATES = st.builds(
    Candidate, NAMES, st.booleans(), st.none() | st.builds(SearchAccuracy, SHARES, st.floats(-1, 1)),
    st.none() | st.builds(Timed, ERRORS, ERRORS, st.booleans(), OWN), NAMES, st.booleans(), NAMES, st.integers(0, 99),
)  # fmt: skip
SEARCHES = st.builds(
    Search, st.none() | ERRORS, st.none() | st.builds(SearchChoice, NAMES, threads=st.none() | st.integers(0, 9)), st.none(),
    st.none() | st.lists(CANDIDATES, max_size=2).map(tuple), rest=OWN,
)  # fmt: skip
MEASURED = st.builds(
    Measured,
    threshold=st.none() | st.builds(TrainedThreshold, NUMBERS, st.none() | NAMES, OWN),
    auroc=OPTIONAL,
    frames=st.dictionaries(NAMES, st.integers(0, 99), max_size=2),
    search=SEARCHES,
    deviations=st.dictionaries(NAMES, DEVIATED, max_size=2),
    guard=st.lists(st.builds(Guarded, st.dictionaries(NAMES, DEVIATED, max_size=1), st.just(("a",)), st.just(()), OWN)).map(
        tuple
    ),
    refused=st.lists(st.builds(Refused, NAMES, NAMES, NAMES, st.none() | DEVIATED), max_size=2).map(tuple),
    literal=st.dictionaries(NAMES, st.builds(ParityReport, st.integers(0, 99), ERRORS, ERRORS, ERRORS, st.integers(0, 99))),
    choice=st.builds(Choice, st.none() | FREE, st.none() | st.dictionaries(NAMES, ERRORS, max_size=2), OWN),
    threads=st.none() | st.integers(1, 64),
    carried=st.none() | st.dictionaries(NAMES, NAMES, max_size=2),
    rest=OWN,
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    engines = tuple(draw(st.lists(RECORDS, min_size=1, max_size=3, unique_by=lambda record: record.name)))
    return Manifest(
        name=draw(NAMES),
        family=draw(NAMES),
        model=draw(FREE),
        origin=Origin(rest=draw(OWN)),
        preprocess=draw(RECIPES),
        inputs=draw(SPECS),
        outputs=draw(SPECS),
        engines=engines,
        default_engine=engines[0].name,
        calibration=draw(st.none() | FREE),
        golden=draw(st.integers(0, 9)),
        measured=draw(MEASURED),
        tools=draw(st.dictionaries(NAMES, NAMES, max_size=2)),
        machine=draw(FREE),
        created_at=draw(NAMES),
    )


def simple_manifest(golden: int = 0) -> Manifest:
    record = EngineRecord(
        "a-fp32", "onnxruntime", "fp32", "model.onnx", Threshold(1.5, "by hand"), ParityReport(2, 0.0, 0.0, 0.0, 0)
    )
    spec = TensorSpec("image", (1, 32, 32, 3), "uint8")
    recipe = PreprocessRecipe(32, 32)
    return Manifest("part", "patchcore", {}, {}, recipe, (spec,), (), (record,), "a-fp32", None, golden, {}, {}, {}, "2026-11-22")


def fill(folder: Path, content: bytes = b"weights") -> None:
    (folder / "model.onnx").write_bytes(content)
    images = [np.full((32, 32, 3), 40 * i, np.uint8) for i in range(2)]
    write_golden(folder, images, Answers(np.array([1.0, 2.0], np.float32), np.zeros((2, 4, 4), np.float32)))
    write_manifest(folder, simple_manifest(golden=2))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    target = tmp_path / "part.edgead"
    with new_bundle(target) as folder:
        fill(folder)
    return target


@settings(max_examples=30, deadline=None)
@given(manifests())
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(b"x")
        written = write_manifest(folder, manifest)
        assert Bundle.open(folder).manifest == written
    assert dataclasses.replace(written, files={}) == manifest


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_garbled_manifest_is_refused_in_one_line_or_read(data: st.DataObject) -> None:
    pixel = PixelRule(2.0, 3, (Region.rectangle(0, 0, 1, 0.5),))
    by_area = Threshold(1.0, "area", (1.5, 2.0), pixel, "area", Chosen("edgead threshold", "now", max_false_reject=0.1))
    plain = simple_manifest()
    manifest = plain.with_engine(plain.engine().changed(by_area))
    whole: dict[str, Any] = json.loads(json.dumps(manifest.to_json()))
    spoilt = whole
    while True:  # walk down to a random place and put something else there
        keys = list(spoilt) if isinstance(spoilt, dict) else list(range(len(spoilt)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(spoilt[key], dict | list) and spoilt[key] and data.draw(st.booleans()):
            spoilt = spoilt[key]
            continue
        spoilt[key] = data.draw(JSON)
        break
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "manifest.json").write_text(json.dumps(whole))
        try:
            opened = Bundle.open(Path(name))
            opened.golden()
        except EdgeadError as error:
            assert "\n" not in str(error)


def test_golden_frames_come_back_as_they_were(bundle: Path) -> None:
    golden = Bundle.open(bundle).golden()
    assert [int(image[0, 0, 0]) for image in golden.images] == [0, 40]
    assert golden.reference.scores.tolist() == [1.0, 2.0]
    assert golden.reference.maps.shape == (2, 4, 4)


@pytest.mark.parametrize("name", ["model.onnx", "golden/000.png", "golden/reference.npz"])
@pytest.mark.promise("A changed byte is refused by name.")
def test_a_changed_byte_is_refused_by_name(bundle: Path, name: str) -> None:
    file = bundle / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=f"damaged: {name} has changed"):
        Bundle.open(bundle)


def test_a_missing_file_is_refused_by_name(bundle: Path) -> None:
    (bundle / "golden/001.png").unlink()
    with pytest.raises(BundleError, match=r"golden/001\.png is missing"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "golden/../../secret"])
def test_a_path_out_of_the_bundle_is_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "secret").write_text("x")
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    data["files"][name] = "0" * 64
    file.write_text(json.dumps(data))
    with pytest.raises(BundleError, match="outside of itself"):
        Bundle.open(bundle)


def test_an_engine_file_that_nobody_digested_is_refused(bundle: Path) -> None:
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    data["engines"][0]["file"] = "../model.onnx"
    file.write_text(json.dumps(data))
    with pytest.raises(BundleError, match="has no file"):
        Bundle.open(bundle)


def test_a_newer_schema_is_a_mismatch(bundle: Path) -> None:
    file = bundle / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 99}))
    with pytest.raises(BundleMismatch, match="schema 99"):
        Bundle.open(bundle)


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\x01"])
def test_what_is_not_a_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BundleError):
        Bundle.open(tmp_path)


def test_what_is_not_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no manifest"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.open(tmp_path / "nowhere")


def test_an_unknown_engine_is_named_with_the_known_ones(bundle: Path) -> None:
    with pytest.raises(BadInput, match="tensorrt-fp16") as caught:
        Bundle.open(bundle).manifest.engine("tensorrt-fp16")
    assert "a-fp32" in caught.value.hint


def test_a_new_bundle_takes_the_place_of_the_old_one(bundle: Path) -> None:
    with new_bundle(bundle) as folder:
        fill(folder, b"better weights")
    assert (Bundle.open(bundle).path / "model.onnx").read_bytes() == b"better weights"
    assert sorted(p.name for p in bundle.parent.iterdir()) == ["part.edgead", "part.edgead.versions"]


def test_a_folder_that_is_something_else_is_not_overwritten(tmp_path: Path) -> None:
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "holiday.png").write_bytes(b"x")
    with pytest.raises(BadInput, match="is not a bundle"), new_bundle(precious):
        pass
    assert (precious / "holiday.png").exists()


@pytest.mark.parametrize("fault", [ValueError("broken"), KeyboardInterrupt()])
def test_a_fault_on_the_way_leaves_nothing_and_the_old_one_whole(bundle: Path, fault: BaseException) -> None:
    with pytest.raises(type(fault)), new_bundle(bundle) as folder:
        (folder / "model.onnx").write_bytes(b"half")
        raise fault
    assert Bundle.open(bundle).golden()
    assert [p.name for p in bundle.parent.iterdir()] == ["part.edgead"]


def test_a_bundle_of_schema_1_opens(bundle: Path) -> None:
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    data["schema"] = 1
    for record in data["engines"]:
        record["threshold"] = {"value": 1.5, "method": "by hand"}
        del record["history"]
    file.write_text(json.dumps(data))
    opened = Bundle.open(bundle)
    record = opened.manifest.engine()
    assert record.threshold == record.at_export == Threshold(1.5, "by hand")
    rewrite_manifest(opened, opened.manifest)
    assert json.loads(file.read_text())["schema"] == 2


@pytest.mark.parametrize(
    "threshold",
    [
        {"value": 1.0, "method": "m", "by": "area"},
        {"value": 1.0, "method": "m", "unknown_band": [2.0, 3.0]},
        {"value": 1.0, "method": "m", "unknown_band": [1.0]},
        {"value": 1.0, "method": "m", "pixel": {"threshold": 1.0}},
        {"value": 1.0, "method": "m", "by": "area", "pixel": {"threshold": "1", "min_area_px": 1, "regions": []}},
        {"value": 1.0, "method": "m", "by": "area", "pixel": {"threshold": 1.0, "min_area_px": 0, "regions": []}},
        {"value": 1.0, "method": "m", "chosen": {"tool": "t"}},
        {"value": 1.0, "method": "m", "chosen": {"tool": "t", "at": "a", "guaranteed": 1}},
        {"value": True, "method": "m"},
    ],
)
def test_a_threshold_that_decides_nothing_is_refused(bundle: Path, threshold: dict[str, Any]) -> None:
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    data["engines"][0]["threshold"] = threshold
    file.write_text(json.dumps(data))
    with pytest.raises(BundleError, match="not a valid manifest"):
        Bundle.open(bundle)


def on_the_line(value: float, at: str) -> Threshold:
    return Threshold(value, "new pictures", chosen=Chosen("edgead threshold", at))


def test_changed_thresholds_keep_what_was_before_and_can_be_taken_back() -> None:
    record = simple_manifest().engine()
    exported = record.threshold
    twice = record.changed(on_the_line(2.0, "1")).changed(on_the_line(3.0, "2"))
    assert [t.value for t in twice.history] == [1.5, 2.0]
    assert twice.at_export == exported
    back = twice.undone("3").undone("4")
    assert (back.threshold, back.at_export) == (exported, exported)
    assert [(t.value, t.undone_at) for t in back.history] == [(3.0, "3"), (2.0, "4")]
    with pytest.raises(BadInput, match="no earlier threshold"):
        back.undone("5")
    assert back.changed(on_the_line(4.0, "6")).undone("7").threshold == exported


def test_a_manifest_is_rewritten_alone_and_keeps_its_permissions(bundle: Path) -> None:
    (bundle / "manifest.json").chmod(0o640)
    before = {p: p.stat().st_mtime_ns for p in bundle.rglob("*") if p.is_file() and p.name != "manifest.json"}
    opened = Bundle.open(bundle)
    record = opened.manifest.engine().changed(on_the_line(9.0, "now"))
    rewritten = rewrite_manifest(opened, opened.manifest.with_engine(record))
    assert Bundle.open(bundle).manifest == rewritten.manifest
    assert Bundle.open(bundle).manifest.engine().threshold.value == 9.0
    assert before == {p: p.stat().st_mtime_ns for p in bundle.rglob("*") if p.is_file() and p.name != "manifest.json"}
    assert (bundle / "manifest.json").stat().st_mode & 0o777 == 0o640


def test_a_manifest_that_somebody_else_changed_is_not_overwritten(bundle: Path) -> None:
    mine = Bundle.open(bundle)
    theirs = Bundle.open(bundle)
    record = theirs.manifest.engine().changed(on_the_line(9.0, "now"))
    rewrite_manifest(theirs, theirs.manifest.with_engine(record))
    with pytest.raises(BundleError, match="has changed in the meantime"):
        rewrite_manifest(mine, mine.manifest)
    assert Bundle.open(bundle).manifest.engine().threshold.value == 9.0


KILLED_WHILE_REWRITING = """
import os, sys
from pathlib import Path
from edgead import disk
from edgead.bundle import Bundle, rewrite_manifest
bundle = Bundle.open(Path(sys.argv[1]))
os.replace = lambda *_: os.kill(os.getpid(), 9)  # all is written, nothing is in place
rewrite_manifest(bundle, bundle.manifest)
"""


def test_a_process_killed_while_rewriting_leaves_the_old_manifest(bundle: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    assert subprocess.run([sys.executable, "-c", KILLED_WHILE_REWRITING, str(bundle)], check=False).returncode == -9
    assert (bundle / "manifest.json").read_bytes() == before
    Bundle.open(bundle)


KILLED_BETWEEN_RENAMES = """
import os, sys
from pathlib import Path
from edgead import disk
from edgead.bundle import new_bundle
from tests.test_bundle import fill
disk._exchanged = lambda *_: False  # as on a system that cannot exchange folders
replace = os.replace
def first_only(source, target):
    replace(source, target)
    if ".old." in str(target):
        os.kill(os.getpid(), 9)
os.replace = first_only
with new_bundle(Path(sys.argv[1])) as folder:
    fill(folder, b"better weights")
"""


def test_a_crash_between_two_renames_is_mended_by_the_next_opening(bundle: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_BETWEEN_RENAMES, str(bundle)], check=False)
    assert killed.returncode == -9
    assert not bundle.exists()
    assert (Bundle.open(bundle).path / "model.onnx").read_bytes() == b"weights"
    assert not list(bundle.parent.glob(".part.edgead.old.*"))


@pytest.mark.parametrize("in_one_step", [True, False])
def test_the_old_bundle_stays_when_the_new_one_cannot_take_its_place(
    bundle: Path, in_one_step: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target) == bundle and ".old." not in str(source):
            raise OSError(5, "Input/output error")
        replace(source, target)

    def cannot(one: Path, other: Path) -> bool:
        if in_one_step:
            raise OSError(5, "Input/output error")
        return False

    monkeypatch.setattr(disk, "_exchanged", cannot)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match="Input/output error"), new_bundle(bundle) as folder:
        fill(folder, b"better weights")
    assert (Bundle.open(bundle).path / "model.onnx").read_bytes() == b"weights"
    assert [p.name for p in bundle.parent.iterdir()] == ["part.edgead"]


def test_without_exchange_a_new_bundle_takes_the_place_too(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_exchanged", lambda *_: False)
    with new_bundle(bundle) as folder:
        fill(folder, b"better weights")
    assert (Bundle.open(bundle).path / "model.onnx").read_bytes() == b"better weights"
    assert (Bundle.open(former(bundle)[0].path).path / "model.onnx").read_bytes() == b"weights"
    assert sorted(p.name for p in bundle.parent.iterdir()) == ["part.edgead", "part.edgead.versions"]


def test_a_link_to_a_bundle_is_replaced_and_its_aim_stays(bundle: Path) -> None:
    link = bundle.parent / "current.edgead"
    link.symlink_to(bundle)
    with new_bundle(link) as folder:
        fill(folder, b"better weights")
    assert (Bundle.open(bundle).path / "model.onnx").read_bytes() == b"weights"
    assert (Bundle.open(link).path / "model.onnx").read_bytes() == b"better weights"
    assert sorted(p.name for p in bundle.parent.iterdir()) == ["current.edgead", "part.edgead"]


KILLED = """
import os, sys
from pathlib import Path
from edgead.bundle import new_bundle
with new_bundle(Path(sys.argv[1])) as folder:
    (folder / "model.onnx").write_bytes(b"half")
    os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_the_old_one_whole(bundle: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(bundle)], check=False).returncode == -9
    assert (Bundle.open(bundle).path / "model.onnx").read_bytes() == b"weights"


ON_A_FULL_DISK = """
import sys
from pathlib import Path
from edgead.bundle import Bundle, new_bundle
from edgead.errors import StorageError
from tests.test_bundle import fill
target = Path(sys.argv[1]) / "part.edgead"
with new_bundle(target) as folder:
    fill(folder)
try:
    with new_bundle(target) as folder:
        fill(folder, bytes(2**20))
except StorageError as error:
    print(error)
assert (Bundle.open(target).path / "model.onnx").read_bytes() == b"weights"
print(sorted(p.name for p in target.parent.iterdir()))
"""


def test_a_full_disk_is_said_in_one_line_and_the_old_one_stays(tmp_path: Path) -> None:
    output = on_a_full_disk(tmp_path, [sys.executable, "-c", ON_A_FULL_DISK, str(tmp_path)]).stdout.splitlines()
    assert output[0].startswith(f"cannot write {tmp_path}/part.edgead: the disk is full (")
    assert output[1:] == ["['part.edgead']"]


def on_a_full_disk(folder: Path, command: list[str], size: str = "256k") -> subprocess.CompletedProcess[str]:
    """Run a command with a real, small file system mounted on `folder` (seen by that command only)."""
    inside = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs unshare with user namespaces (util-linux)")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    wrapped = [unshare, "-rm", "sh", "-c", inside, str(folder), *command]
    return subprocess.run(wrapped, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"), new_bundle(tmp_path / "part.edgead"):
        pass
    tmp_path.chmod(0o700)
