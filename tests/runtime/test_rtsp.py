"""A station on a real network camera (a GStreamer RTSP server in its own process) that hangs, dies and comes back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from edgead.preprocess import PreprocessRecipe
from edgead.runtime.cameras import open_camera
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.testing import FakeEngine
from tests.servers import RtspServer, rtsp_is_missing
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def server() -> Iterator[RtspServer]:
    if reason := rtsp_is_missing():
        pytest.skip(reason)
    server = RtspServer()
    server.start()
    yield server
    server.kill()


def test_a_camera_that_hangs_dies_and_comes_back(server: RtspServer, caplog: pytest.LogCaptureFixture) -> None:
    recipe, engine = PreprocessRecipe(64, 64), FakeEngine([0.0])
    camera = open_camera(server.url)
    with Station(
        camera, engine, recipe, 1.0, StationSettings(frame_timeout_ms=500), reopen=lambda: open_camera(server.url)
    ) as station:
        thread = threading.Thread(target=station.run, name="line")
        thread.start()
        stats = station.stats
        with caplog.at_level(logging.WARNING):
            until(lambda: stats.verdicts["OK"] >= 5, what="verdicts")
            server.pause()
            until(lambda: stats.causes["camera_timeout"] >= 1, what="a timeout while the server hangs")
            server.kill()
            until(lambda: stats.causes["camera_lost"] >= 1, what="the loss of the killed server")
            inspected = stats.inspected
            server.start()
            until(lambda: stats.reconnects >= 1 and stats.inspected > inspected, what="verdicts after the restart")
        station.stop()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert stats.causes["camera_lost"] == 1
    assert stats.verdicts["OK"] == stats.inspected
    assert "s3cret" not in caplog.text
    assert "camera is back" in caplog.text


def test_frames_of_a_stalled_reader_are_not_stale(server: RtspServer) -> None:
    camera = open_camera(server.url)
    first = camera.grab(5.0)
    time.sleep(1.0)  # 25 frames go by while nobody looks
    second, third = camera.grab(5.0), camera.grab(5.0)
    now_ns = time.monotonic_ns()
    camera.close()
    assert second.frame_id > first.frame_id + 5
    assert third.frame_id <= second.frame_id + 3
    assert now_ns - third.captured_at_ns < 500_000_000
