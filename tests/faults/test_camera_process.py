"""The camera is a real RTSP server process that is stopped, killed and started again under a real station."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.line import Line, wait
from tests.servers import RtspServer, rtsp_is_missing

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
