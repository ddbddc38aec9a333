"""What SOURCE may be, and which pictures it names: listed one after the other, never all in memory."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from edgead.disk import open_file
from edgead.errors import BadInput, EdgeadError, StorageError
from edgead.jobs.scoring.reading import file_system, is_address, local
from edgead.layout import listed
from edgead.optional import require
from edgead.preprocess import IMAGE_SUFFIXES
from edgead.runtime.records.database import FILE_NAME
from edgead.runtime.records.history import History, Selection
from edgead.runtime.records.quota import parse
from edgead.runtime.redact import redact
from edgead.words import one_line

TABLES = (".csv", ".tsv", ".txt", ".parquet")
NAMES = (
    "path",
    "paths",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "picture",
    "img",
    "uri",
    "url",
)
"""Columns that hold the paths of pictures where nobody says which one does, the first of these that is there."""

LOOKED_AT = 20
"""Rows of a list by which its columns and its folder are checked."""

_MAGIC = re.compile(r"[*?\[]")
_FIELD = 1 << 20
"""Characters of a cell of a CSV file."""


@dataclass(frozen=True, slots=True)
class Source:
    """Pictures to judge.

    Attributes:
        told: what it is, in words, without secrets.
        items: lists them anew, in the same order while nothing changes; what is left out is counted in `skipped`.
        folder, base: how an item is read (:class:`edgead.jobs.scoring.reading.Reader`).
        skipped: what was left out, in words -> how many; whole after the items were listed.
        here: they lie in the memory of this process.
    """

    told: str
    items: Callable[[], Iterator[str]]
    folder: str = ""
    base: str = ""
    skipped: Counter[str] = field(default_factory=Counter)
    here: bool = False


def find_source(text: str, column: str | None = None, root: Path | None = None) -> Source:
    """What a SOURCE on the command line is.

    Args:
        text: a folder, a list (.csv, .tsv, .txt, .parquet), the records of a station, a glob, or an address of these.
        column: of a list; None: found.
        root: folder that relative paths in a list start from; None: the list's.

    Raises:
        BadInput: it is none of these, or an option is given that does not apply.
        MissingExtra: a package that reads it is not installed.
    """
    address = is_address(text)
    path = text if address else local(text)
    is_list = PurePosixPath(path).suffix.lower() in TABLES and not _MAGIC.search(path)
    if not is_list:
        for name, given in (("--column", column), ("--root", root)):
            if given is not None:
                raise BadInput(
                    f"{name} is for a list of paths, and {redact(text)} is none", hint=f"leave it out, or give {listed(TABLES)}"
                )
    if is_list:
        return _of_list(path, column, root)
    if address:
        return _of_address(path)
    if _MAGIC.search(path) and not Path(path).exists():
        return _of_glob(path)
    return _of_path(Path(path))


def _of_path(path: Path) -> Source:
    if path.name == FILE_NAME and path.is_file():
        return _of_records(path.parent)
    if path.is_file():
        raise BadInput(
            f"{path} is no list of pictures", hint=f"give a folder, a list ({listed(TABLES)}), or a pattern such as 'day*/*.png'"
        )
    if not path.is_dir():
        raise BadInput(
            f"there is no {path}", hint="give a folder, a list of paths, the records of a station, or a pattern in quotes"
        )
    if (path / FILE_NAME).is_file() or any(path.glob(f"*/{FILE_NAME}")):
        return _of_records(path)
    folder, skipped = path.absolute(), Counter[str]()
    return Source(f"folder {path}", lambda: _not_too_deep(str(path), _below(folder, skipped)), skipped=skipped)


def _below(folder: Path, skipped: Counter[str]) -> Iterator[str]:
    """Pictures of a folder and all below it, by their names; links are followed, each folder once."""
    skipped.clear()
    seen: set[tuple[int, int]] = set()

    def walk(place: str) -> Iterator[str]:
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            raise BadInput(f"cannot read {place}: {error.strerror or error}", hint="check its permissions") from error
        names = {entry.name for entry in entries}
        if FILE_NAME in names:
            raise BadInput(
                f"{place} holds the records of a station, whose overlays are no pictures to judge", hint=f"give {place} itself"
            )
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                skipped["hidden files and folders"] += 1
            elif _is_folder(entry):
                status = entry.stat()
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    yield from walk(entry.path)
            elif _is_overlay(entry.name, names):
                skipped["overlays of a station"] += 1
            elif _is_picture(entry.name):
                yield entry.path
            else:
                skipped[f"files that are no pictures ({PurePosixPath(entry.name).suffix.lower() or 'without an ending'})"] += 1

    top = folder.stat()
    seen.add((top.st_dev, top.st_ino))
    return walk(str(folder))


def _not_too_deep(told: str, items: Iterator[str]) -> Iterator[str]:
    """Raises BadInput: folders in folders without end."""
    try:
        yield from items
    except RecursionError as error:
        raise BadInput(f"{told}: folders are nested too deep", hint="give one that is further down") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: what reads it tells
        return False


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _is_overlay(name: str, beside: Iterable[str]) -> bool:
    """Is this the heat map that a station saved beside the camera's picture?"""
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix == ".jpg" and f"{stem}.png" in beside and parse(stem, 0) is not None


