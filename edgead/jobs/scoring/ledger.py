"""What is done of a run, on disk beside its output, so that it goes on after a crash: the list of pictures, and finished shards.

OUT.scoring/run.json              what the run is; written last, when the list is whole
OUT.scoring/list.jsonl, starts    an item a line, and where each shard's lines begin (int64)
OUT.scoring/shards/000012.gz      the rows of a finished shard, JSON lines; whole or not there
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from edgead.disk import hold, write_file
from edgead.errors import BadInput, StorageError

SHARD = 512
"""Pictures of a shard, at least: so many are judged again at most, by each worker, after a crash."""

MOST_SHARDS = 20_000

Row = Mapping[str, Any]


class Ledger:
    """The books of one run; one process keeps them at a time.

    Args:
        out: the run's output; the books are beside it.
        run: what the run is: names and plain values that must be the same when it goes on.
        list_items: lists the pictures, where nobody has yet.
        restart: throw away what another run left.

    Raises:
        BadInput: another run left its books there, or is at work; or there are no pictures.
        StorageError: the disk is full or not writable, or the books are damaged.
    """

    def __init__(
        self, out: Path, run: Mapping[str, Any], list_items: Callable[[], Iterable[str]], *, restart: bool = False
    ) -> None:
        self.folder, self._run = out.with_name(f"{out.name}.scoring"), dict(run)
        with _told(self.folder):
            self.folder.mkdir(exist_ok=True)
            self._lock = hold(self.folder)
        if self._lock is None:
            raise BadInput(f"another edgead score writes {out}", hint="wait for it, or give another -o")
        try:
            if restart:
                self._clear()
            began = self._began()
            self.resumed = began is not None
            self.pictures, self.size = began if began is not None else self._listed(list_items)
            self.shards = -(-self.pictures // self.size)
            self._starts = self._read_starts()
            found = {path.name for path in self._place.iterdir()}
            self._done = bytearray(f"{shard:06d}.gz" in found for shard in range(self.shards))
        except OSError as error:
            self.close()
            raise StorageError(f"cannot use {self.folder}: {error.strerror or error}", hint=_HINT) from error
        except BaseException:
            self.close()
            raise

    @property
    def _place(self) -> Path:
        return self.folder / "shards"

    @property
    def finished(self) -> int:
        """Pictures in finished shards."""
        return sum(self.length(shard) for shard in range(self.shards) if self._done[shard])

    def length(self, shard: int) -> int:
        """Pictures of a shard."""
        return min(self.size, self.pictures - shard * self.size)

    def _read_starts(self) -> array[int]:
        file = self.folder / "starts"
        content = file.read_bytes()
        if len(content) % 8 or len(content) // 8 < self.shards:
            raise _damaged(file, _ANEW)
        return array("q", content)

    def open_shards(self) -> Iterator[tuple[int, list[str]]]:
        """Each shard that is not finished, and its items. Raises StorageError: the list is damaged."""
        path = self.folder / "list.jsonl"
        with path.open("rb") as file:
            for shard in range(self.shards):
                if not self._done[shard]:
                    try:
                        file.seek(self._starts[shard])
                        items = [json.loads(file.readline()) for _ in range(self.length(shard))]
                    except ValueError as error:
                        raise _damaged(path, _ANEW) from error
                    yield shard, items

    def keep(self, shard: int, rows: Sequence[Row]) -> None:
        """A shard is finished. Raises StorageError."""
        content = "".join(f"{json.dumps(row, allow_nan=False)}\n" for row in rows).encode()
        with _told(self.folder):
            write_file(self._place / f"{shard:06d}.gz", gzip.compress(content, 1))
        self._done[shard] = True

    def rows(self) -> Iterator[Row]:
        """All rows, in the order of the list. Raises StorageError: a shard is damaged."""
        for shard in range(self.shards):
            file = self._place / f"{shard:06d}.gz"
            try:
                lines = gzip.decompress(file.read_bytes()).splitlines()
                rows = [json.loads(line) for line in lines]
            except (OSError, EOFError, ValueError, zlib.error) as error:
                raise _damaged(file) from error
            if len(rows) != self.length(shard):
                raise _damaged(file)
            yield from rows

    def remove(self) -> None:
        """The run is over, and its output there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _began(self) -> tuple[int, int] | None:
        """Pictures and shard size of the run that left its books here; None: there is none."""
        file = self.folder / "run.json"
        if not file.exists():
            return None
        try:
            left = json.loads(file.read_bytes())
            pictures, size, run = int(left["pictures"]), int(left["shard"]), dict(left["run"])
            if pictures < 1 or size < 1:
                raise ValueError("no pictures")
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(file, _ANEW) from error
        if different := [name for name, value in self._run.items() if run.get(name) != value]:
            told = "; ".join(f"its {name} is {run.get(name)}, not {self._run[name]}" for name in different)
            raise BadInput(
                f"{self.folder} holds an unfinished run that is another one: {told}",
                hint="finish that one with its own words, give another -o, or --restart to throw it away",
            )
        return pictures, size

    def _listed(self, list_items: Callable[[], Iterable[str]]) -> tuple[int, int]:
        """List the pictures: a line each, and where each shard begins. Nothing is left of a list that does not get whole."""
        try:
            return self._list(list_items)
        except BaseException:
            self.remove()
            raise

    def _list(self, list_items: Callable[[], Iterable[str]]) -> tuple[int, int]:
        self._clear()
        self._place.mkdir()
        count, ends = 0, array("q", [0])
        with (self.folder / "list.jsonl").open("wb") as file:
            for item in list_items():
                file.write(json.dumps(item).encode() + b"\n")
                count += 1
                if count % SHARD == 0:
                    ends.append(file.tell())
            file.flush()
            os.fsync(file.fileno())
        if not count:
            raise BadInput("there are no pictures to judge", hint="edgead score --help tells what SOURCE may be")
        factor = -(-count // (SHARD * MOST_SHARDS))
        write_file(self.folder / "starts", ends[::factor].tobytes())
        about = {"schema": "edgead.scoring/1", "run": self._run, "pictures": count, "shard": SHARD * factor}
        write_file(self.folder / "run.json", json.dumps(about, indent=1).encode())
        return count, SHARD * factor


_HINT = "make room or choose another -o; the same command goes on"


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror or error}", hint=_HINT) from error


_ANEW = "--restart throws away what that run left, and begins anew"


def _damaged(
    file: Path, hint: str = "remove it, and the same command judges those pictures again; or give --restart"
) -> StorageError:
    return StorageError(f"{file} is damaged", hint=hint)
