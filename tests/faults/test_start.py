"""A start finds cameras, addresses and lines missing: whoever is there works, the others are waited for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.line import Line, third_is_bad, write_pictures
from tests.servers import RtspServer, rtsp_is_missing
from tests.waiting import PATIENCE_S

Make = Callable[..., Line]
EVERY = {"source": "interval", "every_ms": 200}


@pytest.fixture
def lines(tmp_path: Path, bundle: Path) -> Iterator[Make]:
    made: list[Line] = []

    def make(**options: Any) -> Line:
        made.append(Line(tmp_path, bundle, str(write_pictures(tmp_path / "pictures", third_is_bad(900))), **options))
        return made[-1]

    yield make
    for line in made:
        line.close()


@pytest.fixture
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    path = tmp_path_factory.mktemp("s") / "n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(PATIENCE_S)
        yield told


def test_a_camera_that_is_away_at_the_start_costs_its_own_lane_and_comes_back(lines: Make, systemd: socket.socket) -> None:
    if missing := rtsp_is_missing():
        pytest.skip(missing)
    server = RtspServer()  # not started: the camera has no power yet
    right = {"name": "right", "address": server.url.replace("s3cret", "${CAM_PASSWORD}"), "trigger": EVERY, "threshold": 1000.0}
    line = lines(others=[right])
    environment = [f"NOTIFY_SOCKET={systemd.getsockname()}", "CAM_PASSWORD=s3cret"]
    try:
        line.start(["env", *environment])
        while b"READY=1" not in systemd.recv(4096):
            pass
        line.healthy()
        whole, right_now = line.health("right")
        assert not whole and (right_now["state"], right_now["camera"]) == ("faulted", "lost")
        line.until(lambda: len(line.rows("right")) >= 5)
        assert {(row["verdict"], row["cause"]) for row in line.rows("right")} == {("UNKNOWN", "camera_lost")}

        server.start()
        line.until(lambda: line.health()[0])
        line.until(lambda: any(row["verdict"] == "OK" for row in line.rows("right")))
        line.healthy()
        line.judge()
        assert line.station.stop() == 0
        assert "s3cret" not in line.station.log()
    finally:
        server.kill()


def test_what_else_is_not_there_at_the_start_costs_its_own_lane(lines: Make) -> None:
    pytest.importorskip("gpiod", reason="edgead[gpio] is not installed")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        server = {"type": "modbus-server", "port": port}
        gpio = [{"type": "gpio", "chip": "/dev/gpiochip-that-is-not-there", "ok": 1}]
        trigger = {"source": "gpio", "chip": "/dev/gpiochip-that-is-not-there", "line": 2}
        right = {"name": "right", "address": "usb:97", "trigger": EVERY, "plc": server}
        third = {"name": "third", "address": "sim:fps=5", "trigger": trigger, "outputs": gpio}
        line = lines(others=[right, third])
        line.start()
        line.healthy()
        notices = line.health("right")[1]["notices"], line.health("third")[1]["notices"]
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in str(notices[0])
        assert sorted(notices[1]) == ["output gpio", "trigger gpio"]
        assert line.health("third")[1]["fault"] == "not there: output gpio, trigger gpio"
    line.until(lambda: "plc modbus-server: all is well again" in line.station.log())
    socket.create_connection(("127.0.0.1", port)).close()
    line.healthy()
    line.judge()
    assert line.station.stop() == 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"address": "camra:0"}, 2),
        ({"address": "rtsp://10.0.0.5:70000/line"}, 2),
        ({"bundle": "nowhere.edgead"}, 3),
        ({"plc": {"type": "modbus-server", "bind": "10.0.0.300"}}, 2),
        ({"outputs": [{"type": "command", "on_ng": "no-such-program"}]}, 2),
    ],
)
def test_a_wrong_file_ends_the_start(lines: Make, changes: dict[str, Any], status: int) -> None:
    line = lines(others=[{"name": "right", "address": "sim", "trigger": EVERY, **changes}])
    line.station.start()
    assert line.station.wait() == status
    told = [text for text in line.station.log().splitlines() if text.startswith("edgead run: ")]
    assert len(told) == 1, line.station.log()