def _of_records(folder: Path) -> Source:
    History(folder).close()  # says what is wrong
    skipped = Counter[str]()

    def items() -> Iterator[str]:
        skipped.clear()
        with History(folder) as history:
            for row in history.rows(Selection()):
                if not row["picture"]:
                    skipped["parts without a saved picture"] += 1
                    continue
                name = Path(row["picture"])
                places = (name, folder.absolute() / "pictures" / name.name)  # the second of records that were copied here
                if (found := next((place for place in places if place.is_file()), None)) is None:
                    skipped["pictures that the station has removed since"] += 1
                    continue
                yield str(found.absolute())

    return Source(f"records {folder}", items, skipped=skipped)


def _of_glob(pattern: str) -> Source:
    folder = Path(pattern).absolute()
    parts = folder.parts
    first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    root, rest = Path(*parts[:first]), parts[first:]
    if not root.is_dir():
        raise BadInput(f"{pattern}: there is no folder {root}", hint="check the path before the first * or ?")
    skipped = Counter[str]()
    return Source(f"pattern {pattern}", lambda: _matching(_Local(), str(root), rest, skipped), skipped=skipped)


def _of_address(address: str) -> Source:
    system, path = file_system(address)
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    root, rest = "/".join(parts[:first]), tuple(parts[first:]) or ("**",)
    skipped, entries = Counter[str](), _Remote(system, address)
    if not entries.exists(root):
        raise BadInput(f"there is no {redact(address)}", hint="check the address before the first * or ?")
    protocol = system.protocol if isinstance(system.protocol, str) else system.protocol[0]
    return Source(
        redact(address), lambda: _matching(entries, root, rest, skipped), base=address, skipped=skipped, here=protocol == "memory"
    )


