"""Writing to whoever reads our output, whatever they do."""

from __future__ import annotations

import fcntl
import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgead.runtime.outlet import Outlet, say
from edgead.runtime.outputs.log import LogOutput
from edgead.runtime.records.record import RecordFile
from edgead.types import Inspection, StageTimes, Verdict
from tests.waiting import PATIENCE_S

LONG = "x" * 200_000 + "\n"  # more than a pipe or a socket holds


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for number in (read, write):
        try:
            os.close(number)
        except OSError:
            continue


def drained(number: int) -> str:
    """What lies there."""
    os.set_blocking(number, False)
    found = b""
    while True:
        try:
            more = os.read(number, 1 << 20)
        except BlockingIOError:
            return found.decode()
        if not more:
            return found.decode()
        found += more


def test_a_reader_that_takes_its_time_misses_nothing(pipe: tuple[int, int]) -> None:
    outlet, found = Outlet(pipe[1]), ""
    writer = threading.Thread(target=outlet.write, args=(LONG,), name="test-writer")
    writer.start()
    while writer.is_alive():
        found += drained(pipe[0])
        writer.join(0.001)
    assert found + drained(pipe[0]) == LONG
    outlet.close()


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_a_reader_that_stands_still_is_given_up_and_lines_stay_lines(kind: str, pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    pair = socket.socketpair()
    if kind == "socket":
        ours, theirs = pair[0].fileno(), pair[1].fileno()
    elif kind == "terminal":
        ours, theirs = os.openpty()
    outlet = Outlet(theirs)
    assert not outlet.write(LONG, 0.05)
    assert not outlet.write("lost as a whole\n", 0.0)
    assert os.get_blocking(theirs)  # nobody else's writes change
    found = drained(ours)
    while not outlet.write("next\n", 0.0):
        found += drained(ours)
    found += drained(ours)
    assert found.replace("\r\n", "\n") == LONG + "next\n"
    outlet.close()
    if kind == "terminal":
        os.close(ours)
        os.close(theirs)
    for end in pair:
        end.close()


def test_closing_lets_go_whoever_waits_and_leaves_the_stream_open(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1])
    told: list[bool] = []
    writer = threading.Thread(target=lambda: told.append(outlet.write(LONG)), name="test-writer")
    writer.start()
    outlet.close()
    writer.join(PATIENCE_S)
    assert told == [False] and not outlet.write("more\n")
    outlet.close()
    assert os.fstat(pipe[1])


def test_a_reader_that_is_gone_is_told_and_a_last_word_is_not(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    outlet = Outlet(pipe[1])
    with pytest.raises(BrokenPipeError):
        outlet.write("anything\n")
    outlet.close()
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        say("goodbye", stream)


def test_streams_without_a_file_and_files_are_written_to(tmp_path: Path) -> None:
    stream = io.StringIO()
    assert Outlet(stream).write("one\n")
    assert stream.getvalue() == "one\n"
    with (tmp_path / "log").open("w") as file:
        outlet = Outlet(file)
        assert outlet.write("caf\udce9\n")
        outlet.close()
        say("goodbye", file)
    assert (tmp_path / "log").read_text() == "caf\\udce9\ngoodbye\n"


def test_records_and_lines_wait_for_their_reader_until_they_are_closed(
    pipe: tuple[int, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    records = RecordFile(fifo)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    writer = threading.Thread(
        target=lambda: [records.write({"part_id": i, "x": "y" * 500}) for i in range(20)], name="test-writer"
    )
    writer.start()
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
        output = LogOutput(stream)
        teller = threading.Thread(target=lambda: tell(output), name="test-teller")
        teller.start()
        records.close()
        output.close()
        writer.join(PATIENCE_S)
        teller.join(PATIENCE_S)
    assert not writer.is_alive() and not teller.is_alive()
    assert records.lost > 0 and "records are being lost, verdicts go on" in caplog.text
    os.close(reader)


def tell(output: LogOutput) -> None:
    for part_id in range(200):
        try:
            output.signal(Inspection(part_id, Verdict.OK, "", 1.0, 2.0, None, StageTimes(), None))
        except Exception:  # noqa: BLE001 - closed meanwhile
            return
