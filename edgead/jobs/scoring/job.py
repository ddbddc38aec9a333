"""Judge an archive: all pictures of a source, by all cores or a cluster, in a run that goes on after whatever ended it."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgead import machine
from edgead.bundle import Bundle
from edgead.clock import Clock, MonotonicClock
from edgead.disk import is_special
from edgead.errors import BadInput, EdgeadError, EngineError
from edgead.jobs.progress import Progress, silent
from edgead.jobs.scoring.ledger import Ledger, Row
from edgead.jobs.scoring.pools import Here, Piece, Pool, Processes
from edgead.jobs.scoring.reading import Reader, local
from edgead.jobs.scoring.sources import Source, find_source, takes
from edgead.jobs.scoring.worker import COLUMNS, MAPS, Order, dead_row, write_maps
from edgead.optional import require
from edgead.runtime.records.exports import write_csv, write_parquet
from edgead.runtime.redact import redact
from edgead.signing import read_trusted
from edgead.words import unicode_only

PIECE = 16
"""Pictures that a worker is given at once."""

PIECE_CHARACTERS = 4_000
"""No more, of their names, so that two pieces always fit into a pipe."""

SAY_S = 10.0
"""Between two lines that tell how far it is."""

HOPELESS = 5
"""So many pictures in a row on which workers die are not the pictures' fault."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What to judge, and how.

    Attributes:
        bundle: its folder.
        source: a folder, a list, records, a pattern or an address (:func:`edgead.jobs.scoring.sources.find_source`).
        out: the table, ``.parquet`` or ``.csv``; while the run lasts, its books are in ``OUT.scoring`` beside it.
        engine: its name in the bundle; None: the bundle's default.
        workers: how many, an engine each; None: one a core of this machine, or of the cluster.
        threads: CPU threads of one inference.
        cluster: address of a Ray cluster, ``"ray"`` for one on this machine; "": processes of this machine.
        column, root: of a list.
        maps: ``"png"`` or ``"npz"`` and the folder for them; None: no maps are kept.
        trusted: files of public keys, one of which must have signed the bundle.
        restart: throw away what an unfinished run left.
    """

    bundle: Path
    source: str
    out: Path
    engine: str | None = None
    workers: int | None = None
    threads: int = 1
    cluster: str = ""
    column: str | None = None
    root: Path | None = None
    maps: tuple[str, Path] | None = None
    trusted: tuple[Path, ...] = ()
    restart: bool = False

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in (".parquet", ".csv"):
            raise BadInput(f"-o {self.out}: the table is .parquet or .csv", hint="give a name that ends so: parts.parquet")
        if self.out.is_dir() or is_special(self.out):
            raise BadInput(f"-o {self.out} is no file", hint="give the name of a file")
        if not self.out.absolute().parent.is_dir():
            raise BadInput(f"-o {self.out}: its folder does not exist", hint="make it, or choose another")
        if self.maps is not None and self.maps[0] not in MAPS:
            raise BadInput(f"maps are {' or '.join(MAPS)}, not {self.maps[0]}", hint="give --maps png DIR")
        if self.maps is not None and self.maps[1].exists() and not self.maps[1].is_dir():
            raise BadInput(f"--maps {self.maps[1]} is no folder", hint="give a folder, which is made if need be")


@dataclass(frozen=True, slots=True)
class Scored:
    """What came out.

    Attributes:
        out: the table.
        source: that was judged, in words.
        pictures: rows of the table, one a picture.
        verdicts: how many are OK, NG and UNKNOWN.
        causes: of UNKNOWN, what stands before a colon, and how many.
        skipped: what the source holds that was not judged, in words, and how many; empty in a run that went on.
        resumed: pictures that an earlier run had judged.
        engine: that answered.
        sha256: of the bundle.
        rule: what decided, in words.
        workers: how many there were.
        elapsed_s: seconds of this run, without listing and writing the table.
        per_s: pictures a second in this run.
        maps: folder of the maps; null: none were kept.
    """

    out: Path
    source: str
    pictures: int
    verdicts: Mapping[str, int]
    causes: Mapping[str, int]
    skipped: Mapping[str, int]
    resumed: int
    engine: str
    sha256: str
    rule: str
    workers: int
    elapsed_s: float
    per_s: float
    maps: Path | None


def score(request: ScoreRequest, progress: Progress = silent, say: Say = lambda line: None, clock: Clock | None = None) -> Scored:
    """Judge all pictures of a source.

    Args:
        progress: told the share that is done.
        say: told now and then, in a line, how far it is, how fast, and how long it will take.

    Raises:
        BadInput: no such source, no pictures, another run's books are there, or an option that does not apply.
        BundleError, ParityFailed: no bundle, damaged, or its engine does not answer here as the trained model did.
        MissingExtra, EngineError: the engine, or what reads the source, is not installed or does not open.
        StorageError: the table, a map or the books cannot be written, or the pictures' store is away; what is done is kept.
    """
    clock = clock or MonotonicClock()
    bundle = Bundle.open(request.bundle, None, read_trusted(request.trusted))
    record = bundle.manifest.engine(request.engine)
    source = find_source(request.source, request.column, request.root)
    _check_packages(request)
    _check_places(request)
    with Ledger(request.out, _run_of(request, bundle.digest, record.name), source.items, restart=request.restart) as ledger:
        resumed, began = ledger.finished, clock.now_ns()
        order = _order(request, source, bundle.digest, record.name)
        workers = 0
        if resumed < ledger.pictures:
            pace = _Pace(ledger, resumed, progress, say, clock)
            try:
                workers = _judged(ledger, request, source, order, pace)
            except EdgeadError:
                if not ledger.finished:
                    ledger.remove()
                raise
        elapsed_s = (clock.now_ns() - began) / 1e9
        verdicts, causes = _written(ledger, request)
        ledger.remove()
    done = ledger.pictures - resumed
    return Scored(
        request.out, source.told, ledger.pictures, dict(verdicts.most_common()), dict(causes.most_common()),
        {} if ledger.resumed else dict(source.skipped), resumed, record.name, bundle.digest, record.threshold.rule.describe(),
        workers, round(elapsed_s, 3), round(done / elapsed_s, 2) if elapsed_s > 0 else 0.0,
        None if request.maps is None else request.maps[1],
    )  # fmt: skip


def _check_packages(request: ScoreRequest) -> None:
    """Raises MissingExtra, before hours of work and not after."""
    if request.out.suffix.lower() == ".parquet":
        require("pyarrow.parquet", extra="score", why="Writing Parquet")
    if request.cluster:
        require("ray", extra="ray", why="Judging on a cluster")


def _check_places(request: ScoreRequest) -> None:
    """Raises BadInput: maps would be taken for pictures the next time, or the table would take the place of the list."""
    folder = Path(local(request.source))
    if folder.is_file() and request.out.exists() and request.out.samefile(folder):
        raise BadInput(f"-o {request.out} is the list that is to be judged", hint="choose another -o")
    if request.maps is None:
        return
    below = folder.is_dir() and request.maps[1].resolve().is_relative_to(folder.resolve())
    if below or takes(request.source, request.maps[1] / "000000/000000000.png"):
        raise BadInput(
            f"--maps {request.maps[1]} lies in {folder}: the next run would take maps for pictures", hint="choose another folder"
        )


def _run_of(request: ScoreRequest, sha256: str, engine: str) -> dict[str, Any]:
    """What must be the same when a run goes on."""
    source = str(Path(request.source).absolute()) if Path(request.source).exists() else request.source
    digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[
        :12
    ]  # of an address, what is not shown of it, too
    maps = None if request.maps is None else [request.maps[0], str(request.maps[1].absolute())]
    root = None if request.root is None else str(request.root.absolute())
    return {
        "bundle": sha256, "engine": engine, "source": f"{unicode_only(redact(source))} ({digest})",
        "column": request.column, "root": root, "maps": maps,
    }  # fmt: skip


def _order(request: ScoreRequest, source: Source, sha256: str, engine: str) -> Order:
    maps, folder = ("", "") if request.maps is None else (request.maps[0], str(request.maps[1].absolute()))
    return Order(
        str(request.bundle.absolute()), sha256, engine, tuple(str(key.absolute()) for key in request.trusted), request.threads,
        source.folder, source.base, maps, "" if request.cluster else folder,
    )  # fmt: skip


def _pool(request: ScoreRequest, source: Source, order: Order) -> Pool:
    if source.here:
        if request.cluster or (request.workers or 1) > 1:
            raise BadInput("what lies in the memory of this process no other one can read", hint="leave --on and --workers out")
        return Here(order)
    if request.cluster:
        from edgead.jobs.scoring.onray import OnRay

        return OnRay(order, request.cluster, request.workers)
    return Processes(order, request.workers or machine.usable_cores())


def _judged(ledger: Ledger, request: ScoreRequest, source: Source, order: Order, pace: _Pace) -> int:
    """Have all open shards judged; the number of workers."""
    pool = _pool(request, source, order)
    try:
        _judge(ledger, pool, order, request.maps, pace)
    finally:
        pool.close()
    return pool.workers


def _judge(ledger: Ledger, pool: Pool, order: Order, maps: tuple[str, Path] | None, pace: _Pace) -> None:
    """Have all open shards judged, and keep each that is finished."""
    book, queue, deaths = _Book(ledger), _Queue(ledger), 0
    reader = Reader(order.folder, order.base, 8)
    while queue.more() or pool.busy():
        while queue.more() and pool.room():
            pool.give(queue.next())
        for outcome in pool.wait():
            piece = outcome.piece
            if outcome.rows is not None:
                deaths = 0
                if outcome.maps and maps is not None:
                    write_maps(maps[1], outcome.maps)
                book.note(piece, outcome.rows)
                pace.tick(len(piece.items))
            elif not outcome.death:
                queue.again(piece)
            elif len(piece.items) > 1:
                queue.again(*_singles(piece))
            elif not piece.died:
                queue.again(replace(piece, died=True))
            else:
                deaths += 1
                if deaths >= HOPELESS:
                    raise EngineError(
                        f"workers die on every picture ({outcome.death})", hint=f"edgead verify {order.bundle} tells more"
                    )
                why = f"the process that judged it died twice ({outcome.death})"
                book.note(piece, [dead_row(order, reader.shown(piece.items[0]), why)])
                pace.tick(1)


class _Queue:
    """Pieces that are still to be judged: of the open shards in their order, but first those that a worker died on."""

    def __init__(self, ledger: Ledger) -> None:
        self._pieces, self._again = _pieces(ledger), deque[Piece]()

    def more(self) -> bool:
        """Is there one?"""
        if not self._again and (piece := next(self._pieces, None)) is not None:
            self._again.append(piece)
        return bool(self._again)

    def next(self) -> Piece:
        """The next one; there is more."""
        return self._again.popleft()

    def again(self, *pieces: Piece) -> None:
        """These are to be judged once more."""
        self._again.extend(pieces)


def _pieces(ledger: Ledger) -> Iterator[Piece]:
    for shard, items in ledger.open_shards():
        first = 0
        while first < len(items):
            count, characters = 0, 0
            while count < PIECE and first + count < len(items) and (not count or characters < PIECE_CHARACTERS):
                characters += len(items[first + count])
                count += 1
            yield Piece(shard, first, shard * ledger.size + first, tuple(items[first : first + count]))
            first += count


def _singles(piece: Piece) -> Iterator[Piece]:
    for i, item in enumerate(piece.items):
        yield Piece(piece.shard, piece.first + i, piece.number + i, (item,))


class _Book:
    """The rows of shards under way: of few, since pieces are given in order."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rows: dict[int, dict[int, Row]] = {}

    def note(self, piece: Piece, rows: Any) -> None:
        found = self._rows.setdefault(piece.shard, {})
        found.update(zip(range(piece.first, piece.first + len(piece.items)), rows, strict=True))
        if len(found) == self._ledger.length(piece.shard):
            self._ledger.keep(piece.shard, [found[i] for i in range(len(found))])
            del self._rows[piece.shard]


