"""What the line has tuned (thresholds, regions, UNKNOWN bands, their history) goes from a bundle to the one that takes its place,
where scores still mean the same; else it is told. Engines that the bundle in between did not hold (an export of FP32 only, or one
that was refused) get theirs from the newest former version that did."""

from __future__ import annotations

import dataclasses
import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edgead import versions
from edgead.bundle import ON_THE_LINE, Bundle, EngineRecord, rewrite_manifest
from edgead.engines import open_engine
from edgead.errors import EdgeadError
from edgead.parity import ask

_log = logging.getLogger(__name__)

SAME = 0.01
"""Largest change of a score (or map value) on the former bundle's golden frames, relative to the range of those scores (values),
up to which a threshold means the same."""


def carry_over(former: Path, work: Path, anew: bool) -> None:
    """Put the line's thresholds of the bundle at `former`, if there is one, into the finished bundle at `work`, and note there
    what became of them (`measured.carried`: engine -> "" or why not).

    Args:
        anew: the user asks for thresholds chosen anew.
    """
    if not (former / "manifest.json").is_file():
        return
    try:
        old = Bundle.open(former)
    except EdgeadError as error:
        _note(Bundle.open(work), {"all": f"the former bundle does not open: {error}"})
        return
    new = Bundle.open(work)
    tuned = [(old, record) for record in old.manifest.engines if _on_the_line(record)]
    tuned += _of_before(former, {r.name for r in new.manifest.engines} - {r.name for r in old.manifest.engines})
    if not tuned:
        return
    told: dict[str, str] = {}
    for bundle, record in tuned:
        told[record.name] = why = _why_not(bundle, new, record, anew)
        if not why:
            new = rewrite_manifest(new, new.manifest.with_engine(_carried(record, new.manifest.engine(record.name))))
    _note(new, told)


def _of_before(target: Path, names: set[str]) -> list[tuple[Bundle, EngineRecord]]:
    """Of these engines, what the line had tuned when the bundle at `target` last held them, each with its former version."""
    found: list[tuple[Bundle, EngineRecord]] = []
    left = set(names)
    for version in reversed(versions.former(target)):
        if not left:
            break
        try:
            bundle = Bundle.open(version.path)
        except EdgeadError as error:
            _log.warning("%s: thresholds tuned there cannot be looked at: %s", version.path, error)
            continue
        there = [record for record in bundle.manifest.engines if record.name in left]
        found += [(bundle, record) for record in there if _on_the_line(record)]
        left -= {record.name for record in there}
    return found


def _on_the_line(record: EngineRecord) -> bool:
    return any(t.chosen is not None and t.chosen.tool == ON_THE_LINE for t in (record.threshold, *record.history))


def _carried(old: EngineRecord, new: EngineRecord) -> EngineRecord:
    """The new export's threshold goes first, since parity was judged with it (:attr:`EngineRecord.at_export`)."""
    if old.threshold.chosen is None or old.threshold.chosen.tool != ON_THE_LINE:  # all that was tuned was taken back
        return dataclasses.replace(new, history=tuple(t for t in old.history if t.undone_at))
    return dataclasses.replace(new, threshold=old.threshold, history=(new.threshold, *old.history))


def _why_not(old: Bundle, new: Bundle, record: EngineRecord, anew: bool) -> str:
    """Why an engine's thresholds do not mean the same in the new bundle; "" when they do."""
    if anew:
        return "thresholds were asked for anew (--max-false-reject)"
    found = next((r for r in new.manifest.engines if r.name == record.name), None)
    if found is None:
        return "the new bundle has no such engine (they are kept, and go to the next one that has it)"
    recipes = [dataclasses.replace(b.manifest.preprocess, pictures=None) for b in (old, new)]
    if recipes[0] != recipes[1]:
        return "the recipe from camera picture to model input has changed"
    if [(t.shape, t.name) for t in old.manifest.outputs] != [(t.shape, t.name) for t in new.manifest.outputs]:
        return "its maps have another size"
    graphs = [{name: digest for name, digest in b.manifest.files.items() if not name.startswith("golden/")} for b in (old, new)]
    if graphs[0] == graphs[1]:
        return ""
    return _changed(old, new, record)


def _changed(old: Bundle, new: Bundle, record: EngineRecord) -> str:
    """Ask both engines about the former golden frames."""
    frames = old.golden().images
    try:
        with ExitStack() as stack:
            answers = []
            for bundle in (old, new):
                engine = open_engine(bundle, record.name, unverified=True, keep=False)
                stack.callback(engine.close)
                answers.append(ask(engine, frames))
    except EdgeadError as error:
        return f"the former engine cannot be compared here: {error}"
    before, after = answers
    parts = [("scores", before.scores, after.scores)]
    if record.threshold.pixel is not None:
        parts.append(("map values", before.maps, after.maps))
    for what, one, other in parts:
        change = float(np.abs(one - other).max()) / max(float(np.ptp(one)), 1e-12)
        if not change <= SAME:
            return f"another model, or another calibration: its {what} have changed by up to {change:.1%} of their range"
    return ""


def _note(bundle: Bundle, told: dict[str, str]) -> None:
    measured = dataclasses.replace(bundle.manifest.measured, carried=told)
    rewrite_manifest(bundle, dataclasses.replace(bundle.manifest, measured=measured))
