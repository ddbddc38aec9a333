"""Workers of a Ray cluster (https://docs.ray.io). The vendor's name appears only here and in what asks for it.

Ray carries calls between its processes as pickles of its own: a cluster is one that is trusted, as whoever runs one's code.
"""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from collections import deque
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgead.errors import BadInput, EdgeadError, EngineError, MissingExtra
from edgead.jobs.scoring.pools import WAITING, Outcome, Piece
from edgead.jobs.scoring.worker import Order, Scorer, failure, one_core, raised
from edgead.optional import require
from edgead.words import one_line

LOCAL = "ray"
TRIES = 6
"""To start a cluster on this machine."""

PATIENCE_S = 600.0
"""How long a cluster may take until the first worker is there: it may have to start a machine."""


def connect(cluster: str, workers: int) -> tuple[Any, bool]:
    """Ray's module, connected, and whether that was done here.

    Args:
        cluster: ``"ray"``: a cluster on this machine, which ends with this process; else its address.
        workers: of a cluster on this machine.

    Raises:
        MissingExtra: Ray is not installed.
        EngineError: there is nobody at this address, or it does not start.
    """
    ray = require("ray", extra="ray", why="Using a Ray cluster")
    if ray.is_initialized():
        return ray, False
    where: dict[str, Any] = {"address": cluster}
    if cluster == LOCAL:  # it listens on this machine's address, and takes work only with the token that Ray makes for this user
        where = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    for left in reversed(range(TRIES)):
        try:
            with redirect_stdout(sys.stderr):  # what it says is no result
                ray.init(**where, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except ImportError as error:
            told = f"reaching {cluster} needs a package: {one_line(str(error))}"
            raise MissingExtra(told, hint="pip install 'edgead[ray]'") from error
        except Exception as error:  # Ray raises many kinds
            if left and cluster == LOCAL:  # it waits for 30 s, which a busy machine may need more than once
                ray.shutdown()
                continue
            told = f"no Ray cluster at {cluster}: {one_line(str(error), 300)}"
            raise EngineError(told, hint="start it, or check the address") from error
        break
    return ray, True


class Actor:
    """What a worker of the cluster does.

    Args:
        order: as a mapping.
        packed: the bundle as a zip file, where the cluster's machines do not have it; b"" where they do.
    """

    def __init__(self, order: dict[str, Any], packed: bytes) -> None:
        self._order, self._packed = Order(**order), packed
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._scorer: Scorer | None = None

    def open(self) -> dict[str, Any]:
        """Open the engine; {} or what is wrong."""
        one_core()
        order = self._order
        try:
            if self._packed:
                self._folder = tempfile.TemporaryDirectory(prefix="edgead-score-")
                path = Path(self._folder.name) / Path(order.bundle).name
                zipfile.ZipFile(io.BytesIO(self._packed)).extractall(path)
                # Whoever sent it has asked for the signature; here its digest says that it is the same one, and no key is.
                order, self._packed = replace(order, bundle=str(path), trusted=()), b""
            self._scorer = Scorer(order)
        except EdgeadError as error:
            return failure(error)
        return {}

    def piece(self, first: int, items: tuple[str, ...]) -> dict[str, Any]:
        """Rows and maps of a piece, or what is wrong."""
        assert self._scorer is not None
        try:
            rows, maps = self._scorer.piece(first, items)
        except EdgeadError as error:
            return failure(error)
        return {"rows": rows, "maps": maps}


def packed(bundle: Path) -> bytes:
    """A bundle's files as a zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(bundle.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(bundle))
    return file.getvalue()


@dataclass(slots=True, eq=False)
class _Hand:
    """An actor, what it was asked and has not answered, the oldest first; a piece of None is the question whether it is open."""

    actor: Any
    asked: deque[tuple[Piece | None, Any]] = field(default_factory=deque)
    ready: bool = False


class OnRay:
    """Workers of a Ray cluster, an actor each.

    Args:
        order: what each does.
        cluster: ``"ray"``, or its address.
        workers: how many; None: one a CPU of the cluster.

    Raises:
        BadInput: more than the cluster has CPUs.
        MissingExtra, EngineError: as :func:`connect`.
    """

    def __init__(self, order: Order, cluster: str, workers: int | None) -> None:
        from edgead.machine import usable_cores

        self._ray, self._mine = connect(cluster, workers or usable_cores())
        self._order, self._hands = order, list[_Hand]()
        try:
            cpus = int(self._ray.cluster_resources().get("CPU", 0))
            self.workers = workers or max(1, cpus)
            if self.workers > cpus:
                raise BadInput(f"--workers {self.workers}: the cluster has {cpus} CPUs", hint="give no more, or leave it out")
            content = b"" if cluster == LOCAL else packed(Path(order.bundle))
            self._packed = self._ray.put(content)
            self._kind = self._ray.remote(num_cpus=1, max_restarts=0)(Actor)
            for _ in range(self.workers):
                self._start()
        except BaseException:
            self.close()
            raise

    def room(self) -> bool:
        return any(one.ready and len(one.asked) < WAITING for one in self._hands)

    def busy(self) -> bool:
        return any(piece is not None for one in self._hands for piece, _ in one.asked)

    def give(self, piece: Piece) -> None:
        hand = min((one for one in self._hands if one.ready), key=lambda one: len(one.asked))
        hand.asked.append((piece, hand.actor.piece.remote(piece.number, piece.items)))

    def wait(self) -> list[Outcome]:
        first = {one.asked[0][1]: one for one in self._hands if one.asked}
        found, _ = self._ray.wait(list(first), num_returns=1, timeout=PATIENCE_S)
        if not found and not any(one.ready for one in self._hands):
            raise EngineError(f"the cluster gave no CPU within {PATIENCE_S:g} s", hint="free some, or give fewer --workers")
        return [outcome for ref in found for outcome in self._heard(first[ref])]

    def close(self) -> None:
        if self._mine:
            self._ray.shutdown()
            return
        for one in self._hands:
            self._ray.kill(one.actor)

    def _start(self) -> None:
        actor = self._kind.remote(asdict(self._order), self._packed)
        self._hands.append(_Hand(actor, deque([(None, actor.open.remote())])))

    def _heard(self, hand: _Hand) -> list[Outcome]:
        """The oldest answer of an actor, which is there."""
        piece, ref = hand.asked[0]
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return self._replaced(hand, f"{type(error).__name__}: {one_line(str(error), 120)}")
        hand.asked.popleft()
        if "failed" in answer:
            raise raised(answer)
        if piece is None:
            hand.ready = True
            return []
        return [Outcome(piece, answer["rows"], answer["maps"])]

    def _replaced(self, hand: _Hand, death: str) -> list[Outcome]:
        """An actor died: another one takes its place. Its oldest piece was under way, the others are judged again as well."""
        if not hand.ready:
            raise EngineError(f"a worker of the cluster ended at its start: {death}", hint="is edgead installed on its machines?")
        self._hands.remove(hand)
        self._start()
        pieces = [piece for piece, _ in hand.asked if piece is not None]
        return [Outcome(piece, death=death if i == 0 else "") for i, piece in enumerate(pieces)]
