"""Bundles to a registry and back: the same bytes, or one clear line and everything as it was."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgead import versions
from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.oci.address import OciAddress
from edgead.oci.artefact import EMPTY, MANIFEST_TYPE, Blob, digest_of
from edgead.oci.remote import Remote
from tests.cli.test_run import write_bundle
from tests.runtime.disks import fill
from tests.servers.files import Served, file_server
from tests.servers.registry import PASSWORD, USER, Registry, registry_is_missing
from tests.servers.relay import StallingRelay
from tests.waiting import until

Edgead = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def edgead(capsys: pytest.CaptureFixture[str]) -> Edgead:
    """Exit code, what --json printed (None where nothing was), and what was told, in one line."""

    def call(*arguments: object) -> tuple[int, Any, str]:
        code = main([*map(str, arguments), "--json"])
        shown = capsys.readouterr()
        return code, json.loads(shown.out) if shown.out else None, " ".join(shown.err.split())

    return call


def content(folder: Path) -> dict[str, bytes]:
    """All files."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture
def pushed(registry: Registry, old: Path, new: Path, edgead: Edgead, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The pinned addresses of `old` and `new`, in a repository of the test's own."""
    where = f"oci://{registry.host}/line/{request.node.name.partition('[')[0].lower()}"
    found = []
    for tag, bundle in (("1", old), ("2", new)):
        code, done, _ = edgead("push", bundle, f"{where}:{tag}")
        assert code == 0
        found.append(done["pinned"])
    return found[0], found[1]


@pytest.fixture
def here(tmp_path: Path, pushed: tuple[str, str], edgead: Edgead) -> Iterator[Path]:
    """A box's bundle: `old`. Whatever the test does, a failed pull leaves nothing beside it."""
    target = tmp_path / "box/bolt.edgead"
    assert edgead("pull", pushed[0], "-o", target)[0] == 0
    yield target
    assert {path.name for path in target.parent.iterdir()} <= {"bolt.edgead", "bolt.edgead.versions"}


@contextmanager
def layer_of(registry: Registry, pinned: str) -> Iterator[Path]:
    """The file of a bundle's layer, which is put back afterwards."""
    manifest = json.loads(registry.blob(pinned.partition("@")[2]).read_bytes())
    file = registry.blob(manifest["layers"][0]["digest"])
    whole = file.read_bytes()
    try:
        yield file
    finally:
        file.write_bytes(whole)


def test_what_comes_back_is_what_went_and_the_one_before_is_kept(
    new: Path, old: Path, pushed: tuple[str, str], here: Path, key: Path, edgead: Edgead
) -> None:
    assert content(here) == content(old)
    code, done, _ = edgead("pull", pushed[1], "-o", here, "--trusted", key, "--verify")
    (one,) = done["bundles"]
    assert (code, one["changed"], one["pinned"]) == (0, True, pushed[1])
    assert content(here) == content(new) and one["sha256"] == Bundle.open(new).digest and one["signed_by"]
    assert [content(version.path) for version in versions.former(here)] == [content(old)]
    assert edgead("bundle", "restore", here)[0] == 0
    assert content(here) == content(old)


def test_what_is_here_is_not_fetched_again_and_what_is_there_is_not_pushed_twice(
    registry: Registry, old: Path, pushed: tuple[str, str], here: Path, edgead: Edgead
) -> None:
    code, done, _ = edgead("pull", pushed[0], "-o", here)
    assert (code, done["bundles"][0]["changed"]) == (0, False)
    assert versions.former(here) == []
    address = OciAddress.parse(pushed[0])
    again = edgead("push", old, f"oci://{address.registry}/{address.repository}:other")[1]
    assert again["pinned"] == pushed[0]  # the same bundle makes the same bytes


def test_a_signature_that_came_later_is_fetched(
    old: Path, new: Path, pushed: tuple[str, str], tmp_path: Path, edgead: Edgead
) -> None:
    target = tmp_path / "bolt.edgead"
    assert edgead("pull", pushed[1], "-o", target)[0] == 0
    (target / "manifest.json.sig").unlink()
    code, done, _ = edgead("pull", pushed[1], "-o", target)
    assert (code, done["bundles"][0]["changed"], Bundle.open(target).is_signed) == (0, True, True)


def test_a_file_is_readable_by_the_service_whoever_pulled_it(pushed: tuple[str, str], tmp_path: Path, edgead: Edgead) -> None:
    before = os.umask(0o077)
    try:
        assert edgead("pull", pushed[0], "-o", tmp_path / "bolt.edgead")[0] == 0
    finally:
        os.umask(before)
    for path in (tmp_path / "bolt.edgead", *(tmp_path / "bolt.edgead").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_an_unsigned_bundle_is_refused_where_signatures_are_asked_for(
    old: Path, pushed: tuple[str, str], here: Path, key: Path, tmp_path: Path, edgead: Edgead
) -> None:
    code, _, told = edgead("pull", pushed[0], "-o", tmp_path / "other/bolt.edgead", "--trusted", key)
    assert code == 3 and f"{pushed[0]} is not signed, and only bundles signed by line.pub" in told and "push it again" in told
    assert not (tmp_path / "other/bolt.edgead").exists()
    assert edgead("pull", pushed[0], "-o", here, "--trusted", key)[0] == 3
    assert content(here) == content(old)
    assert edgead("push", old, pushed[0].partition("@")[0] + ":3", "--trusted", key)[0] == 3


def test_a_bundle_that_does_not_answer_here_as_it_should_never_takes_the_place(
    registry: Registry, old: Path, here: Path, tmp_path: Path, edgead: Edgead
) -> None:
    wrong = write_bundle(tmp_path / "wrong.edgead", wrong_by=90.0)
    address = f"oci://{registry.host}/line/wrong:1"
    code, done, _ = edgead("push", wrong, address)
    assert code == 0
    code, _, told = edgead("pull", address, "-o", here, "--verify")
    assert code == 4 and "does not answer here as the trained model did" in told
    assert content(here) == content(old)
    for target in (["-o", tmp_path / "wrong/bolt.edgead"], []):  # also when it is here already, by a pull that did not ask
        where = address if target else done["pinned"]
        assert edgead("pull", where, *target)[0] == 0
        assert edgead("pull", where, *target, "--verify")[0] == 4


def test_a_tampered_layer_is_refused_by_its_digest(
    registry: Registry, pushed: tuple[str, str], here: Path, old: Path, edgead: Edgead
) -> None:
    with layer_of(registry, pushed[1]) as layer:
        spoilt = bytearray(layer.read_bytes())
        spoilt[len(spoilt) // 2] ^= 1
        layer.write_bytes(spoilt)
        code, _, told = edgead("pull", pushed[1], "-o", here)
    assert code == 3 and "a layer is not what its digest says" in told
    assert content(here) == content(old)


def test_a_cut_layer_is_refused(registry: Registry, pushed: tuple[str, str], here: Path, old: Path, edgead: Edgead) -> None:
    with layer_of(registry, pushed[1]) as layer:
        layer.write_bytes(layer.read_bytes()[:5000])
        code, _, told = edgead("pull", pushed[1], "-o", here)
    assert code == 5 and "broke off after 5,000 of" in told and "try again" in told
    assert content(here) == content(old)


def test_a_layer_that_is_longer_than_told_ends_at_its_length(
    registry: Registry, pushed: tuple[str, str], here: Path, old: Path, edgead: Edgead
) -> None:
    with layer_of(registry, pushed[1]) as layer:
        layer.write_bytes(layer.read_bytes() + bytes(1 << 20))
        code, _, told = edgead("pull", pushed[1], "-o", here)
    assert code == 3 and "is longer than its" in told
    assert content(here) == content(old)


def test_another_manifest_than_the_pinned_one_is_refused(
    registry: Registry, pushed: tuple[str, str], here: Path, old: Path, edgead: Edgead
) -> None:
    manifest = registry.blob(pushed[1].partition("@")[2])
    whole = manifest.read_bytes()
    try:
        manifest.write_bytes(registry.blob(pushed[0].partition("@")[2]).read_bytes())  # whole, but of the old bundle
        code, _, told = edgead("pull", pushed[1], "-o", here)
    finally:
        manifest.write_bytes(whole)
    assert code in (3, 5) and pushed[1] in told
    assert content(here) == content(old)


@pytest.mark.parametrize("ending", [":none", "@sha256:" + "0" * 64])
def test_what_the_registry_does_not_have_is_told(registry: Registry, here: Path, old: Path, edgead: Edgead, ending: str) -> None:
    address = f"oci://{registry.host}/line/bolt{ending}"
    code, _, told = edgead("pull", address, "-o", here)
    assert code == 5 and f"{address} is not there" in told
    assert content(here) == content(old)


def test_an_image_of_somebody_else_is_no_bundle(registry: Registry, here: Path, tmp_path: Path, edgead: Edgead) -> None:
    address = OciAddress.parse(f"oci://{registry.host}/line/image:1")
    blob = Blob(digest_of(EMPTY), len(EMPTY))
    (tmp_path / "empty").write_bytes(EMPTY)
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob.digest, "size": blob.size}
    image = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": []}
    with Remote(address) as remote:
        remote.upload(tmp_path / "empty", blob)
        remote.publish(json.dumps(image).encode())
    code, _, told = edgead("pull", address, "-o", here)
    assert code == 3 and "is something else, not a bundle of edgead" in told and "edgead push" in told


def test_a_registry_that_is_down_is_told_at_once(here: Path, old: Path, edgead: Edgead) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for arguments in (("pull", f"oci://127.0.0.1:{port}/a/b:1", "-o", here), ("push", old, f"oci://127.0.0.1:{port}/a/b:1")):
        code, _, told = edgead(*arguments)
        assert code == 5 and f"oci://127.0.0.1:{port}/a/b:1 cannot be reached: Connection refused" in told
    assert content(here) == content(old)


def test_a_server_that_is_no_registry_is_told(here: Path, old: Path, edgead: Edgead) -> None:
    with file_server({}) as url:
        code, _, told = edgead("pull", url.replace("http:", "oci:") + "/a:1", "-o", here)
    assert code == 5 and "is not there" in told and content(here) == content(old)


def test_a_pull_that_is_killed_leaves_the_old_one_and_the_next_one_cleans_up(
    registry: Registry, pushed: tuple[str, str], here: Path, old: Path, new: Path, edgead: Edgead
) -> None:
    with StallingRelay(registry.port) as relay:
        relay.bytes_per_s = 50_000.0
        through = pushed[1].replace(str(registry.port), str(relay.port))
        command = [sys.executable, "-m", "edgead", "pull", through, "-o", str(here)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            until(lambda: any(half.stat().st_size for half in here.parent.glob(".bolt.edgead.*/.layer.tar")), what="half a layer")
            process.send_signal(signal.SIGKILL)
    left = list(here.parent.glob(".bolt.edgead.*"))
    assert left and content(here) == content(old)
    Bundle.open(here)
    assert edgead("pull", pushed[1], "-o", here)[0] == 0
    assert content(here) == content(new) and not left[0].exists()


def test_a_registry_that_dies_in_mid_pull_costs_the_pull_alone(
    registry: Registry, pushed: tuple[str, str], here: Path, old: Path, edgead: Edgead
) -> None:
    with StallingRelay(registry.port) as relay:
        relay.bytes_per_s = 50_000.0
        through = pushed[1].replace(str(registry.port), str(relay.port))
        answers: list[tuple[int, Any, str]] = []
        puller = threading.Thread(target=lambda: answers.append(edgead("pull", through, "-o", here)), name="test-pull")
        puller.start()
        until(lambda: any(half.stat().st_size for half in here.parent.glob(".bolt.edgead.*/.layer.tar")), what="half a layer")
    puller.join()
    ((code, _, told),) = answers
    assert code == 5 and ("broke off" in told or "cannot be reached" in told)
    assert content(here) == content(old)


def test_no_room_is_told_before_anything_is_fetched(pushed: tuple[str, str], small_disk: Path, edgead: Edgead) -> None:
    code, _, told = edgead("pull", pushed[1], "-o", small_disk / "bolt.edgead")
    assert code == 7 and "no room for" in told and "MiB are free" in told
    assert list(small_disk.iterdir()) == []


def test_no_room_for_the_layer_of_a_push_is_told(
    registry: Registry, old: Path, small_disk: Path, edgead: Edgead, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(small_disk)
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    code, _, told = edgead("push", old, f"oci://{registry.host}/line/full:1")
    assert code == 7 and "the disk is full" in told
    assert edgead("pull", f"oci://{registry.host}/line/full:1", "-o", small_disk / "x.edgead")[0] == 5


@pytest.mark.parametrize(
    "address",
    ["", "oci:/x/y:1", "oci://host", "oci://host/", "oci://host/UPPER:1", "oci://host/a:b/c", "oci://host/a@sha256:12", "oci://host/../a:1",
     "docker://host/a:1", "host/a:1", "oci://ho st/a:1", "oci://host/a:1@sha512:" + "0" * 128, "oci://" + "a" * 999 + "/b:1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path, edgead: Edgead) -> None:
    code, _, told = edgead("pull", address, "-o", tmp_path / "x.edgead")
    assert code == 2 and ("not the address of a bundle in a registry" in told or "empty" in told)


def test_a_password_in_an_address_is_refused_and_not_shown(old: Path, edgead: Edgead) -> None:
    code, _, told = edgead("push", old, "oci://me:hunter2@registry.plant:5000/a/b:1", "--debug")
    assert code == 2 and "no user and no password" in told and "hunter2" not in told


def test_a_push_needs_a_tag_and_a_pull_a_target_or_a_digest(registry: Registry, old: Path, edgead: Edgead) -> None:
    code, _, told = edgead("push", old, f"oci://{registry.host}/line/bolt")
    assert code == 2 and "names no tag" in told
    assert edgead("push", old, f"oci://{registry.host}/line/bolt:1@sha256:{'0' * 64}")[0] == 2
    code, _, told = edgead("pull", f"oci://{registry.host}/line/bolt:1")
    assert code == 2 and "has no digest, and a tag may lead to another bundle tomorrow" in told
    assert edgead("pull")[0] == 2


def test_nothing_of_yours_is_replaced(pushed: tuple[str, str], tmp_path: Path, edgead: Edgead) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    code, _, told = edgead("pull", pushed[0], "-o", tmp_path / "mine")
    assert code == 2 and "exists and is not a bundle" in told
    assert content(tmp_path / "mine") == {"notes.txt": b"mine"}


def test_without_encryption_only_where_it_is_said(
    registry: Registry, pushed: tuple[str, str], tmp_path: Path, edgead: Edgead
) -> None:
    elsewhere = pushed[0].replace("127.0.0.1", "127.1")  # the same machine, but nobody can know that by the name
    code, _, told = edgead("pull", elsewhere, "-o", tmp_path / "x.edgead")
    assert code == 5 and "cannot be reached" in told and "--plain-http" in told
    assert edgead("pull", elsewhere, "-o", tmp_path / "x.edgead", "--plain-http")[0] == 0


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that asks for user and password."""
    if missing := registry_is_missing():
        pytest.skip(f"no registry here: {missing}")
    with Registry(tmp_path_factory.mktemp("guarded"), login=True) as found:
        yield found


def docker_config(folder: Path, registry: Registry, password: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    login = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))


def test_a_registry_that_wants_a_login_says_so_and_takes_the_environments_and_dockers(
    guarded: Registry, old: Path, tmp_path: Path, edgead: Edgead, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"oci://{guarded.host}/line/bolt:1"
    code, _, told = edgead("push", old, address)
    assert code == 5 and "wants a login, and there is none" in told and "EDGEAD_REGISTRY_USER" in told
    monkeypatch.setenv("EDGEAD_REGISTRY_USER", USER)
    code, _, told = edgead("push", old, address)
    assert code == 2 and "go together" in told
    monkeypatch.setenv("EDGEAD_REGISTRY_PASSWORD", PASSWORD)
    assert edgead("push", old, address)[0] == 0
    monkeypatch.delenv("EDGEAD_REGISTRY_USER")
    monkeypatch.delenv("EDGEAD_REGISTRY_PASSWORD")
    docker_config(tmp_path / "home/.docker", guarded, PASSWORD)
    assert edgead("pull", address, "-o", tmp_path / "a.edgead")[0] == 0
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "own"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    docker_config(tmp_path / "own", guarded, PASSWORD)
    assert edgead("pull", address, "-o", tmp_path / "b.edgead")[0] == 0


def test_a_large_layer_goes_in_pieces_also_with_a_login(
    guarded: Registry, old: Path, tmp_path: Path, edgead: Edgead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEAD_REGISTRY_USER", USER)
    monkeypatch.setenv("EDGEAD_REGISTRY_PASSWORD", PASSWORD)
    monkeypatch.setattr("edgead.oci.remote._CHUNK", 30_000)
    address = f"oci://{guarded.host}/line/pieces:1"
    code, done, _ = edgead("push", old, address)
    assert code == 0 and done["bytes"] > 2 * 30_000
    assert edgead("pull", done["pinned"], "-o", tmp_path / "a.edgead")[0] == 0
    assert content(tmp_path / "a.edgead") == content(old)


def test_a_wrong_password_is_refused_and_never_shown(
    guarded: Registry, old: Path, tmp_path: Path, edgead: Edgead, caplog: pytest.LogCaptureFixture
) -> None:
    docker_config(tmp_path / "home/.docker", guarded, "wrong-word-7")
    login = base64.b64encode(f"{USER}:wrong-word-7".encode()).decode()
    with caplog.at_level("DEBUG"):
        code, _, told = edgead("push", old, f"oci://{guarded.host}/line/bolt:1", "--debug")
    assert code == 5 and "is refused to this login" in told
    assert "wrong-word-7" not in told + caplog.text and login not in told + caplog.text


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": [1]}', '{"auths": {"HOST": 7}}'])
def test_a_spoilt_file_of_logins_is_told(guarded: Registry, old: Path, tmp_path: Path, edgead: Edgead, text: str) -> None:
    (tmp_path / "home/.docker").mkdir(parents=True)
    (tmp_path / "home/.docker/config.json").write_text(text.replace("HOST", guarded.host))
    code, _, told = edgead("push", old, f"oci://{guarded.host}/line/bolt:1")
    assert code == 2 and "Docker's logins cannot be read" in told


def test_a_registry_that_gives_another_manifest_than_was_asked_for_is_refused(
    registry: Registry, pushed: tuple[str, str], here: Path, old: Path, edgead: Edgead
) -> None:
    wanted = "sha256:" + "0" * 64
    whole = registry.blob(pushed[1].partition("@")[2]).read_bytes()
    with file_server({"/v2/": Served(b"{}"), f"/v2/a/manifests/{wanted}": Served(whole)}) as url:
        address = url.replace("http:", "oci:") + f"/a@{wanted}"
        code, _, told = edgead("pull", address, "-o", here)
    assert code == 3 and f"is not {address}: its digest is {pushed[1].partition('@')[2]}" in told
    assert content(here) == content(old)
