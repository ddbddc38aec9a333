"""A real registry, and bundles to push into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgead.cli.main import main
from edgead.signing import new_key
from tests.runtime.conftest import small_disk as small_disk
from tests.servers.registry import Registry, registry_is_missing
from tests.vouched import write_vouched


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the logins nor the bundles of who runs the tests are touched."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EDGEAD_BUNDLES", str(tmp_path / "kept"))
    for name in ("DOCKER_CONFIG", "EDGEAD_REGISTRY_USER", "EDGEAD_REGISTRY_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if missing := registry_is_missing():
        pytest.skip(f"no registry here: {missing}")
    with Registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle."""
    return write_vouched(tmp_path_factory.mktemp("old") / "bolt.edgead")


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, signed."""
    folder = tmp_path_factory.mktemp("new")
    new_key(folder / "line.pem")
    bundle = write_vouched(folder / "bolt.edgead", created_at="2026-02-02T00:00:00+00:00")
    assert main(["sign", str(bundle), "--key", str(folder / "line.pem")]) == 0
    return bundle


@pytest.fixture(scope="session")
def key(new: Path) -> Path:
    """The public key that `new` is signed with."""
    return new.parent / "line.pub"
