"""Scores, what another threshold would have said, and changes of the threshold."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from datetime import datetime
from typing import Any

import numpy as np

from edgead.bundle import Bundle, EngineRecord
from edgead.dashboard import parts
from edgead.dashboard.asking import Ask, Refused, at_most
from edgead.dashboard.board import Board
from edgead.dashboard.places import Place
from edgead.dashboard.reviews import Reviews
from edgead.dashboard.running import Running, others, running, why_not_threshold
from edgead.dashboard.words import guarantee, more_good
from edgead.engines.proof import check_reach
from edgead.errors import EdgeadError
from edgead.jobs.choosing import ThresholdRequest
from edgead.jobs.threshold import Written, apply_thresholds, choose_thresholds, undo_thresholds
from edgead.manifest import Threshold
from edgead.runtime.records.history import History, Selection
from edgead.runtime.records.replay import Replay, Trial, replay

BINS = 60
NEWEST = 300_000
"""Parts of the histogram at most."""
SHOWN = 200
"""Parts that would change and are told one by one."""
LOOKED_AT = 2000

_changing = threading.Lock()
_replaying = threading.Semaphore(2)
_counting = threading.Semaphore(2)


def scores(board: Board, ask: Ask) -> dict[str, Any]:
    """How the numbers that thresholds are compared with are distributed, by verdict and by what people said."""
    place = board.asked(ask)
    since = ask.moment("since", board.now())
    now = running(board.hub, place)
    _, record = now.open()
    threshold = record.threshold
    with at_most(_counting, "the scores of two cameras are being counted already"):
        return _scored(place, since, now, threshold)


def _scored(place: Place, since: str | None, now: Running, threshold: Threshold) -> dict[str, Any]:
    level = float(threshold.rule.level) if place.camera is None or place.camera.threshold is None else place.camera.threshold
    rows = _levels(place, since) if parts.has_records(place) else []
    labels = {seq: label for seq, _, label in Reviews.of(place).labelled(place, since)}
    edges = _edges([row[2] for row in rows], level)
    found: dict[str, list[float]] = {verdict: [] for verdict in parts.VERDICTS}
    labelled: dict[str, list[float]] = {"false_reject": [], "missed_defect": []}
    for seq, verdict, value in rows:
        found.setdefault(verdict, []).append(value)
        if labels.get(seq) in labelled:
            labelled[labels[seq]].append(value)
    return {
        "edges": edges.tolist(),
        **{verdict: _counts(found[verdict], edges) for verdict in parts.VERDICTS},
        "labelled": {label: _counts(values, edges) for label, values in labelled.items()},
        "parts": len(rows),
        "threshold": level,
        "statistic": threshold.by,
        "good_n": threshold.chosen.good if threshold.chosen is not None else None,
        "guarantee": guarantee(threshold),
        "more_good": more_good(threshold),
        "why_not": _sentence(why_not_threshold(place, now)),
    }


def _levels(place: Place, since: str | None) -> list[tuple[int, str, float]]:
    """seq, verdict and level of the newest parts that the newest part's engine and kind of rule judged."""
    with parts.history_of(place) as history:
        rules = history.rules()
        newest = history.newest_rule(Selection(since=since), list(rules)) if rules else None
        if newest is None:
            tests, value = ["score IS NOT NULL"], "score"
        else:
            facts = rules[newest]
            alike = [n for n, one in rules.items() if all(one[key] == facts[key] for key in ("model", "engine", "by"))]
            tests, value = [f"rule IN ({', '.join(map(str, alike))})", "level IS NOT NULL"], "level"
        if since is not None:
            tests.append("time >= ?")
        where = " AND ".join(tests)
        ask = f"SELECT seq, verdict, {value} FROM records WHERE {where} ORDER BY seq DESC LIMIT {NEWEST}"
        rows = history.ask(ask, () if since is None else (since,))
    return [(row[0], row[1], float(row[2])) for row in rows if math.isfinite(row[2]) and abs(row[2]) < parts.HUGE]


def _edges(values: list[float], threshold: float) -> Any:
    """All but the outermost values, and the threshold, lie between them; those beyond count with the last bins."""
    low, high = np.percentile(values, (0.1, 99.9)) if values else (threshold, threshold)
    low, high = min(low, threshold), max(high, threshold)
    room = 0.02 * (high - low) or 1.0
    return np.linspace(low - room, high + room, BINS + 1)


def _counts(values: list[float], edges: Any) -> list[int]:
    clipped = np.clip(np.asarray(values, np.float64), edges[0], edges[-1])
    return [int(count) for count in np.histogram(clipped, edges)[0]]


def replayed(board: Board, ask: Ask) -> dict[str, Any]:
    """How the recorded parts would have been judged by another threshold: exactly."""
    place = board.asked(ask)
    threshold = ask.number("threshold")
    if threshold is None:
        raise Refused(400, "threshold is missing")
    selection = Selection(since=ask.moment("since", board.now()), until=ask.moment("to", board.now()))
    with at_most(_replaying, "two thresholds are being tried already"), parts.history_of(place) as history:
        found = replay(history, selection, _trial(history, selection, threshold))
        changed = _changed(history, place, found)
    skipped = {
        "judged by another engine or another kind of rule": found.left_out,
        "no level is recorded": found.unknown,
    }
    return {
        "parts": found.parts,
        "from": found.first,
        "to": found.last,
        "engine": found.engine,
        "rule": found.rule,
        "now": {verdict: found.before.get(verdict, 0) for verdict in parts.VERDICTS},
        "then": {verdict: found.after.get(verdict, 0) for verdict in parts.VERDICTS},
        "flips": found.flips,
        "changed_n": len(found.changed),
        "changed": changed,
        "skipped": {words: count for words, count in skipped.items() if count},
    }


