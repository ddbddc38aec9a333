"""Fixtures for all tests: shared data that may be absent, and a leak check after each test."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import psutil
import pytest

from tests.bundles import Tiny

hypothesis.settings.register_profile("edgead", deadline=None)  # how long an example takes is the box's affair, not the code's
hypothesis.settings.load_profile("edgead")

GRACE_S = 10.0  # of real time, for a thread that was told to end and a socket that is being closed
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


def pytest_configure() -> None:
    """Some packages show bars of progress, where tqdm is installed, and its thread that watches them lives on."""
    if importlib.util.find_spec("tqdm") is not None:
        importlib.import_module("tqdm").tqdm.monitor_interval = 0


END_S = 60.0  # of real time, for the process to end after its last test
FAILED = pytest.StashKey[bool]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[FAILED] = exitstatus == pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that a failed test left behind keeps no suite from ending: it is named, and the process ends."""

    def end() -> None:
        left = [f"{t.name} (of {_makers.get(t, '?')})" for t in threading.enumerate() if t.is_alive() and not t.daemon]
        os.write(2, f"the tests are over, and these threads did not end within {END_S:g} s: {', '.join(left)}\n".encode())
        os._exit(1 if config.stash.get(FAILED, False) else 3)  # 1: as pytest itself says of tests that failed

    timer = threading.Timer(END_S, end)
    timer.daemon = True
    timer.start()


_not_run: list[str] = []  # what is told at the end


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are left out where there is none, and told as one line."""
    needing = [item for item in items if item.get_closest_marker("gpu") is not None]
    if needing and (reason := _no_gpu()):
        _not_run.append(f"{len(needing)} tests need a GPU and were left out ({reason}); on a machine with one: pytest -m gpu")
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in _not_run:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled engines are kept in the tests' own folder, also by processes that they start."""
    patch = pytest.MonkeyPatch()
    patch.setenv("EDGEAD_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Tiny trained models and bundles of all families, made on demand, once; $EDGEAD_TEST_TINY: a folder that has them."""
    made = os.environ.get("EDGEAD_TEST_TINY")
    return Tiny(Path(made) if made else tmp_path_factory.mktemp("tiny"))


# The leak check knows a thread by the object and by who made it: names change, and libraries may use one name for all.

POOLS = frozenset({"torch", "sklearn", "joblib", "nncf", "matplotlib", "openvino_telemetry"})
"""Packages that keep threads of their own for as long as the process lives, whatever a test does."""

_start = threading.Thread.start
_makers: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()


def _start_noted(self: threading.Thread) -> None:
    _makers[self] = _maker(sys._getframe(1))
    _start(self)


threading.Thread.start = _start_noted  # type: ignore[method-assign]


def _maker(frame: FrameType | None) -> str:
    """Top-level package of the code that starts a thread; the standard library does it for somebody else."""
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "").partition(".")[0]
        if module not in sys.stdlib_module_names:
            return module
        frame = frame.f_back
    return ""


def _open_things() -> tuple[set[str], set[str], set[str]]:
    me = psutil.Process()
    threads = {
        f"{t.name} ({id(t):x}, of {_makers.get(t, '?')})"
        for t in threading.enumerate()
        if t.is_alive() and not isinstance(t, threading._DummyThread) and _makers.get(t) not in POOLS
    }
    connections = me.net_connections if hasattr(me, "net_connections") else me.connections  # psutil 5, beside kserve
    sockets = {str(c.laddr) for c in connections()}
    files = {f.path for f in me.open_files() if not f.path.startswith(("/dev/", "/proc/", "/sys/"))}
    return threads, sockets, files


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Each test must end with the Python threads, sockets and files that it began with; what is just ending may end."""
    before = _open_things()
    yield
    end = time.monotonic() + GRACE_S
    while True:
        after = _open_things()
        left = {kind: now - then for kind, now, then in zip(("threads", "sockets", "files"), after, before, strict=True)}
        if not any(left.values()) or time.monotonic() > end:
            break
        gc.collect()
        time.sleep(0.01)
    for kind, things in left.items():
        assert not things, f"{kind} left open: {sorted(things)}"
