"""Show, count or export what a station has recorded; also while it runs, and from a copy of its records.db.

  edgead records DIR                              the newest 20 parts
  edgead records DIR --verdict NG --since 2026-11-22
  edgead records DIR --summary                    counts by verdict and cause, latency
  edgead records DIR --csv parts.csv --parquet parts.parquet

Dates are UTC: 2026-11-22, 2026-11-22T06:30, or how long ago: 90m, 12h, 7d.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.words import plain

if TYPE_CHECKING:
    from edgead.runtime.records.history import History, Selection, Summary

SUMMARY = "show or export what a station has recorded"
SHOWN = 20
LARGEST = 2**63 - 1
"""What SQLite can hold."""
_AGO = re.compile(r"(\d{1,6})([smhd])$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `edgead records`."""
    parser.add_argument("path", type=Path, metavar="DIR|FILE", help="the station's records folder, its records.db, or a copy")
    parser.add_argument("--since", metavar="DATE", help="from then on (see above)")
    parser.add_argument("--until", metavar="DATE", help="before then")
    parser.add_argument("--verdict", action="append", default=[], metavar="V", help="OK, NG or UNKNOWN; may be given again")
    parser.add_argument("--part", type=int, metavar="ID", help="one part")
    parser.add_argument("--limit", type=int, metavar="N", help=f"the newest N (default: {SHOWN} when shown, else all)")
    parser.add_argument("--summary", action="store_true", help="counts and latency instead of a list")
    parser.add_argument("--json", action="store_true", help="a JSON object a line instead of a table")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write them there")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="write them there (needs edgead[parquet])")


def run(args: argparse.Namespace) -> int:
    """List, count or export; 0 also when nothing matches."""
    from edgead.errors import StorageError
    from edgead.runtime.records.history import History

    selection = select(args, datetime.now(timezone.utc))
    with History(args.path) as history:
        try:
            _tell(args, history, selection)
        except (TypeError, ValueError) as error:  # a column holds what no station writes there
            raise StorageError(
                f"{history.path} holds a record that edgead did not write: {str(error)[:200]}",
                hint="`sqlite3 FILE .recover` may save the others",
            ) from error
    return 0


def _tell(args: argparse.Namespace, history: History, selection: Selection) -> None:
    if args.csv is not None or args.parquet is not None:
        export(args, history, selection)
    elif args.summary:
        show_summary(history.summary(selection), as_json=args.json)
    elif args.json:
        for row in history.rows(selection):
            print(json.dumps({**row, "views": json.loads(row["views"] or "[]")}))
    else:
        show(history, selection)


def select(args: argparse.Namespace, now: datetime) -> Selection:
    """The selection that the arguments ask for. Raises BadInput."""
    from edgead.errors import BadInput
    from edgead.runtime.records.history import Selection
    from edgead.types import Verdict

    verdicts = tuple(verdict.upper() for verdict in args.verdict)
    for verdict in verdicts:
        if verdict not in {v.value for v in Verdict}:
            raise BadInput(f"--verdict {verdict} is not a verdict", hint="OK, NG or UNKNOWN")
    for option, value, least in (("--limit", args.limit, 1), ("--part", args.part, 0)):
        if value is not None and not least <= value <= LARGEST:
            raise BadInput(f"{option} {value} is not usable"[:80], hint=f"give a whole number from {least} to {LARGEST}")
    files = [path for path in (args.csv, args.parquet) if path is not None]
    if files and (args.summary or args.json):
        raise BadInput("--summary and --json are shown, --csv and --parquet are written", hint="give one or the other")
    for path in files:
        if not path.name or path.is_dir() or files.count(path) > 1:
            raise BadInput(f"{path} cannot be written", hint="give the name of a file, another one for each format")
    listed = not (args.summary or args.json or args.csv or args.parquet)
    last = args.limit or (SHOWN if listed else None)
    return Selection(moment(args.since, "--since", now), moment(args.until, "--until", now), verdicts, args.part, last)


def moment(text: str | None, option: str, now: datetime) -> str | None:
    """A date or an age as the records hold dates. Raises BadInput."""
    from edgead.errors import BadInput

    if text is None:
        return None
    try:
        if match := _AGO.fullmatch(text):
            when = now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        else:
            when = datetime.fromisoformat(text.replace("Z", "+00:00"))
            when = when.replace(tzinfo=when.tzinfo or timezone.utc)
        return when.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError) as error:  # not a date, or before the year 1
        hint = "2026-11-22, 2026-11-22T06:30 (UTC), 90m, 12h or 7d"
        raise BadInput(f"{option} {text[:60]} is not a date", hint=hint) from error


def export(args: argparse.Namespace, history: History, selection: Selection) -> None:
    """Write the files that are asked for."""
    from edgead.disk import is_special
    from edgead.errors import BadInput
    from edgead.runtime.records.exports import write_csv, write_parquet

    for path, write in ((args.csv, write_csv), (args.parquet, write_parquet)):
        if path is not None:
            own = (history.path.with_name(history.path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))
            if any(path.resolve() == file.resolve() or (path.exists() and file.exists() and path.samefile(file)) for file in own):
                raise BadInput(f"{path} holds the records themselves", hint="choose another file")
            count = write(history.rows(selection), path)
            print(plain(f"{count:,} records in {path}"), file=sys.stderr if is_special(path) else sys.stdout)


def show(history: History, selection: Selection) -> None:
    """A line a part, the newest last."""
    rows = list(history.rows(selection))
    for line in lines(iter(rows)) if rows else ["no records match"]:
        print(plain(line))


def lines(rows: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """Header and rows of the table."""
    yield f"{'part':>8}  {'time (UTC)':<23}  {'verdict':<7}  {'score':>9}  {'NG from':>9}  {'ms':>7}  camera, cause, picture"
    for row in rows:
        score, threshold = (f"{row[name]:.4g}" if row[name] is not None else "-" for name in ("score", "threshold"))
        late = f"{row['total_ms']:.1f}" if row["frame_id"] is not None else "-"
        rest = "  ".join(str(row[name]) for name in ("camera", "cause", "picture") if row[name])
        when = row["time"][:23].replace("T", " ")
        yield f"{row['part_id']:>8}  {when:<23}  {row['verdict']:<7}  {score:>9}  {threshold:>9}  {late:>7}  {rest}".rstrip()


def show_summary(summary: Summary, *, as_json: bool) -> None:
    """Counts and latency, for people or for a script."""
    from dataclasses import asdict

    if as_json:
        print(json.dumps(asdict(summary)))
        return
    if not summary.parts:
        print("no records match")
        return
    print(f"{summary.parts:,} parts in {summary.runs} runs of the station, {summary.first[:19]} to {summary.last[:19]} UTC")
    for verdict in ("OK", "NG", "UNKNOWN"):
        count = summary.verdicts.get(verdict, 0)
        print(f"  {verdict:<8} {count:>10,}  {100 * count / summary.parts:6.2f} %")
    for cause, count in summary.causes.items():
        print(plain(f"    {cause:<24} {count:>10,}"))
    if summary.missing:
        print(f"  {summary.missing:,} part ids between the first and the last have no record")
    if summary.latency_ms:
        print("  from picture to verdict: " + ", ".join(f"{name} {value:.1f} ms" for name, value in summary.latency_ms.items()))
