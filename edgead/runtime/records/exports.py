"""Records as CSV and Parquet files: streamed, and whole or not there."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from edgead.disk import is_special
from edgead.errors import StorageError
from edgead.optional import require
from edgead.runtime.records.history import SHOWN

ROW_GROUP = 50_000  # rows of Parquet in memory at once
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""How a cell begins that Excel or LibreOffice may calculate; the last four are full-width forms of the first four."""
_PARQUET = {"INTEGER": "int64", "TEXT": "string", "REAL": "float64"}


def write_csv(rows: Iterable[Mapping[str, Any]], path: Path, columns: Mapping[str, str] = SHOWN) -> int:
    """Write columns (names and SQL types) with a header line (RFC 4180, UTF-8; an empty field is NULL); the number of rows.

    A text that begins like a formula gets a ' before it. A device or a pipe (/dev/stdout) is written to.

    Raises:
        StorageError: the file cannot be written; there is none then, or the one from before.
        BrokenPipeError: nobody reads the pipe any more.
    """
    count = 0
    with _replaced(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, tuple(columns))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})
            count += 1
    return count


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, as a text (with ' before it); numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_parquet(rows: Iterable[Mapping[str, Any]], path: Path, columns: Mapping[str, str] = SHOWN) -> int:
    """Write columns (names and SQL types), 50,000 rows a row group; dates are timestamps (milliseconds, UTC).

    Raises:
        MissingExtra: pyarrow is not installed.
        StorageError: as `write_csv`, or not a file: Parquet is not written in one go.
    """
    if is_special(path):
        raise StorageError(f"{path} is a device or a pipe, which cannot hold Parquet", hint="give a file, or --csv")
    arrow = require("pyarrow", extra="parquet", why="Writing Parquet")
    parquet = require("pyarrow.parquet", extra="parquet", why="Writing Parquet")
    compute = require("pyarrow.compute", extra="parquet", why="Writing Parquet")
    dates = [name for name in ("time", "acknowledged") if name in columns]
    instant = arrow.timestamp("ms", tz="UTC")
    plain = arrow.schema([(name, _PARQUET[kind.split()[0]]) for name, kind in columns.items()])
    schema = arrow.schema(
        [(name, instant if name in dates else kind) for name, kind in zip(plain.names, plain.types, strict=True)]
    )
    count, rows = 0, iter(rows)
    with _replaced(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        while batch := list(islice(rows, ROW_GROUP)):
            table = arrow.Table.from_pylist(batch, schema=plain)
            for name in dates:
                # The text ends in +00:00, which the cast to a timestamp in UTC understands.
                table = table.set_column(table.column_names.index(name), name, compute.cast(table[name], instant))
            writer.write_table(table)
            count += len(batch)
    return count


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name at the end; after any error it is gone. A device or a pipe is itself."""
    special = is_special(path)
    target = path if special else path.resolve()
    temporary = path if special else target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if not special:
            temporary.replace(target)
    except BrokenPipeError:
        raise  # whoever reads has enough
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint="choose another file or make room") from error
    finally:
        if not special:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
