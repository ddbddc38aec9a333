"""Bundles made to hang a box, to fill its memory or to reach out of themselves: refused in one line, at once, by name."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.bundle import Bundle, file_digest, rewrite_manifest
from edgead.errors import BundleError, EdgeadError
from tests.vouched import write_vouched


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_vouched(tmp_path / "part.edgead")


def listed_anew(bundle: Path, name: str) -> None:
    """Let the manifest vouch for a file as it is now."""
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    data["files"][name] = file_digest(bundle / name)
    file.write_text(json.dumps(data, indent=2) + "\n")


def changed(bundle: Path, change: Callable[[str], str]) -> None:
    file = bundle / "manifest.json"
    file.write_text(change(file.read_text()), "utf-8", "surrogatepass")


def refused(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle).golden()
    told = str(caught.value)
    assert "\n" not in told and len(told) < 1000
    return told


# What lies in the folder


@pytest.mark.parametrize("name", ["notes.txt", "model.bin", "golden/000.onnx", ".hidden", "openvino/fp32.bin"])
@pytest.mark.promise("So is a file that nobody listed.")
def test_a_file_that_nobody_listed_is_refused_by_name(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(b"x")
    assert repr(name) in refused(bundle)


def test_a_file_that_a_crash_of_ours_left_behind_does_not_stop_the_line(bundle: Path) -> None:
    (bundle / ".manifest.json.k2_x9").write_text("half")
    (bundle / "tensorrt").mkdir()
    (bundle / "tensorrt/fp16-0123abcd.engine").write_text("built, and then the power went")
    (bundle / "empty").mkdir()
    assert Bundle.open(bundle).golden()


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "loop", "out", "folder out"])
def test_what_is_no_plain_file_of_the_bundle_is_refused_without_being_read(bundle: Path, kind: str, listed: bool) -> None:
    odd = bundle / ("model.onnx" if listed else "odd")
    odd.unlink(missing_ok=True)
    outside = bundle.parent / "outside"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "socket":
        os.mknod(odd, 0o140644)
    elif kind == "device":
        odd.symlink_to("/dev/zero")
    elif kind == "loop":
        odd.symlink_to(odd)
    elif kind == "out":
        outside.write_bytes(b"x")
        odd.symlink_to(outside)
    else:
        outside.mkdir()
        odd.symlink_to(outside)
    # in a process of its own: what blocks must fail the test, not stop it
    done = subprocess.run(
        [sys.executable, "-m", "edgead", "inspect", bundle], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3, done.stderr
    assert odd.name in done.stderr


def test_a_manifest_that_is_a_fifo_is_refused(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")
    assert "a FIFO, not a regular file" in refused(bundle)


def test_a_manifest_that_is_a_link_out_of_the_bundle_is_refused(bundle: Path) -> None:
    (bundle / "manifest.json").rename(bundle.parent / "elsewhere.json")
    (bundle / "manifest.json").symlink_to(bundle.parent / "elsewhere.json")
    assert "a link that leads out of the bundle" in refused(bundle)


@pytest.mark.parametrize("key", ["files", "tools"])
def test_a_key_with_control_characters_is_refused_by_its_place(bundle: Path, key: str) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    content[key]["a\0b"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(content))
    assert f'{key}."a\\u0000b" is a key with control characters' in refused(bundle)


def test_a_folder_of_the_bundle_that_is_a_link_out_of_it_is_refused(bundle: Path) -> None:
    (bundle / "golden").rename(bundle.parent / "elsewhere")
    (bundle / "golden").symlink_to(bundle.parent / "elsewhere")
    assert "is a link that leads out of it" in refused(bundle)


def test_a_file_that_is_a_link_within_the_bundle_is_taken(bundle: Path) -> None:
    (bundle / "model.onnx").rename(bundle / "same.onnx")
    (bundle / "model.onnx").symlink_to("same.onnx")
    listed_anew(bundle, "same.onnx")
    assert Bundle.open(bundle)


def test_a_link_to_a_bundle_opens(bundle: Path) -> None:
    (bundle.parent / "current.edgead").symlink_to(bundle)
    assert Bundle.open(bundle.parent / "current.edgead").golden()


def test_a_file_of_nothing_but_size_is_refused_before_it_is_read(bundle: Path) -> None:
    with (bundle / "model.onnx").open("r+b") as file:
        file.truncate(1 << 40)
    assert "is larger than 16 GiB" in refused(bundle)


def test_folders_without_end_are_refused(bundle: Path) -> None:
    for i in range(1100):
        (bundle / f"d{i}").mkdir()
    assert "does not list" in refused(bundle)


# What the JSON unfolds to


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace('"name"', '"name": "other", "name"', 1), 'the key "name" is there twice'),
        (lambda text: text.replace('"value": 200.0', '"value": 1.0, "value": 200.0', 1), 'the key "value" is there twice'),
        (lambda text: text.replace("200.0", "NaN", 1), "it holds NaN"),
        (lambda text: text.replace("200.0", "-Infinity", 1), "it holds -Infinity"),
        (lambda text: text.replace("200.0", "1e999", 1), "not finite"),
        (lambda text: text.replace("200.0", "1e39", 1), "engines[0].threshold.value is 1e+39, expected a number from"),
        (lambda text: text.replace("200.0", "9" * 5000, 1), "not usable JSON"),
        (lambda text: text.replace("200.0", "9" * 1000, 1), "a number of about 1000 digits"),
        (lambda text: text.replace("200.0", '"200"', 1), 'engines[0].threshold.value is "200", expected a number'),
        (lambda text: text.replace("200.0", "true", 1), "engines[0].threshold.value is true, expected a number"),
        (lambda text: text.replace('"origin": {}', '"origin": ' + "[" * 100_000 + "]" * 100_000, 1), "deeper than 40"),
        (lambda text: text.replace('"origin": {}', '"origin": ' + '{"a":' * 60 + "1" + "}" * 60, 1), "deeper than 40"),
        (lambda text: text.replace('"origin": {}', '"origin": {"x": [' + "[]," * 500_000 + "1]}", 1), "expected at most 400,000"),
        (lambda text: text + " " * (5 << 20), "expected at most 4,194,304"),
        (lambda text: text.replace('"vouched"', '"\\ud800"', 1), "which is no Unicode"),
        (lambda text: text.replace('"vouched"', '"\\u001b[2J"', 1), "without control characters"),
        (lambda text: text.replace('"width": 16', '"width": 16.0', 1), "preprocess.width is 16.0, expected a whole number"),
        (lambda text: text.replace('"width": 16', '"width": 1000000', 1), "preprocess: a model input of 1000000 x 16 px"),
        (lambda text: text.replace('"width": 16', '"width": 16, "tint": 3', 1), "preprocess.tint is an unknown key"),
        (lambda text: text.replace('"golden": 4', '"golden": 1000000', 1), "golden is 1000000, expected a number from 0 to 1000"),
        (lambda text: text.replace('"score_error": 0.0', '"score_error": -1', 1), "engines[0].parity.score_error is -1"),
        (lambda text: text.replace('"family": "patchcore",', "", 1), "family is missing"),
        (lambda text: text.replace("\n        16,", "\n        99999999999,", 1), "has the shape"),
        (lambda text: text.replace('"good",', '"fine",', 1), "golden_kinds[0] is \"fine\", expected one of 'good', 'defect'"),
    ],
)
def test_a_manifest_that_is_not_strict_json_of_the_right_kinds_is_refused_by_key(
    bundle: Path, change: Callable[[str], str], told: str
) -> None:
    changed(bundle, change)
    assert told in refused(bundle)


# What the golden frames unfold to


def npz(bundle: Path, **arrays: bytes) -> None:
    with zipfile.ZipFile(bundle / "golden/reference.npz", "w", zipfile.ZIP_DEFLATED) as stored:
        for name, content in arrays.items():
            stored.writestr(f"{name}.npy", content)
    listed_anew(bundle, "golden/reference.npz")


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def declared(shape: str, kind: str = "<f4", order: str = "False") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


SCORES = npy(np.ones(4, np.float32))
MAPS = npy(np.ones((4, 16, 16), np.float32))


@pytest.mark.parametrize(
    ("scores", "maps", "told"),
    [
        (SCORES, declared("(4, 160000, 160000)"), "maps declares 409,600,000,000 bytes, expected at most"),
        (declared("(100000000000,)"), MAPS, "scores declares 400,000,000,000 bytes"),
        (SCORES, declared("(4, 4000, 16000)"), "maps declares 1,024,000,000 bytes and holds 0"),
        (SCORES, declared("(4, -16, -16)"), "golden/reference.npz"),
        (SCORES, declared("(4, 0, 16)"), "golden/reference.npz"),
        (SCORES, MAPS + bytes(4), "holds more"),
        (SCORES, MAPS[:-1], "holds 4095"),
        (SCORES, npy(np.ones((4, 16, 16), np.float64)), "maps is <f8 of shape"),
        (SCORES, npy(np.ones((4, 256), np.float32)), "expected float32 (<f4) of 3 dimensions"),
        (SCORES, npy(np.ones((3, 16, 16), np.float32)), "4 scores and 3 maps, expected 4 of each"),
        (SCORES, npy(np.ones((4, 8, 8), np.float32)), "maps of 8 x 8, expected 16 x 16 or more"),
        (npy(np.array([1, 2, 3, np.nan], np.float32)), MAPS, "not finite"),
        (declared("(4,)", kind="|O"), MAPS, "scores is |O of shape"),
        (b"", MAPS, "golden/reference.npz"),
        (declared("(4, (("), MAPS, "its header is not as NumPy writes it"),
        (b"\x93NUMPY\x09\x00", MAPS, "golden/reference.npz"),
        (declared("__import__('os')"), MAPS, "golden/reference.npz"),
        (SCORES, declared("(4, 16, 16)", order="True") + bytes(4096), "Fortran"),
    ],
)
def test_stored_answers_are_read_only_when_they_are_what_they_declare(
    bundle: Path, scores: bytes, maps: bytes, told: str
) -> None:
    npz(bundle, scores=scores, maps=maps)
    assert told in refused(bundle)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"not a zip" * 100])
def test_stored_answers_that_are_no_archive_are_refused(bundle: Path, content: bytes) -> None:
    (bundle / "golden/reference.npz").write_bytes(content)
    listed_anew(bundle, "golden/reference.npz")
    assert "golden/reference.npz" in refused(bundle)


@pytest.mark.parametrize(
    ("size", "told"),
    [((16, 32), "000.png is 32 x 16 px, expected 16 x 16"), ((1, 1), "is 1 x 1 px")],
)
def test_a_golden_frame_of_another_size_is_refused(bundle: Path, size: tuple[int, int], told: str) -> None:
    cv2.imwrite(str(bundle / "golden/000.png"), np.zeros((*size, 3), np.uint8))
    listed_anew(bundle, "golden/000.png")
    assert told in refused(bundle)


@pytest.mark.parametrize("name", ["golden/000.png", "golden/camera/000.png"])
def test_a_picture_that_declares_billions_of_pixels_is_refused_before_it_is_unpacked(bundle: Path, name: str) -> None:
    file = bundle / name
    content = bytearray(file.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    file.write_bytes(content)
    listed_anew(bundle, name)
    with pytest.raises(EdgeadError, match="is 60000 x 60000 px, expected"):
        opened = Bundle.open(bundle)
        opened.golden()
        opened.camera_golden(0)


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(60), b"\x89PNG\r\n\x1a\n"])
def test_a_golden_frame_that_is_no_png_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "golden/001.png").write_bytes(content)
    listed_anew(bundle, "golden/001.png")
    assert "golden/001.png is no PNG" in refused(bundle)


def test_a_damaged_png_is_refused(bundle: Path) -> None:
    content = (bundle / "golden/001.png").read_bytes()
    (bundle / "golden/001.png").write_bytes(content[: len(content) // 3])
    listed_anew(bundle, "golden/001.png")
    with pytest.raises(BundleError, match=r"golden/001\.png"):
        Bundle.open(bundle).golden()


# The station file


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: " + "[" * 5000 + "]" * 5000, "nested"),
        ("a: " + "{a: " * 60 + "1" + "}" * 60, "nested deeper than 40"),
        ("#" * (1 << 21), "expected at most 1,048,576"),
        ('name: "\\ud800"', "characters that no text has"),
        ('name: "\\0"', "characters that no text has"),
        ("? [a, b]\n: c", "a key is not a plain word"),
        ("name: " + "9" * 5000, "cannot be read"),
        ("&a a: [*a]\n", "line 1"),
    ],
)
def test_a_station_file_that_unfolds_is_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    from edgead.config.reading import read_station
    from edgead.errors import BadInput

    (tmp_path / "station.yaml").write_text(text)
    with pytest.raises(BadInput) as caught:
        read_station(tmp_path / "station.yaml")
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_station_file_that_is_a_fifo_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "station.yaml")
    command = [sys.executable, "-m", "edgead", "station", "check", tmp_path / "station.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "a FIFO, not a regular file" in done.stderr


MEASURED = {
    "threshold": {"value": 200.0, "of mine": 1},
    "search": {
        "chosen": {"name": "a"},
        "candidates": [{"name": "a", "chosen": True, "accuracy": {"auroc": 1.0, "auroc_change": 0}}],
    },
    "guard": [{"engines": {}, "keep_float": [], "steps": []}],
    "refused": [{"engine": "a", "why": "w", "hint": "h"}],
    "of another tool": {"x": [1]},
}


def measured(bundle: Path, found: object) -> None:
    data = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**data, "measured": found}))


def test_what_was_measured_may_say_less_or_more_than_this_edgead_does_and_stays(bundle: Path) -> None:
    measured(bundle, MEASURED)
    opened = Bundle.open(bundle)
    assert opened.manifest.measured.threshold is not None and opened.manifest.measured.threshold.value == 200.0
    assert opened.manifest.measured.search.taken is not None
    rewrite_manifest(opened, opened.manifest)
    written = json.loads((bundle / "manifest.json").read_text())["measured"]
    assert (written["of another tool"], written["threshold"]) == ({"x": [1]}, MEASURED["threshold"])
    assert Bundle.open(bundle).manifest == opened.manifest


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threshold": {}}, "measured.threshold.value is missing"),
        ({"threshold": {"value": "200"}}, 'measured.threshold.value is "200", expected a number'),
        ({"guard": {}}, "measured.guard is an object of 0, expected a list"),
        ({"guard": [{"engines": {}, "keep_float": []}]}, "measured.guard[0].steps is missing"),
        ({"search": None}, "measured.search is null, expected an object"),
        ({"search": {"chosen": {"name": "a", "threads": "2"}}}, 'measured.search.chosen.threads is "2", expected a whole number'),
        ({"search": {"candidates": [{"name": "a", "chosen": True}]}}, "measured.search.candidates[0].accuracy is missing"),
        ({"refused": [{"engine": "a", "why": "w"}]}, "measured.refused[0].hint is missing"),
        ({"threads": 0}, "measured.threads is 0, expected a number from 1 to 4096"),
        ({"auroc": 2.0}, "measured.auroc is 2.0, expected a number from 0 to 1"),
        ({"literal": {"a": {"frames": 1}}}, "measured.literal.a.score_error is missing"),
        ({"choice": {"least_ms": {"a": -1}}}, "measured.choice.least_ms.a is -1"),
    ],
)
def test_what_is_damaged_in_it_is_told_by_its_place(bundle: Path, change: dict[str, object], told: str) -> None:
    measured(bundle, MEASURED | change)
    assert told in refused(bundle)
