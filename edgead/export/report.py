"""What an export found out, as a page to look at: scores, pictures that INT8 sees otherwise, layers, latency, thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgead import __version__
from edgead.bundle import Threshold
from edgead.calibration.findings import Finding
from edgead.calibration.int8.calibrate import CalibrationReport, in_words
from edgead.calibration.judging.deviation import DOUBT, Deviation, Limits
from edgead.calibration.judging.guarded import GuardReport, Refusal
from edgead.errors import BadInput
from edgead.export import figures
from edgead.export.pages import Block, Heading, Picture, Table, Text, Tiles, write_html, write_markdown
from edgead.measured import Search
from edgead.parity import Answers
from edgead.preprocess import read_image
from edgead.thresholds.conformal import images_needed
from edgead.trained import ODDEST, ModelCard, OddPicture
from edgead.types import Image
from edgead.words import plain

WORST = 6
"""Pictures shown of the worst of each INT8 graph."""

MOST_BARS = 30
STAYS = {True: "float", False: "INT8"}


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine: what was measured of it (None: it was not), and how many of its layers stayed float after the guard."""

    name: str
    precision: str
    threshold: Threshold | None
    deviation: Deviation | None
    latency_ms: float | None
    kept_float: int


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that the page tells.

    Attributes:
        name, family: of the model.
        bundle: the folder that was written; "" when none was.
        failure: why none was; "" when one was.
        frames: H x W x 3 uint8 BGR at model size.
        kinds: of each frame, ``"good"``, ``"defect"`` or ``"drawn defect"``.
        reference, threshold, auroc: the trained model's.
        drawn: the defects are drawn ones.
        limits: what was tolerated of INT8.
        engines: in the order in which they were asked for.
        answers: of the INT8 engines, by name.
        guards, calibrations: one for each INT8 graph.
        machine: facts of the machine that measured.
        search: what a search for a budget found, as in the manifest; empty without one.
        judgement: what must be said of the trained model.
        oddest: the oddest good pictures of training, each with a caption.
        refused: engines that are not in the bundle, and why.
        pairs: of a good frame and a defect, that AUROC was measured with.
        no_gain: engines of lower precision that won no time, in words.
    """

    name: str
    family: str
    bundle: str
    failure: str
    frames: Sequence[Image]
    kinds: Sequence[str]
    reference: Answers
    threshold: Threshold
    auroc: float | None
    drawn: bool
    limits: Limits
    engines: Sequence[EngineRow]
    answers: Mapping[str, Answers]
    guards: Sequence[GuardReport]
    calibrations: Sequence[CalibrationReport]
    machine: Mapping[str, Any]
    search: Search = field(default_factory=Search)
    judgement: Sequence[Finding] = ()
    oddest: Sequence[tuple[str, Image]] = ()
    refused: Sequence[Refusal] = ()
    pairs: int = 0
    no_gain: Sequence[str] = ()

    @property
    def kept(self) -> list[EngineRow]:
        """Engines that were not refused."""
        gone = {refusal.engine for refusal in self.refused}
        return [row for row in self.engines if row.name not in gone]


def check_report(target: Path) -> None:
    """Refuse, before hours of work, a report that could not be written in the end.

    Raises:
        BadInput: neither .html nor .md, or its folder does not exist.
        MissingExtra: matplotlib is not installed.
    """
    if target.suffix.lower() not in {".html", ".htm", ".md"}:
        raise BadInput(f"a report is a .html or .md file, not {target.name!r}", hint="give --report report.html")
    if target.is_dir() or not target.absolute().parent.is_dir():
        what = "is a folder" if target.is_dir() else f"cannot be written: there is no folder {target.parent}"
        raise BadInput(f"{target} {what}", hint="choose another --report")
    figures.check_available()


def write_report(target: Path, data: ReportData) -> None:
    """Write the page; an old one there is replaced.

    Raises:
        MissingExtra: matplotlib is not installed.
        StorageError: it cannot be written.
    """
    title = f"{data.name}: export report"
    facts = data.machine
    subtitle = f"edgead {__version__}, {data.family}, measured on {facts.get('cpu', '')}, {facts.get('cores', '')} cores"
    write = write_markdown if target.suffix.lower() == ".md" else write_html
    write(target, title, subtitle, _blocks(data))


def write_failure(target: Path, name: str, failure: str, search: Search | None = None) -> None:
    """The page of an export that failed before its engines were measured, with what a search found, if there was one.

    Raises:
        StorageError: it cannot be written.
    """
    write = write_markdown if target.suffix.lower() == ".md" else write_html
    blocks = [Text(f"No bundle: {failure}", "bad"), *_search(search or Search())]
    write(target, f"{name}: export report", f"edgead {__version__}", blocks)


def oddest_of(model_dir: Path, card: ModelCard) -> list[tuple[str, Image]]:
    """The oddest good pictures that training put aside, each with a caption; none in models of before."""
    found = []
    for i, told in enumerate(card.oddest):
        file = model_dir / ODDEST / f"{i:04d}.png"
        if file.is_file():
            found.append((caption_of(told), read_image(file)))
    return found


def caption_of(told: OddPicture) -> str:
    """What is written above an odd picture, in lines."""
    score = "" if told.score is None else f", score {told.score:.4g}"
    where = "held out" if told.heldout else "trained on"
    mark = "\nunlike all others" if told.odd else ""
    name = plain(told.file[-40:].replace("\n", "\\n").replace("\t", "\\t"))
    return f"{name}\n{told.times:.2f} x as far as usual{score}, {where}{mark}"


def _blocks(data: ReportData) -> list[Block]:
    verdict = Text(f"Bundle written: {data.bundle}", "good") if data.bundle else Text(f"No bundle: {data.failure}", "bad")
    return [
        verdict,
        *(Text(f"Refused: {refusal}. {refusal.hint}", "bad") for refusal in data.refused if data.bundle),
        *(Text(f"{name}: {word}.", "warning") for name, word in _doubts(data)),
        *(Text(str(finding), "warning") for finding in data.judgement),
        *_summary(data),
        *_oddest(data),
        *_search(data.search),
        *_engines(data),
        *_scores(data),
        *_pictures(data),
        *_layers(data),
        *_thresholds(data),
        *_calibration(data),
    ]


def _doubts(data: ReportData) -> list[tuple[str, str]]:
    """What is over a limit, and tolerated because these pictures cannot tell it from nothing."""
    judged = [(row.name, row.deviation) for row in data.kept if row.deviation is not None and row.precision != "fp32"]
    return [(name, word) for name, found in judged for word in data.limits.doubts(found, data.pairs)]


def _summary(data: ReportData) -> list[Block]:
    timed = [row for row in data.engines if row.latency_ms is not None]
    fastest = min(timed, key=lambda row: row.latency_ms or 0.0, default=None)
    tiles: list[tuple[str, str, str]] = []
    if fastest is not None:
        float_ms = min((row.latency_ms or 0.0 for row in timed if row.precision == "fp32"), default=None)
        note = fastest.name + (f"; best FP32 {float_ms:.1f} ms" if float_ms and fastest.precision != "fp32" else "")
        tiles.append(("fastest engine", f"{fastest.latency_ms:.1f} ms", note))
    lossy = [row for row in data.kept or data.engines if row.precision != "fp32" and row.deviation is not None]
    shown = fastest if fastest in lossy else next(iter(lossy), fastest)
    if shown is not None and shown.deviation is not None:
        d = shown.deviation
        if d.auroc is not None and d.auroc_change is not None:
            error = f"; difference good to {d.auroc_error:.2g}" if d.auroc_error else ""
            tiles.append((f"AUROC of {shown.name}", f"{d.auroc:.4f}", f"trained model {d.auroc - d.auroc_change:.4f}{error}"))
        most = f"{shown.name}; on pictures like these at most {_percent(d.flips_at_most)}, with 95 % confidence"
        tiles.append(("labels that flip", f"{d.label_flips} of {d.frames}", most))
        tiles.append(("score deviation", f"{100 * d.score_deviation:.1f} %", "of the scores' standard deviation"))
    counts = {kind: list(data.kinds).count(kind) for kind in dict.fromkeys(data.kinds)}
    frames = ", ".join(f"{count} {kind}" + ("s" if kind != "good" else "") for kind, count in counts.items())
    told = f"Compared on {len(data.kinds)} pictures that the model was not trained on: {frames}."
    if data.drawn:
        told += (
            " There were no labelled defects, so scratches, stains, pasted and textured patches were drawn onto good pictures. "
            "They show whether INT8 still answers as the trained model does; they do not tell how well it finds your defects."
        )
    return [Tiles(tiles), Text(told)]


def _oddest(data: ReportData) -> list[Block]:
    if not data.oddest:
        return []
    words = (
        "Good pictures of training that lie farthest from all the others. A defect among the good pictures makes the model blind "
        "for its like, or sets the threshold too high: look at each of them."
    )
    captions, images = [caption for caption, _ in data.oddest], [image for _, image in data.oddest]
    page = figures.thumbnails(images, captions)
    return [Heading("Oddest good pictures"), Text(words), Picture("oddest", page, "jpeg", "the oddest good pictures")]


def _search(search: Search) -> list[Block]:
    if not search.candidates or search.frame is None or search.limits is None:
        return []
    header = ("candidate", "p50", "p99", "AUROC", "change", "noise", "score deviation", "flips", "MiB", "")
    rows = []
    for row in sorted(search.candidates, key=lambda row: row.p99_ms):
        timed, judged = row.latency, row.accuracy
        times = [f"{timed.p50_ms:.1f} ms", f"{timed.p99_ms:.1f} ms"] if timed else ["", ""]
        told = [""] * 5
        if judged:
            flips = f"{judged.label_flips} of {judged.frames}"
            change = f"{judged.auroc_change:+.4f}"
            told = [_number(judged.auroc, 4), change, _number(judged.noise, 4), _percent(judged.score_deviation), flips]
        mark = "chosen" if row.chosen else "beaten by none" if row.front else row.failed
        rows.append((row.name, *times, *told, f"{row.bytes / 2**20:.1f}" if row.bytes else "", mark))
    width, height = search.frame
    words = (
        f"At most {search.budget_ms:g} ms from a picture of {width} x {height} px to the verdict at p99, and at most "
        f"{search.limits['max_auroc_drop']:g} of AUROC lost. Noise: one standard error of the difference."
    )
    return [
        Heading("Search"),
        Text(words),
        Picture("search", figures.latency_against_auroc(search), "svg", "latency against accuracy of all candidates"),
        Table(header, rows, ("candidate", "")),
        *(Text(line, "faint") for line in search.notes or ()),
    ]


def _engines(data: ReportData) -> list[Block]:
    header = (
        "engine",
        "latency",
        "AUROC",
        "flips",
        "score deviation",
        "map deviation",
        "rank correlation",
        "from own graph",
        "kept float",
    )
    rows: list[Sequence[str]] = [("trained model", "", _number(data.auroc, 4), "", "", "", "", "", "")]
    literal = {name: value for guard in data.guards for name, value in guard.from_literal.items()}
    for row in data.engines:
        d = row.deviation
        cells = [""] * 5
        if d is not None:
            cells = [
                _number(d.auroc, 4), f"{d.label_flips} of {d.frames}", _percent(d.score_deviation), _percent(d.map_deviation),
                f"{d.rank_correlation:.4f}",
            ]  # fmt: skip
        unknown = "" if data.failure else "not run here" if row in data.kept else "refused"
        ms = unknown if row.latency_ms is None else f"{row.latency_ms:.1f} ms"
        kept = str(row.kept_float) if row.precision == "int8" else ""
        rows.append((row.name, ms, *cells, _percent(literal.get(row.name)), kept))
    blocks: list[Block] = [Heading("Engines"), Table(header, rows)]
    blocks.append(
        Text(
            "Deviation: mean difference from the trained model over the standard deviation of its scores (or map values). "
            "From own graph: INT8 engines against the literal float execution of their own graph; faulty kernels and saturation "
            f"show there. Tolerated: {_percent(data.limits.max_score_deviation)} score deviation, "
            f"{_percent(data.limits.max_flips)} of the labels (one picture always), {data.limits.max_auroc_drop:g} of AUROC (one "
            f"swapped pair always; up to {DOUBT:g} times that where these pictures cannot tell the drop from none).",
            "faint",
        )
    )
    speed = {row.name: row.latency_ms for row in data.engines if row.latency_ms is not None}
    if len(speed) > 1:
        blocks.append(Picture("latency", figures.latency_bars(speed), "svg", "latency of each engine"))
    blocks += [Text(line, "warning") for line in data.no_gain]
    return blocks


def _scores(data: ReportData) -> list[Block]:
    defect = np.array([kind != "good" for kind in data.kinds])
    name = "drawn defects" if data.drawn else "defects"
    own = {row.name: row.threshold.value for row in data.engines if row.threshold is not None}
    int8 = [(engine, told.scores, own[engine]) for engine, told in data.answers.items() if engine in own]
    sides = [("trained model", data.reference.scores, data.threshold.value), *int8]
    blocks: list[Block] = [
        Heading("Scores"),
        Picture("scores", figures.score_histograms(sides, defect, name), "svg", "score histograms with thresholds"),
    ]
    if int8:
        scatter = figures.score_scatter(int8, data.reference.scores, data.threshold.value, defect)
        blocks += [
            Text("Each dot is a picture. On the line, INT8 gives the same score; a ring marks a label that flips.", "faint"),
            Picture("scatter", scatter, "svg", "scores of the trained model against INT8"),
        ]
    return blocks


def _pictures(data: ReportData) -> list[Block]:
    blocks: list[Block] = []
    own = {row.name: row.threshold.value for row in data.engines if row.threshold is not None}
    for guard in data.guards:  # one engine of each graph: the one that deviates most
        engine = max(guard.deviations, key=lambda name: guard.deviations[name].score_deviation)
        told = guard.answers[engine]
        frames = _worst(data, told)
        captions = [
            f"{data.kinds[i]}: {data.reference.scores[i]:.4g} {_label(data.reference.scores[i], data.threshold.value)}, "
            f"INT8 {told.scores[i]:.4g} {_label(told.scores[i], own.get(engine, data.threshold.value))}"
            for i in frames
        ]
        page = figures.worst_pictures(data.frames, captions, frames, data.reference, told, engine)
        blocks.append(Picture(f"worst-{engine}", page, "jpeg", f"pictures on which {engine} deviates most"))
    if not blocks:
        return []
    words = (
        "The good and the defective pictures whose scores moved farthest. All maps share one colour scale; differences theirs."
    )
    return [Heading("Where INT8 deviates most"), Text(words), *blocks]


def _worst(data: ReportData, told: Answers) -> list[int]:
    """Frames whose scores moved farthest; half of them good parts, half defects, where there are so many."""
    delta = np.abs(told.scores - data.reference.scores)
    order = [int(i) for i in np.argsort(-delta, kind="stable")]
    good = [i for i in order if data.kinds[i] == "good"]
    defects = [i for i in order if data.kinds[i] != "good"]
    return [*good[: WORST - min(len(defects), WORST // 2)], *defects[: WORST // 2]]


def _layers(data: ReportData) -> list[Block]:
    blocks: list[Block] = []
    for guard in data.guards:
        for engine, words in guard.broken.items():
            blocks.append(Text(f"{engine}, as calibrated, broke its limits: {', '.join(words)}.", "warning"))
        if guard.steps:
            rows = [
                (
                    s.layer,
                    _percent(s.alone),
                    f"{s.cost_ms:.2f} ms",
                    _percent(s.before),
                    _percent(s.after),
                    f"{s.flips_before} to {s.flips_after}",
                    STAYS[s.kept],
                )
                for s in guard.steps
            ]
            header = ("layer tried in float", "deviation alone", "costs", "engine before", "engine after", "flips", "stays")
            blocks += [Text(f"What the guard tried, in order ({guard.steps[0].engine}):"), Table(header, rows)]
        if guard.layers:
            kept = {step.layer for step in guard.steps if step.kept}
            bars = [(error.layer.name, error.score_deviation, error.literal) for error in guard.layers[:MOST_BARS]]
            more = len(guard.layers) - len(bars)
            figure = figures.layer_bars(bars, kept.__contains__, data.limits.max_score_deviation)
            told = f"Score deviation of {guard.layer_engine} when only this layer is INT8"
            told += f"; {more} smaller ones left out." if more > 0 else "."
            blocks.append(Text(told + (" Green: returned to float." if kept else "")))
            blocks.append(Picture(f"layers-{len(blocks)}", figure, "svg", "error of each layer"))
    return [Heading("Layers"), *blocks] if blocks else []


def _thresholds(data: ReportData) -> list[Block]:
    rows = [("trained model", f"{data.threshold.value:.6g}", data.threshold.method)]
    rows += [(r.name, f"{r.threshold.value:.6g}", r.threshold.method) for r in data.engines if r.threshold is not None]
    words = "A part is NG when its score is at or above the threshold. Each engine has its own, from its own scores."
    promises = [_promise(row) for row in data.engines if row.threshold is not None and row.threshold.chosen is not None]
    return [
        Heading("Thresholds"),
        Text(words),
        Table(("engine", "threshold", "how it was chosen"), rows, ("how it was chosen",)),
        *(Text(promise) for promise in dict.fromkeys(promises) if promise),
    ]


def _promise(row: EngineRow) -> str:
    chosen = row.threshold.chosen if row.threshold is not None else None
    assert chosen is not None
    if chosen.expected_false_reject is not None:
        expected = _percent(chosen.expected_false_reject)
        return (
            f"Of good parts like these {chosen.good}, {expected} are expected to be rejected ({chosen.crossfit}; no guarantee)."
        )
    if chosen.false_reject_rate is None:
        return ""
    told = f"Of good parts like these {chosen.good}, on average at most {_percent(chosen.false_reject_rate)} are rejected"
    if chosen.false_reject_bound is not None:
        told += (
            f"; with {100 * chosen.confidence:g} % confidence, at most {_percent(chosen.false_reject_bound)} with this threshold"
        )
    asked = chosen.max_false_reject
    if asked and not chosen.guaranteed:
        needed = images_needed(asked)
        told += f". The {_percent(asked)} asked for are an estimate: a guarantee needs {needed} good pictures held out"
    return told + "."


def _calibration(data: ReportData) -> list[Block]:
    blocks: list[Block] = []
    for told in data.calibrations:
        blocks.append(
            Text(
                f"{told.products} layers became INT8 with {told.target.options.weight_bits}-bit weights, ranges from "
                f"{told.pictures} good pictures ({told.target.options.method}, digest {told.digest[:12]})."
            )
        )
        if told.kept_float:
            blocks.append(Text(f"Products that are float in INT8 engines, too: {'; '.join(in_words(told.kept_float))}.", "faint"))
        blocks += [Text(str(finding), "warning") for finding in told.findings]
    return [Heading("Calibration"), *blocks] if blocks else []


def _label(score: float, threshold: float) -> str:
    return "NG" if score >= threshold else "OK"


def _percent(value: float | None) -> str:
    return "" if value is None else figures.percent(value)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
