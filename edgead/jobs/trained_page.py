"""What a training saw, as a page to look at: how the loss went, the scores of the good pictures, the oddest of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgead import __version__
from edgead.export import figures
from edgead.export.pages import Block, Heading, Picture, Table, Text, Tiles, write_html, write_markdown
from edgead.export.report import caption_of
from edgead.jobs.pages import drawn
from edgead.jobs.train import Trained
from edgead.types import Frame, Image, Inspection, StageTimes, Verdict
from edgead.words import plain

if TYPE_CHECKING:
    from edgead.training.fit import TrainResult
    from edgead.training.oddest import Oddest


def write_page(target: Path, made: Trained) -> None:
    """Write the page; an old one there is replaced. :func:`edgead.export.report.check_report` is asked before the training.

    Raises:
        MissingExtra: matplotlib is not installed.
        StorageError: it cannot be written.
    """
    request, result = made.request, made.result
    recipe, name = result.images.recipe, plain(request.name or request.out.name)
    method = request.method or request.family
    subtitle = f"edgead {__version__}, {method}, {recipe.width} x {recipe.height} px, {result.elapsed_s:.0f} s"
    blocks = [*_summary(result), *_learning(result), *_scores(result), *_oddest(result)]
    write = write_markdown if target.suffix.lower() == ".md" else write_html
    write(target, f"{name}: training report", subtitle, blocks)


def _summary(result: TrainResult) -> list[Block]:
    images, threshold = result.images, result.threshold
    tiles = [
        ("good pictures", f"{len(images.train)} + {len(images.heldout)}", "trained on + held out"),
        ("threshold", f"{threshold.value:.4g}", threshold.method),
    ]
    if (area := result.metrics.get("image_auroc")) is not None and math.isfinite(area):
        tiles.append(("AUROC", f"{area:.4f}", "labelled pictures"))
    elif (area := result.metrics.get("drawn_auroc")) is not None and math.isfinite(area):
        tiles.append(("AUROC", f"{area:.4f}", "drawn defects, for want of labelled ones"))
    return [*(Text(plain(str(finding)), "warning") for finding in result.findings), Tiles(tiles)]


def _learning(result: TrainResult) -> list[Block]:
    if not result.curves:
        return []
    told = (
        "The lower, the better it does what it was trained for, which is not yet finding defects. A loss that still falls at the "
        "end asks for more steps. Where good pictures were kept from it, the state that was best on them stays."
    )
    return [Heading("Learning"), Text(told), Picture("losses", figures.losses(result.curves), "svg", "loss by step")]


def _scores(result: TrainResult) -> list[Block]:
    scores = result.scored.scores.astype(np.float32)
    picture = figures.score_histograms([("good pictures", scores, result.threshold.value)], np.zeros(len(scores), np.bool_), "")
    told = f"Scores of {len(scores)} good pictures by a model that has not seen them, where there is one, and the threshold."
    return [Heading("Scores and threshold"), Text(told), Picture("scores", picture, "svg", "histogram of scores")]


def _oddest(result: TrainResult) -> list[Block]:
    if not result.oddest:
        return []
    told = (
        "Is each of them a good part? What is none goes with --leave-out NAME. The strip on top: the score by a model that has "
        "not seen the picture, where there is one, and the threshold. The map: the trained model's, which knows its own pictures."
    )
    cards = [one.told(result.images.folder) for one in result.oddest]
    header = ("part", "picture", "times as far as usual", "score", "threshold without it", "")
    rows = [
        (
            str(i),
            plain(card.file),
            f"{card.times:.2f}",
            _number(card.score),
            _number(card.without),
            _where(card.heldout, card.odd),
        )
        for i, card in enumerate(cards, 1)
    ]
    shown = [_drawn(result, one, i) for i, one in enumerate(result.oddest, 1)]
    sheet = figures.thumbnails(shown, [caption_of(card) for card in cards])
    picture = Picture("oddest", sheet, "jpeg", "the oddest good pictures with their maps")
    return [Heading("The oddest good pictures"), Text(told), picture, Table(header, rows, ("picture", ""))]


def _drawn(result: TrainResult, one: Oddest, number: int) -> Image:
    """The picture with the trained model's map, coloured up to the threshold."""
    from edgead.training.evaluate import answers

    level = result.threshold.value
    verdict = Verdict.UNKNOWN if not math.isfinite(one.score) else Verdict.NG if one.score >= level else Verdict.OK
    frame = Frame(one.image, "", number, 0)
    found = Inspection(number, verdict, "", one.score, level, answers(result.detector, one.image)[1], StageTimes(), frame)
    return drawn(found, None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _where(heldout: bool, odd: bool) -> str:
    return ("held out" if heldout else "trained on") + (", unlike all others" if odd else "")