class _Local:
    """Folders of this machine, for a pattern."""

    def ls(self, folder: str) -> Iterator[tuple[str, str, bool]]:
        """Name, path and whether it is a folder, by name."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise BadInput(f"cannot read {folder}: {error.strerror or error}", hint="check its permissions") from error
        for entry in entries:
            yield (
                entry.name,
                entry.path,
                entry.is_dir(follow_symlinks=not entry.is_symlink()),
            )  # a link may lead back to where it is


class _Remote:
    """Folders of a file system of fsspec."""

    def __init__(self, system: Any, address: str) -> None:
        self._system, self._address = system, redact(address)

    def exists(self, path: str) -> bool:
        with self._told():
            return bool(self._system.exists(path))

    def ls(self, folder: str) -> Iterator[tuple[str, str, bool]]:
        with self._told():
            found = self._system.ls(folder, detail=True)
        for entry in sorted(found, key=lambda entry: str(entry["name"])):
            path = str(entry["name"])
            if path.rstrip("/") != folder.rstrip("/"):  # some stores list the folder itself
                yield path.rstrip("/").rpartition("/")[2], path, entry["type"] == "directory"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file system raises its own
            told = one_line(str(error)) or type(error).__name__
            raise StorageError(
                f"cannot list {self._address}: {told}", hint="check the address, the credentials and the network"
            ) from error


def _matching(system: _Local | _Remote, root: str, parts: tuple[str, ...], skipped: Counter[str]) -> Iterator[str]:
    """Pictures whose path below a folder matches a pattern; ``**`` is any number of folders. Each is looked at once."""
    skipped.clear()
    whole, steps = _compiled(parts), [_compiled((part,)) for part in parts]
    deep = parts.index("**") if "**" in parts else len(parts)

    def walk(folder: str, before: str, depth: int) -> Iterator[str]:
        for name, path, is_folder in system.ls(folder):
            if name.startswith("."):
                continue
            if is_folder:
                if depth >= deep or (depth < len(parts) - 1 and steps[depth].fullmatch(name)):
                    yield from walk(path, f"{before}{name}/", depth + 1)
            elif whole.fullmatch(before + name) and _is_picture(name):
                yield path
            else:
                skipped["files that do not match or are no pictures"] += 1

    return _not_too_deep("/".join(parts), walk(root, "", 0))


def takes(pattern: str, file: Path) -> bool:
    """Would a pattern of this machine take this file? Raises BadInput: it is no pattern."""
    if is_address(pattern) or not _MAGIC.search(pattern):
        return False
    return _compiled(Path(local(pattern)).absolute().parts[1:]).fullmatch("/".join(file.absolute().parts[1:])) is not None


def _compiled(parts: tuple[str, ...]) -> re.Pattern[str]:
    try:
        return re.compile(_expression(parts))
    except re.error as error:
        told = f"{'/'.join(parts)} is no pattern: {error.msg}"
        raise BadInput(told, hint="in brackets, from the smaller to the larger: [0-9]") from error


def _expression(parts: tuple[str, ...]) -> str:
    """A pattern's parts as a regular expression over a path with /."""
    last = len(parts) - 1
    made = []
    for i, part in enumerate(parts):
        if part == "**":
            made.append("(?s:.*)" if i == last else "(?s:.*/)?")
            continue
        pieces = re.split(r"(\*+|\?|\[!?[^]]+\])", part)
        made.append("".join(_piece(piece) for piece in pieces) + ("" if i == last else "/"))
    return "".join(made)


def _piece(text: str) -> str:
    if text.startswith("*"):
        return "[^/]*"
    if text == "?":
        return "[^/]"
    if len(text) > 2 and text.startswith("["):
        inside = re.sub(r"([\\\[^&~|])", r"\\\1", text[1:-1])
        return f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    return re.escape(text)


# Lists of paths


def _of_list(text: str, column: str | None, root: Path | None) -> Source:
    if root is not None and not root.is_dir():
        raise BadInput(f"--root {root} is not a folder", hint="give the folder that the list's relative paths start from")
    away = is_address(text)
    start = root or (Path.cwd() if away else Path(text).absolute().parent)
    rows = _of_parquet if text.lower().endswith(".parquet") else _of_csv
    head = list(islice(rows(text, column), LOOKED_AT))
    if not head:
        raise BadInput(f"{redact(text)} lists no pictures", hint="a row a picture; --column names the column of paths")
    _check_start(redact(text), head, start)
    return Source(f"list {redact(text)}", lambda: rows(text, column), folder=str(start.absolute()))


