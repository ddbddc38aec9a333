"""Answers about parts that were judged."""

from __future__ import annotations

import re
from typing import Any

from edgead.dashboard import parts
from edgead.dashboard.asking import SQL_WHOLE, Ask, Refused, Reply
from edgead.dashboard.board import Board
from edgead.dashboard.places import Place
from edgead.dashboard.reviews import Reviews

MOST = 500


def found(board: Board, ask: Ask) -> dict[str, Any]:
    """Parts, the newest first; of several cameras by time."""
    limit = ask.whole("limit", 60, 1, MOST)
    assert limit is not None
    reviewed = next(iter(ask.among("reviewed", ("yes", "no"))), None)
    now = board.now()
    wish = parts.Wish(
        verdicts=ask.among("verdict", parts.VERDICTS),
        cause=ask.text("cause"),
        recipe=ask.whole("recipe", None, 0, 65535),
        since=ask.moment("from", now),
        until=ask.moment("to", now),
        score_min=ask.number("score_min"),
        score_max=ask.number("score_max"),
        before=ask.whole("before", None, 0, SQL_WHOLE),
    )
    told: list[dict[str, Any]] = []
    for place in board.wanted(ask):
        told += _of(place, wish, limit + 1, reviewed)
    told.sort(key=lambda one: (one["time"], one["seq"]), reverse=True)
    return {"parts": told[:limit], "more": len(told) > limit}


def _of(place: Place, wish: parts.Wish, limit: int, reviewed: str | None) -> list[dict[str, Any]]:
    """At most `limit` of one camera."""
    import dataclasses

    if not parts.has_records(place):
        return []
    reviews = Reviews.of(place)
    if reviewed == "yes":
        wish = dataclasses.replace(wish, seqs=tuple(reviews.seqs(place))[:10_000])
    told: list[dict[str, Any]] = []
    with parts.history_of(place) as history:
        while len(told) < limit:
            rows = parts.newest(history, place, wish, limit)
            noted = reviews.noted(place, rows)
            kept = [row for row in rows if reviewed is None or (row["seq"] in noted) == (reviewed == "yes")]
            told += [parts.part(place, row, noted.get(row["seq"])) for row in kept]
            if len(rows) < limit:
                break
            wish = dataclasses.replace(wish, before=rows[-1]["seq"])
    return told[:limit]


def days(board: Board, ask: Ask) -> dict[str, Any]:
    """How many of each verdict a day of a month (UTC)."""
    month = ask.text("month") or f"{board.now():%Y-%m}"
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month, re.ASCII):
        raise Refused(400, f"month {month[:20]!r} is not one", "like 2026-11")
    found: dict[str, dict[str, int]] = {}
    for place in board.wanted(ask):
        if not parts.has_records(place):
            continue
        with parts.history_of(place) as history:
            for day, verdict, count in parts.counts(history, ["time >= ?", "time < ?"], [month, f"{month}~"]):
                one = found.setdefault(day, dict.fromkeys(parts.VERDICTS, 0))
                one[verdict] = one.get(verdict, 0) + count
    return {"days": found}


def part(board: Board, ask: Ask) -> dict[str, Any]:
    """All that is known of one."""
    place, seq = board.in_path(ask), seq_of(ask)
    with parts.history_of(place) as history:
        row = row_of(history, place, seq)
        rules = history.ask("SELECT rule FROM records WHERE seq = ?", (seq,)) if row["rule"] else []
        facts = history.rules().get(rules[0][0]) if rules else None
    return parts.whole(place, row, facts, Reviews.of(place).noted(place, [row]).get(seq))


def picture(board: Board, ask: Ask) -> Reply:
    """The camera's picture, every pixel."""
    return _picture(board, ask, "picture")


def overlay(board: Board, ask: Ask) -> Reply:
    """With the heat map."""
    return _picture(board, ask, "overlay")


def _picture(board: Board, ask: Ask, which: str) -> Reply:
    place = board.in_path(ask)
    with parts.history_of(place) as history:
        row = row_of(history, place, seq_of(ask))
    try:
        return Reply(*parts.picture(place, row[which]))
    except LookupError as error:
        raise Refused(404, str(error)) from None


def row_of(history: Any, place: Place, seq: int) -> dict[str, Any]:
    try:
        return parts.one(history, place, seq)
    except LookupError as error:
        raise Refused(404, str(error)) from None


def seq_of(ask: Ask) -> int:
    text = ask.path["seq"]
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise Refused(404, "there is no such part")
    return int(text)
