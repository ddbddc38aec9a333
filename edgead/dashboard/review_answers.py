"""What people say of parts, and the log of who changed what."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

from edgead.dashboard import parts
from edgead.dashboard.asking import Ask, Refused, Reply, at_most
from edgead.dashboard.board import Board
from edgead.dashboard.export import FORMATS, Labelled, write_zip
from edgead.dashboard.part_answers import part, row_of, seq_of
from edgead.dashboard.reviews import LABELS, Reviews
from edgead.errors import StorageError

MOST_EXPORTED = 5000
"""Pictures in one file."""
NOTE = 500  # characters
_exporting = threading.Semaphore(1)


def review(board: Board, ask: Ask) -> dict[str, Any]:
    """Say something of a part, or take it back; the part as it is then."""
    place, seq = board.in_path(ask), seq_of(ask)
    if "label" not in ask.body:
        raise Refused(400, "label is missing", f"one of {', '.join(LABELS)}, or null to take it back")
    label = ask.body["label"]
    if label is not None and label not in LABELS:
        raise Refused(400, f"label {str(label)[:40]!r} is not known", f"one of {', '.join(LABELS)}, or null to take it back")
    note = ask.given("note", NOTE)
    with parts.history_of(place) as history:
        row = row_of(history, place, seq)
    if label == "false_reject" and row["verdict"] == "OK":
        raise Refused(409, "this part was OK: nothing was rejected")
    if label == "missed_defect" and row["verdict"] == "NG":
        raise Refused(409, "this part was NG: nothing was missed")
    now = board.now()
    with Reviews.of(place).changing(now, ask.who.name, ask.who.role, "review", place.id, f"part {seq}: {note}") as change:
        change.review(place.name, row, label, note, ask.who.name, now)
    return part(board, ask)


def audit(board: Board, ask: Ask) -> list[dict[str, Any]]:
    """Changes, the newest first."""
    limit = ask.whole("limit", 200, 1, 5000)
    assert limit is not None
    files = {reviews.file: reviews for reviews in map(Reviews.of, board.hub.places.values())}
    found = [row for reviews in files.values() for row in reviews.audit(limit)]
    return sorted(found, key=lambda row: row["when"], reverse=True)[:limit]


def export(board: Board, ask: Ask) -> Reply:
    """A zip of the pictures of which somebody said what they are."""
    form = ask.text("format") or "mvtec"
    if form not in FORMATS:
        raise Refused(400, f"format {form[:40]!r} is not known", f"one of {', '.join(FORMATS)}")
    since = ask.moment("since", board.now())
    with at_most(_exporting, "a file is being made already"):
        return _export(board, ask, form, since)


def _export(board: Board, ask: Ask, form: str, since: str | None) -> Reply:
    found: list[Labelled] = []
    for place in board.wanted(ask):
        if not parts.has_records(place):
            continue
        reviews = Reviews.of(place)
        labels = {seq: (time, label) for seq, time, label in reviews.labelled(place, since)[-MOST_EXPORTED:]}
        seqs = tuple(labels)
        with parts.history_of(place) as history:
            for at in range(0, len(seqs), 500):
                for row in parts.newest(history, place, parts.Wish(seqs=seqs[at : at + 500]), 500):
                    time, label = labels[row["seq"]]
                    file = parts.picture_of(place, row["picture"])
                    if time == row["time"] and file is not None:
                        found.append(Labelled(place.station, place.name, row, label, file))
    if not found:
        raise Refused(404, "no picture is marked yet that is still kept", "mark parts under Review first")
    handle = tempfile.NamedTemporaryFile(prefix="edgead-export-", suffix=".zip", delete=False)  # noqa: SIM115 - sent, then removed
    try:
        with handle:
            write_zip(handle, form, sorted(found, key=lambda one: (one.station, one.camera, one.row["seq"]))[:MOST_EXPORTED])
    except BaseException as error:
        Path(handle.name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(
                f"the file cannot be made: {error.strerror or error}", hint="the dashboard's machine needs room in its /tmp"
            ) from error
        raise
    return Reply(Path(handle.name), "application/zip", name=f"edgead-{form}.zip")
