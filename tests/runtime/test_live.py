"""What a station tells whoever looks on: never more than the other side takes, never at the line's cost."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.runtime.loop.stats import Health, Stats
from edgead.runtime.records.overlay import HeatScale
from edgead.runtime.supervision import live
from edgead.runtime.supervision.live import LiveFeed, Watched
from edgead.testing import FakeClock
from edgead.types import Frame, Verdict
from tests.runtime.parts import inspection


class Observed:
    """A station that is well, until `broken`."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.broken = False

    def health(self) -> Health:
        if self.broken:
            raise RuntimeError("a bug")
        return Health("ready", "", 0, 0, 0, 0, {}, "ok")


class Feed:
    """A feed that ticks when a test says so."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.clock, self.station = FakeClock(), Observed()
        self.camera = Watched("top", self.station, lambda: {"bundle": "part.edgead"}, **more)
        self.feed = LiveFeed(folder, "line-1", [self.camera], self.clock)

    def tick(self, seconds: float = 1.1) -> None:
        self.clock.advance(seconds)
        self.feed.tick()

    def part(self, number: int, size: tuple[int, int] = (300, 400)) -> None:
        image = np.full((*size, 3), 90, np.uint8)
        self.camera.see(replace(inspection(number, Verdict.NG), frame=Frame(image, "top", number, 0)))


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Callable[..., Feed]]:
    """Makes feeds, by default in the folder of `listener`."""
    with ExitStack() as stack:

        def made(folder: Path = tmp_path, **more: Any) -> Feed:
            it = Feed(folder, **more)
            stack.callback(it.feed.close)
            return it

        yield made


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        one.bind(str(tmp_path / "a.sock"))
        yield one


def heard(listener: socket.socket) -> list[tuple[dict[str, Any], bytes]]:
    """All messages that wait, with their pictures."""
    found = []
    while True:
        try:
            head, _, picture = listener.recv(1 << 20).partition(b"\n")
        except BlockingIOError:
            return found
        found.append((json.loads(head), picture))


def test_state_parts_and_a_small_picture_with_and_without_heat_are_told(
    feed: Callable[..., Feed], tmp_path: Path, listener: socket.socket
) -> None:
    it = feed(tmp_path, looks={"": (HeatScale(0.0, 1.0), None)})
    it.tick()
    assert [head["kind"] for head, _ in heard(listener)] == ["state"]
    it.part(1, (1500, 2000))
    it.tick()
    (state, _), (plain, picture), (drawn, heat) = heard(listener)
    assert (state["state"], state["bundle"], [part["part_id"] for part in state["parts"]]) == ("ready", "part.edgead", [1])
    assert (plain["kind"], plain["overlay"], drawn["overlay"]) == ("picture", False, True)
    for data in (picture, heat):
        assert max(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape) == 640


def test_nobody_listens_nothing_is_made(feed: Callable[..., Feed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = feed(tmp_path)
    monkeypatch.setattr(live, "_part", lambda found: pytest.fail("nobody wants it"))
    it.tick()
    it.part(1)
    it.tick()
    assert it.camera.newest is None and not it.camera.parts


def test_one_who_does_not_read_loses_messages_and_the_others_nothing(
    feed: Callable[..., Feed], tmp_path: Path, listener: socket.socket
) -> None:
    it = feed(tmp_path)
    with ExitStack() as stack:
        for i in range(30):
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(str(tmp_path / f"stalled{i}.sock"))
        for number in range(1, 60):
            it.tick()
            it.part(number)
            states = [head for head, _ in heard(listener) if head["kind"] == "state"]
            assert len(states) == 1 and [part["part_id"] for part in states[0]["parts"]] == ([number - 1] if number > 1 else [])


def test_listeners_may_go_be_killed_and_come_again(feed: Callable[..., Feed], tmp_path: Path, listener: socket.socket) -> None:
    it = feed(tmp_path)
    it.tick()
    assert heard(listener)
    listener.close()  # killed: its name stays
    it.tick()
    it.tick()
    (tmp_path / "a.sock").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.setblocking(False)
        again.bind(str(tmp_path / "a.sock"))
        it.tick()
        it.tick()
        assert heard(again)


def test_a_folder_that_is_not_there_is_made_and_one_that_cannot_be_costs_nothing(
    feed: Callable[..., Feed], tmp_path: Path
) -> None:
    it = feed(tmp_path / "run/live")
    assert (tmp_path / "run/live").is_dir()
    (tmp_path / "file").write_text("")
    it = feed(tmp_path / "file/live")
    it.tick()
    it.part(1)
    it.tick()
    assert not it.camera.wanted


def test_pictures_take_at_most_a_small_part_of_the_time(
    feed: Callable[..., Feed], tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding that takes half a second makes one picture in ten seconds."""
    it = feed(tmp_path)

    def slow(picture: object) -> bytes:
        it.clock.advance(0.5)
        return b"jpeg"

    monkeypatch.setattr(live, "_jpeg", slow)
    it.tick()
    pictures = 0
    for number in range(1, 101):
        it.part(number)
        it.tick(0.2)
        pictures += sum(head["kind"] == "picture" for head, _ in heard(listener))
    assert pictures == 3, "in 20 s and what they took"


def test_many_parts_between_two_ticks_keep_the_newest_and_hold_no_pictures(
    feed: Callable[..., Feed], tmp_path: Path, listener: socket.socket
) -> None:
    it = feed(tmp_path)
    it.tick()
    for number in range(1, 200):
        it.part(number)
    it.tick()
    state = heard(listener)[1][0]
    assert [part["part_id"] for part in state["parts"]] == list(range(200 - live.MOST_PARTS, 200))


def test_a_bug_in_telling_is_logged_once_and_ends_nothing(
    feed: Callable[..., Feed], tmp_path: Path, listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    it = feed(tmp_path)
    it.station.broken = True
    for _ in range(3):
        it.tick()
    assert len(caplog.records) == 1
    it.station.broken = False
    it.tick()
    assert heard(listener)


def test_a_bug_in_one_camera_keeps_no_other_from_being_told(tmp_path: Path, listener: socket.socket) -> None:
    broken = Observed()
    broken.broken = True
    watched = [Watched(name, station, dict) for name, station in (("top", broken), ("side", Observed()))]
    with ExitStack() as stack:
        feed = LiveFeed(tmp_path, "line-1", watched, FakeClock())
        stack.callback(feed.close)
        feed.tick()
    assert [head["camera"] for head, _ in heard(listener)] == ["side"]


def test_who_comes_later_is_not_told_of_what_was_before(feed: Callable[..., Feed], tmp_path: Path) -> None:
    it = feed(tmp_path)
    for number in (1, 2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            path = tmp_path / f"dashboard-{number}.sock"
            one.bind(str(path))
            it.tick()
            told = heard(one)
            it.part(number)
            path.unlink()
            it.tick()
            assert [(head["kind"], head["parts"]) for head, _ in told] == [("state", [])]


def test_secrets_of_addresses_are_not_told(feed: Callable[..., Feed], tmp_path: Path, listener: socket.socket) -> None:
    it = feed(tmp_path)
    it.station.health = lambda: Health("faulted", "rtsp://user:geheim@cam/ is gone", 0, 0, 0, 0, {}, "lost")  # type: ignore[method-assign]
    it.tick()
    assert "geheim" not in json.dumps(heard(listener)[0][0])
