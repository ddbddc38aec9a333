"""Fixtures for all tests: shared data that may be absent, and a leak check after each test."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import psutil
import pytest

from tests.bundles import Tiny

SHARED = Path(os.environ.get("EDGEAD_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and checkpoints beside the project (or $EDGEAD_SHARED); absent on a fresh machine."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no shared data at {SHARED}: set EDGEAD_SHARED to a folder with data/ and checkpoints/")
    return SHARED


@lru_cache
def _no_gpu() -> str:
    """Why tests marked `gpu` cannot run here; "" when they can."""
    from edgead.engines.cuda import open_cuda
    from edgead.errors import EdgeadError

    try:
        open_cuda().close()
    except EdgeadError as error:
        return str(error)
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` are skipped where there is none."""
    if item.get_closest_marker("gpu") is not None and _no_gpu():
        pytest.skip(_no_gpu())


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled engines are kept in the tests' own folder, also by processes that they start."""
    patch = pytest.MonkeyPatch()
    patch.setenv("EDGEAD_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Tiny trained models and bundles of all families, made on demand, once."""
    return Tiny(tmp_path_factory.mktemp("tiny"))


def _open_things() -> tuple[set[str], set[str], set[str]]:
    me = psutil.Process()
    threads = {t.name for t in threading.enumerate() if t.is_alive()}
    sockets = {str(c.laddr) for c in me.net_connections()}
    files = {f.path for f in me.open_files() if not f.path.startswith(("/dev/", "/proc/", "/sys/"))}
    return threads, sockets, files


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Each test must end with the Python threads, sockets and files that it began with."""
    before = _open_things()
    yield
    after = _open_things()
    if any(now - then for now, then in zip(after, before, strict=True)):
        gc.collect()
        after = _open_things()
    for kind, now, then in zip(("threads", "sockets", "files"), after, before, strict=True):
        assert not now - then, f"{kind} left open: {sorted(now - then)}"
