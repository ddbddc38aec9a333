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

from edgead.errors import BadInput
from edgead.runtime.logs import WAITING, logging_to
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
    assert lines[21:] == ["camera %d is silent (repeated 46 more times)"]


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
