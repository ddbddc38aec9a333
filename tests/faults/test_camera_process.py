"""The camera is a real server process that is stopped, killed and started again, or cut off for a while, under a real station."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.line import Line, wait
from tests.servers import RtspServer, StampedMjpeg, rtsp_is_missing
from tests.servers.relay import StallingRelay

NEW_S = 0.3  # pictures that nobody asked for come meanwhile
OLD_S = 0.5  # by then everything that was on its way when the camera stopped has arrived


@pytest.fixture
def server() -> Iterator[RtspServer]:
    if missing := rtsp_is_missing():
        pytest.skip(missing)
    server = RtspServer()
    server.start()
    yield server
    server.kill()


def test_a_camera_that_stands_still_dies_and_comes_back(
    server: RtspServer, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAM_PASSWORD", "s3cret")
    address = server.url.replace("s3cret", "${CAM_PASSWORD}")
    line = Line(tmp_path, bundle, address, threshold=1000.0, frame_timeout_ms=500, frame_window_ms=700)
    try:
        line.start()
        assert line.give(5) == ["OK"] * 5

        wait(NEW_S)
        server.pause()
        wait(OLD_S)
        assert line.give(3) == ["UNKNOWN camera_timeout"] * 3
        server.resume()
        line.until(lambda: line.give(1) == ["OK"])

        wait(NEW_S)
        server.pause()
        wait(OLD_S)
        assert line.give(1) == ["UNKNOWN camera_timeout"]
        server.kill()
        line.until(lambda: line.health()[1].get("camera") == "lost")
        assert not line.health()[0]
        assert line.give(3) == ["UNKNOWN camera_lost"] * 3
        server.start()
        line.until_ready()
        line.until(lambda: line.give(1) == ["OK"])
        assert line.give(5) == ["OK"] * 5

        line.judge()
        assert line.station.stop() == 0
        assert "s3cret" not in line.station.log()
    finally:
        line.close()


def test_a_bad_part_is_never_passed_by_a_picture_of_the_part_before_that_the_network_held_up(
    bundle: Path, tmp_path: Path
) -> None:
    camera = StampedMjpeg()
    camera.start()
    with contextlib.ExitStack() as stack:
        stack.callback(camera.kill)
        relay = stack.enter_context(StallingRelay(camera.port))
        line = Line(tmp_path, bundle, f"http://127.0.0.1:{relay.port}/video")
        stack.callback(line.close)
        camera.tell("60")
        line.start()
        for _ in range(5):
            line.until(lambda: line.give(1) == ["OK"])
            relay.hold()
            wait(0.5)
            camera.tell("230")  # a bad part takes the place of the good one
            wait(0.7)
            parts = line.count()
            line.plc.want(1)
            wait(0.3)
            relay.go_on()
            line.until(lambda: line.count() > parts)  # noqa: B023
            told = line.plc.log()[parts]["verdict"]
            assert told in ("NG", "UNKNOWN")
            line.until(lambda: line.give(1) == ["NG"])
            camera.tell("60")
            wait(NEW_S)
        assert line.station.stop() == 0
