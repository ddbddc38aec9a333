"""Setting up the process; done in processes of their own, since it stays."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import weakref

import pytest

from edgead.errors import BadInput
from edgead.runtime.supervision import process
from edgead.runtime.supervision.process import Collector, ProcessOptions, tuned
from tests.waiting import PATIENCE_S

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def in_a_process(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@linux
def test_all_threads_are_pinned_also_those_that_run_already() -> None:
    cpu = min(os.sched_getaffinity(0))
    told = in_a_process(
        "import os, threading\n"
        "from edgead.runtime.supervision.process import ProcessOptions, tuned\n"
        "go, found = threading.Event(), []\n"
        "old = threading.Thread(target=lambda: (go.wait(), found.append(os.sched_getaffinity(0))))\n"
        "old.start()\n"
        f"with tuned(ProcessOptions(cpus=({cpu},))):\n"
        "    new = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))\n"
        "    new.start(); new.join(); go.set(); old.join()\n"
        "print(found)"
    )
    assert told.strip() == f"[{{{cpu}}}, {{{cpu}}}]"


@linux
def test_a_cpu_that_is_not_there_is_one_warning_and_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    before = os.sched_getaffinity(0)
    with tuned(ProcessOptions(cpus=(4000,), collect_between_parts=False)) as collector:
        assert collector is None
        assert os.sched_getaffinity(0) == before
    assert [r.getMessage().partition(" (")[0] for r in caplog.records] == [
        "CPU pinning is not set: CPU 4000 is not there, or not for this process"
    ]


@linux
def test_what_the_system_refuses_is_one_warning_each_that_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(process, "_has_capability", lambda number: False)
    monkeypatch.setattr(resource, "getrlimit", lambda what: (65536, 65536))
    with caplog.at_level(logging.WARNING), tuned(ProcessOptions(realtime_priority=10, lock_memory=True)):
        pass
    assert [r.getMessage() for r in caplog.records] == [
        "real-time priority is not set: it needs CAP_SYS_NICE, or LimitRTPRIO= in the systemd unit",
        "memory locking is not set: it needs CAP_IPC_LOCK, or LimitMEMLOCK=infinity in the systemd unit",
    ]


def test_garbage_is_collected_between_parts_alone_and_python_is_left_as_it_was() -> None:
    class Knot:
        me: object

    interval, enabled = sys.getswitchinterval(), gc.isenabled()
    with tuned(ProcessOptions()) as collector:
        assert not gc.isenabled()
        assert sys.getswitchinterval() == pytest.approx(0.0005)
        assert collector is not None
        knot = Knot()
        knot.me = knot
        alive = weakref.ref(knot)
        del knot
        junk = [[] for _ in range(2 * process.YOUNG)]  # type: ignore[var-annotated]
        assert alive() is not None
        collector()
        assert alive() is None
        del junk
    assert (sys.getswitchinterval(), gc.isenabled()) == (interval, enabled)
    assert gc.get_freeze_count() == 0


def test_all_garbage_is_looked_for_now_and_then() -> None:
    now = [0.0]
    collector = Collector(lambda: now[0])
    gc.collect()
    collector()
    assert collector.runs == 0, "nothing to do"
    now[0] = process.FULL_EVERY_S
    collector()
    assert collector.runs == 1


@pytest.mark.parametrize(
    "bad", [{"cpus": (-1,)}, {"realtime_priority": 0}, {"realtime_priority": 100}, {"switch_interval_ms": 0.0}]
)
def test_values_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        ProcessOptions(**bad)  # type: ignore[arg-type]
