"""What a bundle vouches for: recipe, thresholds, digest and signature, at verify, at run and in a station file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.bundle import Bundle, Chosen, Threshold
from edgead.cli.main import main
from edgead.errors import BundleError, BundleMismatch, StorageError
from edgead.signing import read_trusted
from tests.vouched import NG_FROM, RECIPE, picture, write_vouched

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_vouched(tmp_path / "part.edgead")


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A folder of pictures of the line: one good, one with a defect."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, defect in enumerate((False, True)):
        cv2.imwrite(str(folder / f"{i}.png"), picture(5 + i, defect))
    return folder


def tamper(bundle: Path, change: Change) -> None:
    """Change the manifest as somebody would who wants it to look right."""
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data, indent=2) + "\n")


def edgead(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return code, shown.out, " ".join(shown.err.split())


def run(capsys: pytest.CaptureFixture[str], bundle: Path, line: Path, *more: object) -> tuple[int, str, str]:
    """Exit code, the verdicts, and what was told."""
    records = bundle.parent / "records.jsonl"
    records.unlink(missing_ok=True)
    code, _, err = edgead(capsys, "run", bundle, "--camera", line, "--records", records, *more)
    lines = records.read_text().splitlines() if records.exists() else []
    return code, " ".join(json.loads(one)["verdict"] for one in lines), err


def a_threshold_out_of_reach(data: dict[str, Any]) -> None:
    record = data["engines"][0]
    record["threshold"] = {"value": 1e9, "method": "exponential tail over 40 good scores"}
    record["history"] = [{"value": 1e9, "method": "as it was"}]
    data["measured"]["threshold"]["value"] = 1e9


def a_threshold_just_above_all_defects(data: dict[str, Any]) -> None:
    record = data["engines"][0]
    record["history"] = [record["threshold"]]
    record["threshold"] = {"value": 240.0, "method": "by hand", "chosen": {"tool": "edgead threshold", "at": "2026-01-02"}}


def another_region(data: dict[str, Any]) -> None:
    data["preprocess"]["roi"] = [0, 0, 32, 32]


def a_region_out_of_the_picture(data: dict[str, Any]) -> None:
    data["preprocess"]["roi"] = [400, 400, 64, 64]


def a_region_a_little_aside(data: dict[str, Any]) -> None:
    data["preprocess"]["roi"][0] += 2


def another_resize(data: dict[str, Any]) -> None:
    data["preprocess"]["resize"] = "linear"


def no_region(data: dict[str, Any]) -> None:
    data["preprocess"]["roi"] = None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (a_threshold_out_of_reach, "lies far beyond all golden answers"),
        (a_threshold_just_above_all_defects, "none of the 2 golden defects is NG at 240, by the export's threshold 2 are"),
        (another_region, "does not make of golden camera picture 0 what it made at export"),
        (a_region_out_of_the_picture, "does not fit its own golden camera picture"),
        (a_region_a_little_aside, "does not make of golden camera picture"),
        (another_resize, "does not make of golden camera picture"),
        (no_region, "does not make of golden camera picture"),
    ],
)
@pytest.mark.promise("repeats on the device, recipe and threshold included")
def test_a_changed_recipe_or_a_threshold_beyond_all_defects_passes_neither_verify_nor_run_nor_check(
    bundle: Path, line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, told: str
) -> None:
    assert edgead(capsys, "verify", bundle)[0] == 0
    assert run(capsys, bundle, line)[1] == "OK NG"
    tamper(bundle, change)
    for code, _, err in (edgead(capsys, "verify", bundle), run(capsys, bundle, line)):
        assert code == 4
        assert told in err
    if "golden camera" not in told:
        assert told in " ".join(edgead(capsys, "inspect", bundle)[1].split())
        station = write_station(tmp_path, f"bundle: {bundle}")
        assert edgead(capsys, "station", "check", station)[0] == 4


def test_a_bundle_from_before_kinds_and_camera_pictures_opens_verifies_and_still_tells_a_threshold_out_of_reach(
    tmp_path: Path, line: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write_vouched(tmp_path / "old.edgead", golden_kinds=(), golden_camera=())
    shutil.rmtree(old / "golden/camera")

    def as_before(data: dict[str, Any]) -> None:
        del data["golden_kinds"], data["golden_camera"]
        data["files"] = {name: digest for name, digest in data["files"].items() if "camera" not in name}

    tamper(old, as_before)
    assert edgead(capsys, "verify", old)[0] == 0
    assert run(capsys, old, line)[0] == 0
    tamper(old, a_threshold_just_above_all_defects)
    assert edgead(capsys, "verify", old)[0] == 4


def test_a_model_that_never_found_a_defect_is_told_and_not_refused(
    tmp_path: Path, line: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def weak(data: dict[str, Any]) -> None:
        data["measured"]["threshold"]["value"] = data["engines"][0]["threshold"]["value"] = 250.0

    bundle = write_vouched(tmp_path / "weak.edgead")
    tamper(bundle, weak)
    code, out, _ = edgead(capsys, "verify", bundle)
    assert code == 0
    assert "nor was at export: this model may find nothing" in " ".join(out.split())
    assert run(capsys, bundle, line)[0] == 0


def test_a_threshold_by_hand_above_all_defects_is_told_and_taken(
    bundle: Path, line: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, bundle, line, "--threshold", 245)
    assert code == 0
    assert "none of the 2 golden defects is NG at 245" in err


def test_threshold_warns_that_verify_and_run_will_refuse(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = edgead(capsys, "threshold", bundle, "--set", 240)
    assert code == 0
    assert "none of the 2 golden defects is NG at 240" in " ".join(out.split())
    assert edgead(capsys, "verify", bundle)[0] == 4
    assert edgead(capsys, "threshold", bundle, "--undo")[0] == 0
    assert edgead(capsys, "verify", bundle)[0] == 0


def test_a_looser_threshold_that_still_finds_one_defect_passes(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    highest = max(Bundle.open(bundle).golden().reference.scores)
    assert edgead(capsys, "threshold", bundle, "--set", float(highest))[0] == 0
    assert edgead(capsys, "verify", bundle)[0] == 0


def test_the_region_of_a_rule_by_area_that_excludes_every_defect_is_refused(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edgead(capsys, "threshold", bundle, "--by", "area", "--set", NG_FROM, "--region", "include=0.7,0.7,0.3,0.3")[0] == 0
    code, _, err = edgead(capsys, "verify", bundle)
    assert code == 4
    assert "golden defects" in err


# The digest of the whole


def write_station(folder: Path, bundle: str, more: str = "") -> Path:
    file = folder / "station.yaml"
    file.write_text(f"name: line\n{more}\ncameras:\n  - name: top\n    address: sim:fps=50\n    {bundle}\n")
    return file


def test_inspect_prints_the_digest_which_is_that_of_the_manifest(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    assert Bundle.open(bundle).digest == digest
    assert digest in edgead(capsys, "inspect", bundle)[1]
    assert json.loads(edgead(capsys, "inspect", bundle, "--json")[1])["sha256"] == digest


@pytest.mark.parametrize(
    "named",
    [
        "{{bundle: {0}, sha256: {1}}}",
        "{{recipes: {{1: {{bundle: {0}, sha256: {1}}}}}}}",
        "{{bundle: {0}, fallback_bundle: {0}, fallback_sha256: {1}}}",
    ],
)
def test_a_station_file_takes_only_the_bundle_whose_digest_it_names(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    digest = Bundle.open(bundle).digest
    file = tmp_path / "station.yaml"
    camera = named.format(bundle, digest).removeprefix("{").removesuffix("}")
    file.write_text(f"name: line\ncameras:\n  - {{name: top, address: 'sim:fps=50', {camera}}}\n")
    assert edgead(capsys, "station", "check", file)[0] == 0
    assert edgead(capsys, "run", file, "--max-parts", 2)[0] == 0
    assert edgead(capsys, "threshold", bundle, "--set", 205)[0] == 0  # a change that nobody put into the station file
    found = Bundle.open(bundle).digest
    for arguments in (("station", "check", file), ("run", file, "--max-parts", 2)):
        code, _, err = edgead(capsys, *arguments)
        assert code == 3
        assert f"its sha256 is {found}, expected {digest}" in err


@pytest.mark.parametrize("pin", ["sha256: 12", "fallback_sha256: " + "0" * 64, "sha256: 12, recipes: {1: a}"])
def test_a_pin_that_pins_nothing_is_refused(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pin: str) -> None:
    file = tmp_path / "station.yaml"
    file.write_text(f"name: line\ncameras:\n  - {{name: top, address: sim, bundle: {bundle}, {pin}}}\n")
    code, _, err = edgead(capsys, "station", "check", file)
    assert code == 2
    assert "sha256" in err or "recipes" in err


# Signatures


@pytest.fixture
def key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert edgead(capsys, "sign", "--new-key", tmp_path / "line.pem")[0] == 0
    return tmp_path / "line.pem"


def sign(capsys: pytest.CaptureFixture[str], bundle: Path, key: Path) -> None:
    code, out, _ = edgead(capsys, "sign", bundle, "--key", key)
    assert code == 0
    assert Bundle.open(bundle).digest in out


@pytest.mark.promise("or by a signature (`edgead sign`, `--trusted`)")
def test_only_a_bundle_signed_by_a_trusted_key_is_taken(
    bundle: Path, line: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = key.with_suffix(".pub")
    station = write_station(tmp_path, f"bundle: {bundle}", f"trusted: [{public}]")

    def all_of_them() -> list[tuple[int, str]]:
        commands: tuple[tuple[object, ...], ...] = (
            ("verify", bundle, "--trusted", public),
            ("inspect", bundle, "--trusted", public),
            ("run", bundle, "--camera", line, "--records", "-", "--trusted", public),
            ("station", "check", station),
            ("run", station, "--max-parts", 1),
        )
        return [(code, err) for code, _, err in (edgead(capsys, *command) for command in commands)]

    assert {code for code, _ in all_of_them()} == {3}
    assert all("is not signed, and only bundles signed by line.pub" in err for _, err in all_of_them())
    sign(capsys, bundle, key)
    assert {code for code, _ in all_of_them()} == {0}
    (bundle / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes() + b"\n")
    assert Bundle.open(bundle)  # as good as before, but not what was signed
    assert all(code == 3 and "manifest.json has changed since it was signed" in err for code, err in all_of_them())


def test_a_bundle_signed_by_somebody_else_is_refused(
    bundle: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edgead(capsys, "sign", "--new-key", tmp_path / "other.pem")[0] == 0
    sign(capsys, bundle, tmp_path / "other.pem")
    with pytest.raises(BundleError, match=r"is not signed by line\.pub"):
        Bundle.open(bundle, trusted=read_trusted([key.with_suffix(".pub")]))
    both = read_trusted([key.with_suffix(".pub"), tmp_path / "other.pub"])
    signed_by = Bundle.open(bundle, trusted=both).signed_by
    assert signed_by is not None and signed_by.file == tmp_path / "other.pub"


@pytest.mark.parametrize("content", [b"", b"x" * 63, b"x" * 64, b"x" * 65])
def test_a_signature_that_is_none_is_refused(bundle: Path, key: Path, content: bytes) -> None:
    (bundle / "manifest.json.sig").write_bytes(content)
    with pytest.raises(BundleError, match="sig"):
        Bundle.open(bundle, trusted=read_trusted([key.with_suffix(".pub")]))


def test_what_changes_the_bundle_takes_its_signature_away_and_says_so(
    bundle: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign(capsys, bundle, key)
    code, out, _ = edgead(capsys, "threshold", bundle, "--set", 205)
    assert code == 0
    assert "edgead sign it again" in " ".join(out.split())
    assert edgead(capsys, "verify", bundle, "--trusted", key.with_suffix(".pub"))[0] == 3
    assert not (bundle / "manifest.json.sig").exists()
    sign(capsys, bundle, key)
    assert edgead(capsys, "verify", bundle, "--trusted", key.with_suffix(".pub"))[0] == 0


def test_openssl_checks_the_signature_and_makes_keys_that_sign(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    pem, public = tmp_path / "own.pem", tmp_path / "own.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", pem], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", pem, "-pubout", "-out", public], check=True, capture_output=True)
    sign(capsys, bundle, pem)
    assert Bundle.open(bundle, trusted=read_trusted([public])).signed_by is not None
    files = ["-in", bundle / "manifest.json", "-sigfile", bundle / "manifest.json.sig"]
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", *files]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_new_key_is_secret_and_never_overwrites_one(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    code, _, err = edgead(capsys, "sign", "--new-key", key)
    assert (code, key.read_bytes()) == (2, before)
    assert "is there already" in err


@pytest.mark.parametrize("kind", ["missing", "text", "fifo", "public", "rsa", "encrypted"])
def test_a_key_that_cannot_sign_is_refused_without_showing_it(
    bundle: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    file = tmp_path / "odd.pem"
    if kind == "text":
        file.write_text("hunter2")
    elif kind == "fifo":
        subprocess.run(["mkfifo", file], check=True)
    elif kind == "public":
        shutil.copy(key.with_suffix(".pub"), file)
    elif kind != "missing":
        made = ed25519.Ed25519PrivateKey.generate() if kind == "encrypted" else rsa.generate_private_key(65537, 2048)
        locked = s.BestAvailableEncryption(b"hunter2") if kind == "encrypted" else s.NoEncryption()
        file.write_bytes(made.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, locked))
    code, _, err = edgead(capsys, "sign", bundle, "--key", file)
    assert code == 2
    assert "odd.pem" in err and "hunter2" not in err
    assert not (bundle / "manifest.json.sig").exists()


def test_signing_a_bundle_that_is_not_writable_is_a_storage_error(
    bundle: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgead import disk
    from edgead.bundle import sign_bundle

    def refuse(file: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    opened = Bundle.open(bundle)
    monkeypatch.setattr(disk, "write_file", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        sign_bundle(opened, key, lambda: "")


def test_the_pin_is_checked_before_anything_else_is_read(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("not a manifest")
    with pytest.raises(BundleMismatch, match="is not the bundle that is wanted"):
        Bundle.open(bundle, sha256="0" * 64)


# What export writes


def test_export_keeps_kinds_and_camera_pictures_from_which_the_recipe_makes_the_golden_frames(tiny: Any) -> None:
    opened = Bundle.open(tiny.bundle())
    manifest = opened.manifest
    assert set(manifest.golden_kinds) == {"good", "defect"}
    assert 1 <= len(manifest.golden_camera) <= 3
    golden = opened.golden()
    for index in manifest.golden_camera:
        assert np.array_equal(manifest.preprocess.apply(opened.camera_golden(index)), golden.images[index])
    assert RECIPE.roi is not None


def test_history_of_the_export_is_what_golden_defects_are_judged_by_whatever_the_line_chose(bundle: Path) -> None:
    from edgead.engines.golden import reach

    opened = Bundle.open(bundle)
    record = opened.manifest.engine()
    chosen = Threshold(300.0, "by hand", chosen=Chosen("edgead threshold", "2026-01-02T00:00:00+00:00"))
    found = reach(opened, record.changed(chosen), opened.golden())
    assert (found.defects, found.caught, found.before) == (2, 0, 2)
    assert found.fault
    assert dataclasses.replace(found, caught=1).fault == ""