class _Pace:
    """Tells how far a run is."""

    def __init__(self, ledger: Ledger, done: int, progress: Progress, say: Say, clock: Clock) -> None:
        self._all, self._done, self._before = ledger.pictures, done, done
        self._progress, self._say, self._clock = progress, say, clock
        self._began = self._said = clock.now_ns()
        if done:
            say(f"going on: {done:,} of {self._all:,} pictures are judged")

    def tick(self, pictures: int) -> None:
        """So many more are judged."""
        self._done += pictures
        self._progress("judging pictures", self._done / self._all)
        now = self._clock.now_ns()
        if now - self._said >= SAY_S * 1e9 and self._done < self._all:
            self._said = now
            rate = (self._done - self._before) / ((now - self._began) / 1e9)
            left = _duration((self._all - self._done) / rate)
            self._say(
                f"{self._done:,} of {self._all:,} pictures ({self._done / self._all:.1%}), {rate:.1f} a second, {left} left"
            )


def _duration(seconds: float) -> str:
    """``"42 s"``, ``"12 min"``, ``"3.5 h"``, ``"4.2 days"``."""
    for size, unit in ((86400.0, "days"), (3600.0, "h")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _written(ledger: Ledger, request: ScoreRequest) -> tuple[Counter[str], Counter[str]]:
    """Write the table; the counts of verdicts and of causes of UNKNOWN. Raises StorageError."""
    verdicts, causes = Counter[str](), Counter[str]()

    def counted() -> Iterator[Row]:
        for row in ledger.rows():
            verdicts[row["verdict"]] += 1
            if row["cause"]:
                causes[row["cause"].partition(":")[0]] += 1
            yield row

    columns = COLUMNS | ({} if request.maps is None else {"map": "TEXT"})
    write = write_parquet if request.out.suffix.lower() == ".parquet" else write_csv
    write(counted(), request.out, columns)
    return verdicts, causes
