"""Show, count or export what a station has recorded; also while it runs, and from a copy of its records.db.

  edgead records DIR                              the newest 20 parts
  edgead records DIR --verdict NG --since 2026-11-22
  edgead records DIR --summary                    counts by verdict and cause, latency
  edgead records DIR --csv parts.csv --parquet parts.parquet
  edgead records DIR --replay 2.5 --since 7d      how would these parts have been judged with this threshold?
  edgead records DIR --replay 2.5 --csv changed.csv               the parts that would have changed
  edgead records DIR --shadow --csv differ.csv    what its shadow said of them, and the parts on which it differs

Dates are UTC: 2026-11-22, 2026-11-22T06:30, or how long ago: 90m, 12h, 7d.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.cli._json import print_json
from edgead.cli._options import JSON, given, refuse
from edgead.cli._replayed import pair, show_changes, show_replay, show_shadow
from edgead.cli._types import NUMBER, PATH, Parsed, whole
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput
from edgead.words import plain

if TYPE_CHECKING:
    from edgead.runtime.records.history import History, Selection, Summary
    from edgead.runtime.records.replay import Trial

REPLAY = "judged again, from the records alone"
SHOWN = 20
EVERY = 1000  # records between two tellings of how far it is
COLUMNS = 80  # of a row, where its cause has room in it
LARGEST = 2**63 - 1
"""What SQLite can hold."""
_AGO = re.compile(r"(\d{1,6})([smhd])$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Row:
    """A part (edgead docs records).

    Attributes:
        seq: the order of writing.
        run: which run of the station.
        part_id: the station's number of the part.
        trigger_id, trigger_source, line_part_id: what asked for the verdict, and the line's own number.
        time: of the verdict, ISO 8601, UTC.
        recorded_ns, captured_ns: monotonic clock of that boot: when the record came, when the picture was made.
        camera, frame_id, source: the frame; null when there was none.
        verdict: OK, NG or UNKNOWN.
        cause: why.
        score, threshold, engine: raw model units.
        wait_ms, resize_ms, inference_ms, decision_ms, total_ms: stages.
        views: of each frame, when several were combined: camera, frame, verdict, cause, score, time.
        picture, overlay: files that were saved; the quota may have removed them since.
        acknowledged: when the PLC took the result, ISO 8601, UTC.
        statistic: what the rule compares: the score, by area the pixels of the largest hot piece.
        level: the largest threshold at which the part is NG, raw model units.
        rule: version of all that the verdict rests on; the same rule has the same version.
        bundle: SHA-256 of the bundle's manifest.
    """

    seq: int
    run: int
    part_id: int
    trigger_id: int | None
    trigger_source: str | None
    line_part_id: int | None
    time: str
    recorded_ns: int
    captured_ns: int | None
    camera: str | None
    frame_id: int | None
    source: str | None
    verdict: str
    cause: str
    score: float | None
    threshold: float | None
    engine: str | None
    wait_ms: float | None
    resize_ms: float | None
    inference_ms: float | None
    decision_ms: float | None
    total_ms: float | None
    views: list[dict[str, Any]]
    picture: str | None
    overlay: str | None
    acknowledged: str | None
    statistic: float | None
    level: float | None
    rule: str | None
    bundle: str | None


@verb(__doc__)
@argument("path", type=PATH, metavar="DIR|FILE", help="the station's records folder, its records.db, or a copy")
@option("--since", metavar="DATE", help="from then on (see above)")
@option("--until", metavar="DATE", help="before then")
@option("--verdict", "verdicts", multiple=True, metavar="V", help="OK, NG or UNKNOWN; may be given again")
@option("--part", type=whole(0, LARGEST), metavar="ID", help="one part")
@option("--limit", type=whole(1, LARGEST), metavar="N", help=f"the newest N (default: {SHOWN} when shown, else all)")
@option("--summary", is_flag=True, help="counts and latency instead of a list")
@option("--replay", type=NUMBER, metavar="VALUE", group=REPLAY, help="with this threshold (by area: of map pixels)")
@option("--replay-area", type=whole(1, LARGEST), metavar="N", group=REPLAY, help="with this minimal area, in map pixels")
@option(
    "--unknown-band",
    type=Parsed(pair, "band"),
    metavar="LOW:HIGH",
    group=REPLAY,
    help="UNKNOWN from LOW to below HIGH; none (to be said where the parts were judged with a band)",
)
@option("--engine", metavar="NAME", group=REPLAY, help="parts that this engine judged (default: the newest part's)")
@option("--shadow", is_flag=True, help="what the station's shadow said of the same parts (edgead docs shadow)")
@option("--changes", is_flag=True, help="thresholds that were changed while the station ran")
@option("--csv", type=PATH, metavar="FILE", help="write them there")
@option("--parquet", type=PATH, metavar="FILE", help="write them there (needs edgead[parquet])")
@JSON
def command(
    path: Path,
    since: str | None,
    until: str | None,
    verdicts: tuple[str, ...],
    part: int | None,
    limit: int | None,
    summary: bool,
    replay: float | None,
    replay_area: int | None,
    unknown_band: tuple[float, float] | str | None,
    engine: str | None,
    shadow: bool,
    changes: bool,
    csv: Path | None,
    parquet: Path | None,
    as_json: bool,
) -> int:
    """List, count or export; 0 also when nothing matches."""
    from edgead.errors import StorageError
    from edgead.runtime.records.history import History, Selection

    now = datetime.now(timezone.utc)
    check_files(csv, parquet)
    trial = trial_of(replay, replay_area, unknown_band, engine)
    if changes:
        refuse(
            "summary", "shadow", "verdicts", "part", "limit", "csv", "parquet", why="--changes goes alone", hint="leave it out"
        )
    if shadow:
        refuse("summary", "replay", "replay_area", why="--shadow is a summary of its own", hint="ask for one at a time")
    listed = not (summary or trial or changes or shadow or as_json or csv or parquet)
    last = limit or (SHOWN if listed else None)
    selection = Selection(moment(since, "--since", now), moment(until, "--until", now), known(verdicts), part, last)
    with History(path) as history:
        try:
            if trial is not None:
                show_replayed(history, selection, trial, csv, parquet, as_json=as_json)
            elif shadow:
                show_shadowed(history, selection, csv, parquet, as_json=as_json)
            elif changes:
                show_changes(history.changes(selection), as_json=as_json)
            elif csv is not None or parquet is not None:
                export(csv, parquet, history, selection, lambda: history.rows(selection))
            elif summary:
                show_summary(history.summary(selection), as_json=as_json)
            else:
                show(history, selection, as_json=as_json)
        except (TypeError, ValueError) as error:  # a column holds what no station writes there
            raise StorageError(
                f"{history.path} holds a record that edgead did not write: {str(error)[:200]}",
                hint="`sqlite3 FILE .recover` may save the others",
            ) from error
    return 0


def trial_of(
    threshold: float | None, min_area: int | None, band: tuple[float, float] | str | None, engine: str | None
) -> Trial | None:
    """What shall be replayed; None: nothing. Raises BadInput."""
    from edgead.runtime.records.replay import Trial

    if threshold is None and min_area is None:
        refuse("unknown_band", "engine", why="nothing is replayed", hint="give --replay VALUE, or leave it out")
        return None
    refuse("summary", "changes", why="a replay is asked for", hint="ask for one at a time")
    return Trial(threshold, min_area, band, engine)


def show_replayed(
    history: History, selection: Selection, trial: Trial, csv: Path | None, parquet: Path | None, *, as_json: bool
) -> None:
    """What would have been; into the files go the parts that change."""
    from edgead.runtime.records.history import SHOWN
    from edgead.runtime.records.replay import changed_rows, replay

    with read_through(history, selection, "judging again") as read:
        found = replay(history, selection, trial, read)
    show_replay(found, trial, as_json=as_json)
    columns = {**SHOWN, "replayed": "TEXT", "replayed_cause": "TEXT"}
    export(csv, parquet, history, selection, lambda: changed_rows(history, selection, found), columns)


def show_shadowed(history: History, selection: Selection, csv: Path | None, parquet: Path | None, *, as_json: bool) -> None:
    """What the shadow said; into the files go the parts on which it differs."""
    from edgead.runtime.records.shadows import COLUMNS, differing, shadowed

    show_shadow(shadowed(history, selection), as_json=as_json)
    export(csv, parquet, history, selection, lambda: differing(history, selection), COLUMNS)


@contextmanager
def read_through(history: History, selection: Selection, stage: str) -> Iterator[Callable[[int], None]]:
    """To be told the `seq` of each record on the way through the selected ones: how far it is, for who looks on."""
    from edgead.cli._console import told_progress

    first, last = history.ends(selection)
    with told_progress() as progress:
        progress(stage, 0.0)
        yield lambda seq: None if seq % EVERY else progress(stage, min(1.0, max(0.0, (seq - first) / max(1, last - first))))


def _told(rows: Iterable[Mapping[str, Any]], read: Callable[[int], None]) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        read(row["seq"])
        yield row


def known(verdicts: tuple[str, ...]) -> tuple[str, ...]:
    """In capitals. Raises BadInput: one is no verdict."""
    from edgead.types import Verdict

    for verdict in verdicts:
        if verdict.upper() not in {v.value for v in Verdict}:
            raise BadInput(f"--verdict {verdict} is not a verdict", hint="OK, NG or UNKNOWN")
    return tuple(verdict.upper() for verdict in verdicts)


def check_files(csv: Path | None, parquet: Path | None) -> None:
    """Raises BadInput: a file cannot be written, or is not all that is asked for."""
    files = [path for path in (csv, parquet) if path is not None]
    if files and (shown := given("summary", "as_json")):
        raise BadInput(f"{shown[0]} is shown, --csv and --parquet are written", hint="give one or the other")
    for path in files:
        if not path.name or path.is_dir() or files.count(path) > 1:
            raise BadInput(f"{path} cannot be written", hint="give the name of a file, another one for each format")


def moment(text: str | None, option: str, now: datetime) -> str | None:
    """A date or an age as the records hold dates. Raises BadInput."""
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


def export(
    csv: Path | None,
    parquet: Path | None,
    history: History,
    selection: Selection,
    rows: Callable[[], Iterable[Mapping[str, Any]]],
    columns: Mapping[str, str] | None = None,
) -> None:
    """Write the files that are asked for."""
    from edgead.disk import is_special
    from edgead.runtime.records.exports import write_csv, write_parquet
    from edgead.runtime.records.history import SHOWN as ALL

    for path, write in ((csv, write_csv), (parquet, write_parquet)):
        if path is not None:
            own = (history.path.with_name(history.path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))
            if any(path.resolve() == file.resolve() or (path.exists() and file.exists() and path.samefile(file)) for file in own):
                raise BadInput(f"{path} holds the records themselves", hint="choose another file")
            with read_through(history, selection, f"writing {path.name}") as read:
                count = write(_told(rows(), read), path, columns or ALL)
            print(plain(f"{count:,} records in {path}"), file=sys.stderr if is_special(path) else sys.stdout)


def show(history: History, selection: Selection, *, as_json: bool) -> None:
    """A line a part, the newest last."""
    if as_json:
        for row in history.rows(selection):
            print_json("records", Row(**{**row, "views": json.loads(row["views"] or "[]")}), indent=None)
        return
    rows = list(history.rows(selection))
    for line in lines(iter(rows)) if rows else ["no records match"]:
        print(plain(line))


def lines(rows: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """Header and rows of the table; beneath a row its picture, and a cause that has no room in it."""
    yield f"{'part':>7}  {'time (UTC)':<19}  {'verdict':<7}  {'score':>8}  {'NG from':>8}  {'ms':>6}  camera, cause"
    for row in rows:
        score, threshold = (f"{row[name]:.4g}" if row[name] is not None else "-" for name in ("score", "threshold"))
        late = f"{row['total_ms']:.1f}" if row["frame_id"] is not None else "-"
        when = row["time"][:19].replace("T", " ")
        line = (
            f"{row['part_id']:>7}  {when:<19}  {row['verdict']:<7}  {score:>8}  {threshold:>8}  {late:>6}  {row['camera'] or ''}"
        )
        below = [row["cause"], row["picture"]]
        if row["cause"] and len(line) + 2 + len(row["cause"]) <= COLUMNS:
            line, below = f"{line}  {row['cause']}", below[1:]
        yield line.rstrip()
        yield from (f"{'':9}{one}" for one in below if one)


def show_summary(summary: Summary, *, as_json: bool) -> None:
    """Counts and latency, for people or for a script."""
    if as_json:
        print_json("records", summary, action="summary", indent=None)
        return
    if not summary.parts:
        print("no records match")
        return
    print(f"{summary.parts:,} parts in {summary.runs} runs of the station: {summary.first[:19]} to {summary.last[:19]}Z")
    for verdict in ("OK", "NG", "UNKNOWN"):
        count = summary.verdicts.get(verdict, 0)
        print(f"  {verdict:<8} {count:>10,}  {100 * count / summary.parts:6.2f} %")
    for cause, count in summary.causes.items():
        print(plain(f"    {cause:<24} {count:>10,}"))
    if summary.missing:
        print(f"  {summary.missing:,} part ids between the first and the last have no record")
    if summary.latency_ms:
        print("  from picture to verdict: " + ", ".join(f"{name} {value:.1f} ms" for name, value in summary.latency_ms.items()))