def _check_start(told: str, head: list[str], start: Path) -> None:
    """Refuse a list whose relative paths mean another folder. Raises BadInput."""
    names = [one for one in head if one and "\0" not in one and not is_address(one) and not Path(local(one)).is_absolute()]
    if names and not any(_exists(start / name) for name in names) and any(_exists(Path(name)) for name in names):
        raise BadInput(
            f"{told}: {names[0]} is not below {start}, where relative paths start",
            hint="there is one here: give --root . (or another folder)",
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long: what reads it tells
        return False


def _of_csv(text: str, column: str | None) -> Iterator[str]:
    """The paths of a CSV file, one a row; without a line of titles where its first cell is a path."""
    csv.field_size_limit(_FIELD)
    with _opened(text) as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as file:
        try:
            first = file.readline(_FIELD)
            file.seek(0)
            rows = csv.reader(file, delimiter=next((mark for mark in ("\t", ";", ",") if mark in first), ","))
            titles = next(rows, [])
            if column is None and len(titles) and _is_picture(titles[0]):
                place = 0
                yield titles[0]
            else:
                place = _place(redact(text), titles, column, first)
            for row in rows:
                if row:  # an empty line is no row
                    yield row[place] if place < len(row) else ""
        except UnicodeDecodeError as error:
            raise BadInput(f"{redact(text)} is not UTF-8: {error}", hint="save it as CSV UTF-8") from error
        except csv.Error as error:
            raise BadInput(
                f"{redact(text)} is no CSV: {error}", hint="a row a picture, fields in double quotes where need be"
            ) from error


def _of_parquet(text: str, column: str | None) -> Iterator[str]:
    require("pyarrow", extra="score", why="Reading Parquet")
    parquet = require("pyarrow.parquet", extra="score", why="Reading Parquet")
    with _opened(text) as binary:
        try:
            table = parquet.ParquetFile(binary)
            kinds = {one.name: str(one.type) for one in table.schema_arrow}
            texts = [name for name, kind in kinds.items() if kind in ("string", "large_string", "string_view")]
            name = texts[_place(redact(text), texts, column, "")]
            for batch in table.iter_batches(batch_size=4096, columns=[name]):
                yield from (value or "" for value in batch.column(0).to_pylist())
        except EdgeadError:
            raise
        except Exception as error:  # pyarrow raises many kinds for a file that is none
            raise BadInput(f"{redact(text)} is no whole Parquet file: {one_line(str(error))}", hint="write it again") from error


def _place(told: str, titles: list[str], column: str | None, line: str) -> int:
    """Which column holds the paths. Raises BadInput."""
    lower = [title.strip().lower() for title in titles]
    if column is not None:
        if column not in titles:
            raise BadInput(f"{told} has no column {column} of text", hint=f"it has {listed(titles) or 'none'}")
        return titles.index(column)
    for name in NAMES:
        if name in lower:
            return lower.index(name)
    if len(titles) == 1 and not line:
        return 0
    raise BadInput(
        f"{told}: which column holds the paths? There are {one_line(listed(titles), 200) or 'none'}",
        hint="name it: --column NAME",
    )


@contextmanager
def _opened(text: str) -> Iterator[IO[bytes]]:
    """A list's file. Raises BadInput: missing, no file, or it cannot be read."""
    if is_address(text):
        system, path = file_system(text)
        try:
            file = system.open(path, "rb")
        except Exception as error:  # each file system raises its own
            raise BadInput(f"cannot read {redact(text)}: {one_line(str(error))}", hint="check the address") from error
        with file:
            try:
                yield file
            except EdgeadError:
                raise
            except Exception as error:  # it broke off: see above
                told = one_line(str(error)) or type(error).__name__
                raise StorageError(f"cannot read {redact(text)}: {told}", hint="the same command begins again") from error
    else:
        try:
            file = open_file(Path(text))
        except OSError as error:
            raise BadInput(f"cannot read {text}: {error.strerror or error}", hint="check the path") from error
        with file:
            yield file
