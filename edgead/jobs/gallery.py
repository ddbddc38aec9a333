"""The pictures of an evaluation as one HTML file: pictures inside, no script, nothing from outside."""

from __future__ import annotations

from pathlib import Path

from edgead.jobs.evaluate import Evaluation, Picture, table, wrong
from edgead.jobs.pages import drawn, figure, html_table, page, small_jpeg
from edgead.jobs.score import Judge
from edgead.types import Image, Inspection

MOST = 300  # tiles; the others are counted


class Gallery:
    """Keeps a small picture of each answer that may be shown.

    Args:
        bundles: how many are evaluated: each has its pictures.
    """

    def __init__(self, bundles: int) -> None:
        self._tiles: list[dict[int, bytes]] = [{} for _ in range(bundles)]

    def see(self, bundle: int, picture: int, image: Image, found: Inspection, judge: Judge) -> None:
        """For :func:`edgead.jobs.evaluate.evaluate`."""
        self._tiles[bundle][picture] = small_jpeg(drawn(found, judge.bundle.manifest.preprocess))

    def html(self, found: Evaluation) -> str:
        """The page: what is wrong first, then where bundles differ, then by the level, the largest first."""
        order = sorted(range(found.pictures), key=lambda i: self._rank(found, i))
        shown = order[:MOST]
        tiles = [tile for i in shown for tile in self._figures(found, i)]
        more = f"; {len(order) - len(shown)} more are not shown" if len(order) > len(shown) else ""
        labels = f" ({found.labels})" if found.labels else ""
        about = f"{found.pictures} pictures{labels}; {len(found.differ)} on which the bundles differ{more}."
        return page(f"edgead evaluate: {found.folder}", about, tiles, html_table(*table(found)))

    @staticmethod
    def _rank(found: Evaluation, picture: int) -> tuple[int, float]:
        said = [answers[picture] for answers in found.answers]
        mistakes = {wrong(one) for one in said}
        differs = len({one.verdict for one in said}) > 1
        place = 0 if "missed" in mistakes else 1 if "false reject" in mistakes else 2 if differs else 3
        return place, -(said[0].level if said[0].level is not None else 0.0)

    def _figures(self, found: Evaluation, picture: int) -> list[str]:
        both = zip(self._tiles, found.answers, strict=True)
        return [self._tile(tiles.get(picture), answers[picture]) for tiles, answers in both]

    @staticmethod
    def _tile(jpeg: bytes | None, said: Picture) -> str:
        mistake = wrong(said)
        words = [Path(said.file).name, said.kind or "", said.verdict, said.cause, mistake, Path(said.bundle).name]
        level = "" if said.level is None else f"{said.level:.5g}"
        return figure(jpeg, ", ".join(word for word in (*words, level) if word), mistake.replace(" ", "-"))