def _trial(history: History, selection: Selection, threshold: float) -> Trial:
    """An UNKNOWN band stays where it is."""
    rules = history.rules()
    newest = history.newest_rule(selection, list(rules)) if rules else None
    band = rules[newest]["unknown_band"] if newest is not None else None
    return Trial(threshold, unknown_band=None if band is None else (float(band[0]), float(band[1])))


def _changed(history: History, place: Place, found: Replay) -> list[dict[str, Any]]:
    """The newest parts that would change, those with a picture first."""
    seqs = sorted(found.changed, reverse=True)[:LOOKED_AT]
    told: list[dict[str, Any]] = []
    for at in range(0, len(seqs), 500):
        rows = parts.newest(history, place, parts.Wish(seqs=tuple(seqs[at : at + 500])), 500)
        noted = Reviews.of(place).noted(place, rows)
        told += [
            {**parts.part(place, row, noted.get(row["seq"])), "would": found.changed[row["seq"]][0],
             "would_cause": found.changed[row["seq"]][1]}
            for row in rows
        ]  # fmt: skip
    told.sort(key=lambda one: (not (one["picture"] or one["overlay"]), -one["seq"]))
    return told[:SHOWN]


def apply(board: Board, ask: Ask) -> dict[str, Any]:
    """A new threshold, which the station takes between two parts."""
    place = board.place(ask.given("camera"))
    value, why = ask.given_number("threshold"), ask.given("why", 500)
    now = _changeable(board, place)

    def change(dry_run: bool) -> Written:
        return choose_thresholds(ThresholdRequest(now.path, now.engine, value=value, dry_run=dry_run))

    return _change(board, ask, place, now, "threshold", why, change)


def undo(board: Board, ask: Ask) -> dict[str, Any]:
    """The last change of the threshold is taken back."""
    place = board.place(ask.given("camera"))
    now = _changeable(board, place)
    return _change(
        board, ask, place, now, "undo", ask.given("why", 500),
        lambda dry_run: undo_thresholds(now.path, now.engine, dry_run=dry_run),
    )  # fmt: skip


def _changeable(board: Board, place: Place) -> Running:
    """Raises Refused."""
    now = running(board.hub, place)
    if (refused := why_not_threshold(place, now)) is not None:
        raise Refused(409, *refused)
    _, record = now.open()
    return Running(now.number, now.path, record.name)


def _change(board: Board, ask: Ask, place: Place, now: Running, what: str, why: str, change: Any) -> dict[str, Any]:
    """Looked at by the checks of a start first, then written, then asked for."""
    with _changing:
        warnings: list[str] = []
        try:
            trial: Written = change(True)
            (before, after), *_ = trial.pairs
            check_reach(trial.bundle, after, after.threshold.rule, trial.bundle.golden(), warnings.append)
            with Reviews.of(place).changing(board.now(), ask.who.name, ask.who.role, what, place.id, why) as note:
                note.old, note.new = f"{before.threshold.rule.level:.9g}", f"{after.threshold.rule.level:.9g}"
                written: Written = change(False)
                apply_thresholds(written.bundle)
        except EdgeadError as error:
            raise Refused(409, str(error), error.hint) from error
    return {
        "old": float(before.threshold.rule.level),
        "new": float(after.threshold.rule.level),
        "digest": written.bundle.digest,
        "warnings": [place.shown(warning) for warning in warnings],
        "unsigned": written.unsigned,
        "also": others(board.hub, place, now.path),
    }


def history(board: Board, ask: Ask) -> list[dict[str, Any]]:
    """Changes of the threshold, the newest first: those made here with who and why, and those by `edgead threshold`."""
    place = board.asked(ask)
    here = [_told(row) for row in Reviews.of(place).audit(1000, place.id, ("threshold", "undo")) if row["old"] and row["new"]]
    with suppress(EdgeadError):
        bundle, record = running(board.hub, place).open()
        here += [row for row in _elsewhere(bundle, record) if not _among(row, here)]
    return sorted(here, key=lambda row: str(row["when"]), reverse=True)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: float(row[name]) for name in ("old", "new")}
    return {
        "when": row["when"],
        "who": row["who"],
        **numbers,
        "why": row["why"] or ("taken back" if row["what"] == "undo" else ""),
    }


def _elsewhere(bundle: Bundle, record: EngineRecord) -> list[dict[str, Any]]:
    """As the bundle remembers."""
    found: list[dict[str, Any]] = []
    old: float | None = None
    for threshold in (*record.history, record.threshold):
        chosen, level = threshold.chosen, float(threshold.rule.level)
        when, who = (chosen.at, chosen.tool) if chosen is not None else (bundle.manifest.created_at, "edgead export")
        found.append({"when": when, "who": who, "old": old, "new": level, "why": threshold.method})
        old = level
    return found


def _among(row: dict[str, Any], known: list[dict[str, Any]]) -> bool:
    """Is it one of these, by its number and, within seconds, its time?"""
    try:
        when = datetime.fromisoformat(row["when"].replace("Z", "+00:00"))
        return any(
            math.isclose(row["new"], one["new"], rel_tol=1e-6)
            and abs((datetime.fromisoformat(one["when"]) - when).total_seconds()) < 10
            for one in known
        )
    except (ValueError, TypeError):
        return False


def _sentence(refused: tuple[str, str] | None) -> str:
    return "" if refused is None else f"{refused[0]}; {refused[1]}"
