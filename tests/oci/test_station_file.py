"""A station file names its bundle by address and digest; what runs is the copy on the box, and the start needs no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.config.reading import read_station
from edgead.oci import kept
from edgead.oci.address import OciAddress
from edgead.passwords import is_plain
from edgead.runtime.redact import redact_text
from tests.servers.registry import Registry
from tests.vouched import picture

DIGEST = "sha256:" + "5" * 64
Edgead = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def edgead(capsys: pytest.CaptureFixture[str]) -> Edgead:
    """Exit code, standard output, and what was told, in one line."""

    def call(*arguments: object) -> tuple[int, Any, str]:
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, " ".join(shown.err.split())

    return call


@pytest.fixture
def pinned(registry: Registry, new: Path, edgead: Edgead) -> str:
    _, out, _ = edgead("push", new, f"oci://{registry.host}/line.3/bolt:2", "--json")
    return str(json.loads(out)["pinned"])


def station(folder: Path, bundle: str, more: str = "", trusted: Path | None = None) -> Path:
    (folder / "pictures").mkdir(exist_ok=True)
    for i, defect in enumerate((False, True)):
        cv2.imwrite(str(folder / f"pictures/{i}.png"), picture(5 + i, defect))
    keys = f"trusted: ['{trusted}']\n" if trusted else ""
    file = folder / "station.yaml"
    camera = f"  - {{name: top, address: '{folder}/pictures', {bundle}}}"
    file.write_text(f"name: line\n{keys}cameras:\n{camera}\nstorage: {{folder: data}}\n{more}")
    return file


def test_pulled_once_it_starts_without_a_network(
    pinned: str, new: Path, key: Path, registry: Registry, tmp_path: Path, edgead: Edgead
) -> None:
    file = station(tmp_path, f"bundle: '{pinned}'", trusted=key)
    for verb in (("station", "check"), ("run",)):
        code, _, told = edgead(*verb, file)
        assert code == 3 and f"{pinned} is not on this machine" in told and f"edgead pull {pinned}" in told
    assert edgead("pull", "--station", file)[0] == 0
    place = kept.place(OciAddress.parse(pinned))
    assert Bundle.open(place).digest == Bundle.open(new).digest and place.name == "bolt.edgead"
    registry.kill()
    try:
        code, out, _ = edgead("station", "check", file)
        assert code == 0 and "is right" in out
        assert edgead("run", file)[0] == 0
        code, out, _ = edgead("pull", "--station", file)
        assert code == 0 and "is here already" in out
    finally:
        registry.start()
    assert edgead("run", file)[0] == 0
    code, out, _ = edgead("records", tmp_path / "data/top", "--summary", "--json")
    assert json.loads(out)["verdicts"] == {"NG": 2, "OK": 2}


def test_recipes_fallback_and_shadow_are_named_so_too(pinned: str, tmp_path: Path, edgead: Edgead) -> None:
    place = kept.place(OciAddress.parse(pinned))
    file = station(tmp_path, f"recipes: {{1: '{pinned}', 2: {{bundle: '{pinned}', sha256: {'a' * 64}}}}}")
    (camera,) = read_station(file).cameras
    assert [path for path, _ in camera.bundles] == [place, place]
    file = station(tmp_path, f"bundle: other.edgead, fallback_bundle: '{pinned}', shadow: '{pinned}'")
    assert read_station(file).cameras[0].all_bundles == (tmp_path / "other.edgead", place, place)
    assert edgead("pull", "--station", file)[0] == 0
    assert place.is_dir()


@pytest.mark.parametrize(
    "address, told",
    [
        (f"oci://registry.plant/bolt:3@{DIGEST}", ""),
        ("oci://registry.plant/bolt:3", "has no digest"),
        ("oci://registry.plant/Bolt", "is not the address of a bundle"),
        ("oci:registry.plant/bolt", "is not the address of a bundle"),
        (f"oci://me@registry.plant/bolt@{DIGEST}", "no user and no password"),
    ],
)
def test_the_file_says_by_its_line_what_is_wrong_with_an_address(address: str, told: str, tmp_path: Path, edgead: Edgead) -> None:
    code, _, err = edgead("station", "check", station(tmp_path, f"bundle: '{address}'"))
    if told:
        assert code == 2 and "station.yaml, line 3" in err and told in err
    else:
        assert code == 3 and f"oci://registry.plant/bolt@{DIGEST} is not on this machine" in err  # the digest alone counts


def test_a_password_in_the_file_is_refused_as_anywhere(tmp_path: Path, edgead: Edgead) -> None:
    code, _, err = edgead("station", "check", station(tmp_path, f"bundle: 'oci://me:hunter2@registry.plant/bolt@{DIGEST}'"))
    assert code == 2 and "a password stands in the file" in err and "hunter2" not in err


def test_pins_are_no_passwords_and_passwords_beside_pins_are_hidden() -> None:
    pinned = f"oci://registry.plant:5000/line/bolt:v7@{DIGEST}"
    assert redact_text(f"{pinned} is gone") == f"{pinned} is gone" and not is_plain("bundle", pinned)
    assert redact_text(f"oci://me:hunter2@r/b@{DIGEST}") == f"oci://***@r/b@{DIGEST}"
    assert is_plain("bundle", f"oci://me:hunter2@r/b@{DIGEST}")


def test_a_copy_that_was_changed_is_refused(pinned: str, old: Path, tmp_path: Path, edgead: Edgead) -> None:
    file = station(tmp_path, f"bundle: '{pinned}'")
    assert edgead("pull", pinned)[0] == 0
    place = kept.place(OciAddress.parse(pinned))
    manifest = place.parent / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b"bolt", b"nuts") if b"bolt" in whole else whole + b" ")
    code, _, told = edgead("station", "check", file)
    assert code == 3 and "is damaged: it is not what its digest says" in told and f"edgead pull {pinned}" in told
    assert edgead("pull", pinned)[0] == 0 and edgead("station", "check", file)[0] == 0  # mended
    (place / "manifest.json").write_bytes((old / "manifest.json").read_bytes())
    code, _, told = edgead("station", "check", file)
    assert code == 3 and "is not the bundle that is wanted" in told
    assert edgead("pull", pinned)[0] == 0 and edgead("station", "check", file)[0] == 0


def test_a_pin_beside_the_address_must_be_of_the_same_bundle(pinned: str, new: Path, tmp_path: Path, edgead: Edgead) -> None:
    assert edgead("pull", pinned)[0] == 0
    digest = Bundle.open(new).digest
    assert edgead("station", "check", station(tmp_path, f"bundle: '{pinned}', sha256: {digest}"))[0] == 0
    code, _, told = edgead("station", "check", station(tmp_path, f"bundle: '{pinned}', sha256: {'a' * 64}"))
    assert code == 3 and f"is the bundle {digest}, and sha256 asks for" in told


def test_options_that_do_not_apply_and_files_without_addresses_are_refused(tmp_path: Path, edgead: Edgead) -> None:
    file = station(tmp_path, "bundle: other.edgead")
    code, _, told = edgead("pull", "--station", file)
    assert code == 2 and "names no bundle as oci://" in told
    assert edgead("pull", "--station", file, "-o", "x")[0] == 2
    assert edgead("pull", f"oci://r/b@{DIGEST}", "--station", file)[0] == 2


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({"EDGEAD_BUNDLES": "/a", "STATE_DIRECTORY": "/b"}, "/a"),
        ({"STATE_DIRECTORY": "/var/lib/edgead:/other", "XDG_DATA_HOME": "/c"}, "/var/lib/edgead/bundles"),
        ({"XDG_DATA_HOME": "/c"}, "/c/edgead/bundles"),
    ],
)
def test_where_bundles_are_kept(environ: dict[str, str], expected: str) -> None:
    assert kept.folder(environ) == Path(expected)
