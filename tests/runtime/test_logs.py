"""Logs: one line a record, no secrets, no floods, and a hanging reader stops nothing."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edgead.errors import BadInput, OutputError
from edgead.runtime.supervision.logs import WAITING, logging_to
from edgead.runtime.threads import Crew
from edgead.testing import FakeClock

log = logging.getLogger("edgead.test")


def logged(work: Callable[[], object], **options: object) -> list[str]:
    stream = io.StringIO()
    with logging_to(stream, **options):  # type: ignore[arg-type]
        work()
    return stream.getvalue().splitlines()


def fail() -> None:
    try:
        raise OSError("cannot open rtsp://user:s3cret@camera/live?password=x with key hunter2")
    except OSError:
        log.exception("camera %s failed", "rtsp://user:s3cret@camera/live")


@pytest.mark.parametrize("form", ["text", "json", "journal"])
def test_no_form_shows_a_secret_not_even_in_a_trace(form: str) -> None:
    lines = logged(fail, form=form, secrets=("hunter2", ""))
    text = "\n".join(lines)
    assert "s3cret" not in text and "hunter2" not in text and "password=x" not in text
    assert "rtsp://***@camera/live" in text and "Traceback" in text


def test_json_is_an_object_a_line() -> None:
    first, second = map(json.loads, logged(lambda: (fail(), log.warning("plain\ntext")), form="json"))
    assert first["level"] == "error" and first["logger"] == "edgead.test" and "OSError" in first["exception"]
    assert second["message"] == "plain\ntext" and "exception" not in second
    assert second["time"].endswith("Z") and second["thread"] == "MainThread"


def test_text_and_journal_cannot_be_forged() -> None:
    def forge() -> None:
        log.info("part %s", "1\n2026-01-01T00:00:00.000Z ERROR edgead: the plant burns")

    first, second = logged(forge)
    assert first.endswith("Z INFO edgead.test: part 1")
    assert second == "    2026-01-01T00:00:00.000Z ERROR edgead: the plant burns"
    assert logged(forge, form="journal") == [
        "<6>INFO edgead.test: part 1",
        "<6>    2026-01-01T00:00:00.000Z ERROR edgead: the plant burns",
    ]


def test_where_journald_reads_the_lines_carry_its_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "stream").open("w") as stream:
        there = os.fstat(stream.fileno())
        for journal in ("8:15", f"{there.st_dev}:{there.st_ino}"):
            monkeypatch.setenv("JOURNAL_STREAM", journal)
            with logging_to(stream):
                log.error("no")
    plain, journald = (tmp_path / "stream").read_text().splitlines()
    assert plain.endswith("Z ERROR edgead.test: no")
    assert journald == "<3>ERROR edgead.test: no"


def test_a_flood_becomes_a_number() -> None:
    clock = FakeClock()

    def flood() -> None:
        for number in range(100):
            log.error("camera %d is silent", number)
        log.error("something else")
        clock.advance(61)
        log.error("camera %d is silent", 100)
        for _ in range(50):
            log.error("camera %d is silent", 101)
        for _ in range(10):
            log.critical("the end")

    lines = [line.partition(": ")[2] for line in logged(flood, clock=clock)]
    assert lines[:5] == [f"camera {number} is silent" for number in range(5)]
    assert lines[5] == "something else"
    assert lines[6] == "camera 100 is silent (repeated 95 more times since)"
    assert lines[7:11] == ["camera 101 is silent"] * 4
    assert lines[11:21] == ["the end"] * 10
    assert lines[21:] == ["camera 101 is silent (repeated 46 more times)"]


def test_the_fault_of_one_device_does_not_hold_back_that_of_another() -> None:
    clock = FakeClock()
    fault = "the PLC at %s:502 refuses (Modbus exception 6)"

    def flood() -> None:
        for _ in range(50):
            for name in ("left", "right"):
                with Crew(name).own():
                    log.warning("%s", OutputError("the link is down"))
            log.warning("%s: %s", "plc", OutputError(fault % "10.0.0.1"))
        log.warning("%s: %s", "plc", OutputError(fault % "10.0.0.2"))
        log.warning("%s: %s", "plc", OutputError("something else"))
        clock.advance(61)
        log.info("later")

    lines = [line.partition(": ")[2] for line in logged(flood, clock=clock)]
    assert sorted(set(lines[:15])) == ["left: the link is down", f"plc: {fault % '10.0.0.1'}", "right: the link is down"]
    assert lines[15:17] == [f"plc: {fault % '10.0.0.2'}", "plc: something else"]
    assert sorted(lines[17:20]) == [  # without waiting for the next one
        "left: the link is down (repeated 45 more times)",
        f"plc: {fault % '10.0.0.1'} (repeated 45 more times)",
        "right: the link is down (repeated 45 more times)",
    ]
    assert lines[20:] == ["later"]


def test_a_device_that_always_says_something_else_is_held_back_too() -> None:
    def flood() -> None:
        for number in range(500):
            log.warning("%s: %s", "left", f"no answer after {number} ms")
        log.warning("%s: %s", "right", "no answer")

    lines = [line.partition(": ")[2] for line in logged(flood, clock=FakeClock())]
    assert len(lines) == 22 and lines[20] == "right: no answer"
    assert lines[21] == "left: no answer after 499 ms (repeated 480 more times)"


@pytest.mark.parametrize("form", ["text", "json", "journal"])
def test_an_error_is_shown_with_its_hint(form: str) -> None:
    error = OutputError("the PLC refuses DB40", hint="permit PUT/GET")
    [line] = logged(lambda: log.warning("%s failed (%d): %s", "plc", 1, error), form=form)
    assert "plc failed (1): the PLC refuses DB40 -> permit PUT/GET" in line


def test_what_devices_and_files_are_called_cannot_play_with_the_terminal() -> None:
    for form in ("text", "json", "journal"):
        [line] = logged(lambda: log.warning("%s is no picture", "\x1b]0;owned\x07\x9b31m\u202egnp.\udcff\r"), form=form)
        assert all(character.isprintable() for character in line) and "x1b" in line
        line.encode()


def test_a_message_is_no_longer_than_a_screen() -> None:
    first, *rest = logged(lambda: (log.warning("known: %s", "name, " * 10_000), log.warning("%s", "line\n" * 1000)))
    assert len(first) < 1200 and first.endswith("characters more)")
    assert len(rest) < 16


def test_a_wrong_call_of_the_log_ends_nobody() -> None:
    first, second = logged(lambda: (log.warning("%d parts", "x"), log.warning("on")))
    assert "%d parts" in first and second.endswith("on")


def test_the_level_and_what_was_before_is_put_back() -> None:
    root = logging.getLogger()
    before = root.level, root.handlers[:], threading.excepthook
    assert logged(lambda: (log.info("no"), log.warning("yes")), level="warning")[0].endswith("yes")
    assert (root.level, root.handlers, threading.excepthook) == before


def test_a_thread_that_dies_is_in_the_log() -> None:
    def die() -> None:
        thread = threading.Thread(target=lambda: 1 / 0, name="edgead-doomed")
        thread.start()
        thread.join()

    lines = logged(die)
    assert lines[0].endswith("CRITICAL edgead: thread edgead-doomed died")
    assert lines[-1] == "    ZeroDivisionError: division by zero"


def test_a_reader_that_hangs_stops_nobody() -> None:
    reading, writing = os.pipe()  # takes 64 KiB
    received: list[str] = []

    def read() -> None:
        with os.fdopen(reading) as end:
            received.extend(end)

    reader = threading.Thread(target=read)
    with os.fdopen(writing, "w") as stream, logging_to(stream, clock=FakeClock()):
        for number in range(2 * WAITING):
            logging.getLogger(f"edgead.{number}").error("x" * 500)
        reader.start()
    reader.join()
    assert f"edgead.{2 * WAITING - 1}:" in received[-1]
    lost = [line for line in received if "lines were lost here: nobody read them in time" in line]
    told = sum(int(line.split("edgead.logs: ")[1].split()[0]) for line in lost)
    assert WAITING < len(received) - len(lost) < 2 * WAITING
    assert told == 2 * WAITING - (len(received) - len(lost))


def test_a_reader_that_hangs_keeps_nobody_from_ending() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        with logging_to(stream, clock=FakeClock()):
            for number in range(WAITING):
                logging.getLogger(f"edgead.{number}").error("x" * 500)
        stream.write("")  # no lock of it is held by a thread that was left behind
    os.close(reading)


def test_what_makes_no_sense_is_refused() -> None:
    for options in ({"level": "loud"}, {"form": "xml"}):
        with pytest.raises(BadInput), logging_to(**options):  # type: ignore[arg-type]
            pass
