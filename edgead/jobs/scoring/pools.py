"""Workers that judge pieces of an archive: in this process, or in processes of their own."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from edgead.errors import EngineError
from edgead.jobs.scoring.worker import Order, Scorer, order_json, raised

WAITING = 2
"""Pieces that a worker has at once: the next one is there when it is done with one."""

_READ = 1 << 16
_ALONG = 1 << 14
"""Bytes of a piece that fit into a pipe beside what is in it. A longer one is written when the worker has nothing else to do:
else it might wait with its answer for us, and we with the piece for it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring pictures of a shard.

    Attributes:
        shard: it.
        first: place of the first one in the shard.
        number: of the first one in the run.
        items: the pictures.
        died: a worker died on it before.
    """

    shard: int
    first: int
    number: int
    items: tuple[str, ...]
    died: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a piece.

    Attributes:
        piece: it.
        rows: of its pictures; None: there are none.
        maps: that are still to be written, by their names.
        death: what the worker that judged it died of; "": it did not begin, or it has rows.
    """

    piece: Piece
    rows: Sequence[dict[str, Any]] | None = None
    maps: dict[str, bytes] | None = None
    death: str = ""


class Pool(Protocol):
    """Workers with an engine each, opened once."""

    workers: int

    def room(self) -> bool:
        """Would one of them take a piece now?"""

    def busy(self) -> bool:
        """Is there a piece whose outcome has not been told?"""

    def give(self, piece: Piece) -> None:
        """Judge it; there is room."""

    def wait(self) -> list[Outcome]:
        """Wait for outcomes; there may be none yet. Raises EdgeadError: a worker cannot go on, and no picture is to blame."""

    def close(self) -> None:
        """End the workers."""


class Here:
    """One worker in this process: what lies in its memory no other process can read."""

    workers = 1

    def __init__(self, order: Order) -> None:
        self._scorer, self._waiting = Scorer(order), deque[Piece]()

    def room(self) -> bool:
        return not self._waiting

    def busy(self) -> bool:
        return bool(self._waiting)

    def give(self, piece: Piece) -> None:
        self._waiting.append(piece)

    def wait(self) -> list[Outcome]:
        piece = self._waiting.popleft()
        return [Outcome(piece, self._scorer.piece(piece.number, piece.items)[0])]

    def close(self) -> None:
        self._scorer.close()


class _Process:
    """A worker's process, and the pieces that it has, the one under way first."""

    def __init__(self, order: Order) -> None:
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "edgead.jobs.scoring.worker"]
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, bufsize=0)
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._in, self.out = self._popen.stdin, self._popen.stdout
        self.pieces: deque[Piece] = deque()
        self.ready, self._rest, self._later = False, b"", b""
        self._write(order_json(order))

    def give(self, piece: Piece) -> None:
        self.pieces.append(piece)
        line = json.dumps({"first": piece.number, "items": piece.items}).encode() + b"\n"
        if len(self.pieces) > 1 and len(line) > _ALONG:
            self._later = line
        else:
            self._write(line)

    def done(self) -> Piece:
        """The piece that was under way, of which it has told the rows."""
        piece, line = self.pieces.popleft(), self._later
        if line:
            self._later = b""
            self._write(line)
        return piece

    def read(self) -> list[dict[str, Any]] | None:
        """What it has answered since; None: it is dead. Only called when there is something to read."""
        content = os.read(self.out.fileno(), _READ)
        if not content:
            return None
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [json.loads(line) for line in lines]

    def death(self) -> str:
        """What it died of."""
        code = self._popen.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        with suppress(OSError):
            self._popen.kill()
        for pipe in (self._in, self.out):
            with suppress(OSError):
                pipe.close()
        self._popen.wait()

    def _write(self, content: bytes) -> None:
        with suppress(BrokenPipeError):  # it is dead, which reading tells
            view = memoryview(content)
            while view:
                view = view[self._in.write(view) or 0 :]


class Processes:
    """Workers in processes of their own: what kills one costs one picture.

    Args:
        order: what each does.
        workers: how many.
    """

    def __init__(self, order: Order, workers: int) -> None:
        self.workers, self._order = workers, order
        self._selector = selectors.DefaultSelector()
        self._processes: list[_Process] = []
        try:
            for _ in range(workers):
                self._start()
        except BaseException:
            self.close()
            raise

    def room(self) -> bool:
        return any(len(one.pieces) < WAITING for one in self._processes)

    def busy(self) -> bool:
        return any(one.pieces for one in self._processes)

    def give(self, piece: Piece) -> None:
        min(self._processes, key=lambda one: len(one.pieces)).give(piece)

    def wait(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while not outcomes:
            for key, _ in self._selector.select():
                outcomes += self._heard(key.data)
        return outcomes

    def close(self) -> None:
        for one in self._processes:
            one.kill()
        self._processes = []
        self._selector.close()

    def _start(self) -> None:
        one = _Process(self._order)
        self._processes.append(one)
        self._selector.register(one.out, selectors.EVENT_READ, one)

    def _heard(self, one: _Process) -> list[Outcome]:
        answers = one.read()
        if answers is None:
            return self._replaced(one)
        outcomes = []
        for answer in answers:
            if "failed" in answer:
                raise raised(answer)
            if "rows" in answer:
                outcomes.append(Outcome(one.done(), answer["rows"]))
            one.ready = True
        return outcomes

    def _replaced(self, one: _Process) -> list[Outcome]:
        """A worker died: another one takes its place. Its first piece was under way, the others were not begun."""
        death = one.death()
        if not one.ready:
            raise EngineError(f"a worker ended at its start: {death}", hint=f"edgead verify {self._order.bundle} tells more")
        self._selector.unregister(one.out)
        self._processes.remove(one)
        one.kill()
        self._start()
        return [Outcome(piece, death=death if i == 0 else "") for i, piece in enumerate(one.pieces)]
