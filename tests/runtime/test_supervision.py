"""systemd and probes hear of the loops' progress, and of nothing else."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgead.errors import BadInput, CameraLost
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.stats import Health, Stats
from edgead.runtime.supervision.supervisor import Notifier, Supervisor
from edgead.testing import FakeCamera, FakeClock, FakeEngine
from edgead.types import Image
from tests.waiting import PATIENCE_S

FRAME: Image = np.full((64, 64, 3), 10, np.uint8)


class Watched:
    """A station whose health is set by hand."""

    def __init__(self, clock: FakeClock) -> None:
        self.stats = Stats()
        self.clock = clock
        self.state, self.fault = "starting", ""
        self.turn()

    def turn(self) -> None:
        self.progress_at_ns = self.clock.now_ns()

    def health(self) -> Health:
        return Health(self.state, self.fault, self.progress_at_ns, 0, 0, 0, {}, "ok")


class Systemd:
    """Its end of the socket."""

    def __init__(self, address: str | Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(address))
        self.socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": str(address).replace("\0", "@"), "WATCHDOG_USEC": "20000000"}

    def heard(self) -> list[str]:
        lines: list[str] = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    end = Systemd(tmp_path / "notify" if request.param == "path" else f"\0edgead-test-{os.getpid()}")
    yield end
    end.socket.close()


@pytest.mark.promise("systemd readiness and watchdog")
def test_ready_once_all_have_started_then_the_watchdog_as_long_as_all_make_progress(systemd: Systemd) -> None:
    clock = FakeClock()
    one, two = Watched(clock), Watched(clock)
    supervisor = Supervisor({"one": one, "two": two}, stalled_after_s=5, notifier=Notifier(systemd.environment), clock=clock)
    one.state = "ready"
    supervisor.tick()
    assert "READY=1" not in systemd.heard()
    two.state, two.fault = "faulted", "the camera is lost"
    supervisor.tick()
    assert systemd.heard() == [
        "READY=1",
        "WATCHDOG=1",
        "STATUS=two: faulted, the camera is lost; one: 0 OK, 0 NG, 0 UNKNOWN; two: 0 OK, 0 NG, 0 UNKNOWN",
    ]
    assert (supervisor.report().alive, supervisor.report().ready) == (True, False)
    clock.advance(6)
    one.turn()
    two.fault = "part 7 hangs in inference"
    supervisor.tick()
    (status,) = systemd.heard()  # no WATCHDOG=1: systemd will restart us
    assert status.startswith("STATUS=two: no progress for 6.0 s (part 7 hangs in inference); one: ")
    assert not supervisor.report().alive
    two.turn()
    two.state, two.fault = "ready", ""
    supervisor.tick()
    assert "WATCHDOG=1" in systemd.heard()
    assert supervisor.report().ready and supervisor.report().reason == ""
    supervisor.close()
    assert systemd.heard() == ["STOPPING=1", "STATUS=stopping"]


def test_a_real_station_is_watched_while_it_runs(systemd: Systemd) -> None:
    systemd.environment["WATCHDOG_USEC"] = "40000"
    stop = threading.Event()
    station = Station(FakeCamera([FRAME], loop=True), FakeEngine([1.0]), PreprocessRecipe(64, 64), 100.0)
    heard: list[str] = []

    def look(_: object) -> None:
        heard.extend(systemd.heard())
        if {"READY=1", "WATCHDOG=1"} <= set(heard) and not stop.is_set():
            stop.set()
            station.stop()
        time.sleep(0.001)

    station.on_inspection(look)
    with station, Supervisor({"line": station}, stalled_after_s=10.0, notifier=Notifier(systemd.environment)):
        station.run(50_000)
        systemd.heard()  # its queue holds ten messages only
    assert stop.is_set()
    assert systemd.heard()[-2:] == ["STOPPING=1", "STATUS=stopping"]


def test_ready_is_told_again_when_the_message_was_lost(systemd: Systemd) -> None:
    clock = FakeClock()
    station = Watched(clock)
    supervisor = Supervisor({"line": station}, stalled_after_s=10.0, notifier=Notifier(systemd.environment), clock=clock)
    other = Notifier(systemd.environment)
    while other.send(WATCHDOG=1):  # systemd is busy: its queue fills
        pass
    other.close()
    station.state = "ready"
    supervisor.tick()
    assert "READY=1" not in systemd.heard()
    supervisor.tick()
    assert "READY=1" in systemd.heard()
    supervisor.tick()
    assert systemd.heard() == ["WATCHDOG=1"]
    supervisor.close()


def test_systemd_hears_nothing_after_the_stop_though_a_look_is_under_way(systemd: Systemd) -> None:
    looking, never = threading.Event(), threading.Event()

    class Slow(Watched):
        def health(self) -> Health:
            looking.set()
            never.wait(0.2)
            return super().health()

    systemd.environment["WATCHDOG_USEC"] = "40000"
    clock = FakeClock()
    supervisor = Supervisor(
        {"line": Slow(clock)}, stalled_after_s=10.0, notifier=Notifier(systemd.environment), clock=clock
    ).start()
    assert looking.wait(PATIENCE_S)
    supervisor.close()
    assert systemd.heard()[-2:] == ["STOPPING=1", "STATUS=stopping"]


def test_the_report_tells_why_a_real_station_is_not_ready() -> None:
    station = Station(FakeCamera([CameraLost("gone")], live=False), FakeEngine([1.0]), PreprocessRecipe(64, 64), 100.0)
    with station:
        report = Supervisor({"line": station}, stalled_after_s=10.0).report()
    assert (report.alive, report.ready, report.reason) == (True, False, "line: stopped")
    assert report.stations["line"]["camera"] == "ok"


def test_health_says_what_the_times_of_the_pictures_are_made_from() -> None:
    station = Station(FakeCamera([CameraLost("gone")], live=False), FakeEngine([1.0]), PreprocessRecipe(64, 64), 100.0)
    with station:
        assert Supervisor({"line": station}, stalled_after_s=10.0).report().stations["line"]["time_source"] == "reading"


def test_without_systemd_nothing_is_sent_and_another_process_has_its_own_watchdog() -> None:
    assert not Notifier({}).connected
    Notifier({}).send(READY=1)
    notifier = Notifier({"NOTIFY_SOCKET": "@edgead-none", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"})
    assert notifier.watchdog_s is None
    notifier.close()


def test_a_systemd_that_is_gone_is_told_of_once_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "none"), "WATCHDOG_USEC": "1000000"})
    for _ in range(3):
        notifier.send(WATCHDOG=1)
    assert len(caplog.records) == 1
    notifier.close()


def test_a_full_socket_costs_the_message_and_never_waits(systemd: Systemd) -> None:
    notifier = Notifier(systemd.environment)
    for number in range(5000):
        notifier.send(STATUS=f"two\nlines {number}")
    assert systemd.heard()[0] == "STATUS=two lines 0"
    notifier.close()


def test_a_limit_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadInput):
        Supervisor({}, stalled_after_s=0)
