"""The pictures of an evaluation as one HTML file: pictures inside, no script, nothing from outside."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import cv2

from edgead.jobs.evaluate import Evaluation, Picture, wrong
from edgead.jobs.score import Judge
from edgead.runtime.records.overlay import HeatScale, draw_overlay
from edgead.types import Image, Inspection

SIDE = 320  # pixels of a tile
QUALITY = 80  # of JPEG
MOST = 300  # tiles; the others are counted

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; }} body {{ font: 15px system-ui, sans-serif; margin: 1.5rem; }}
table {{ border-collapse: collapse; }} th, td {{ padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884; }}
th:first-child, td:first-child {{ text-align: left; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} img {{ max-width: 100%; height: auto; }} figcaption {{ overflow-wrap: anywhere; }}
.missed, .false-reject {{ outline: 3px solid #c22; outline-offset: 3px; }}
</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
{table}
{tiles}
</body></html>
"""


class Gallery:
    """Keeps a small picture of each answer that may be shown.

    Args:
        bundles: how many are evaluated: each has its pictures.
    """

    def __init__(self, bundles: int) -> None:
        self._tiles: list[dict[int, bytes]] = [{} for _ in range(bundles)]

    def see(self, bundle: int, picture: int, image: Image, found: Inspection, judge: Judge) -> None:
        """For :func:`edgead.jobs.evaluate.evaluate`."""
        calm = 0.0 if found.anomaly_map is None else float(found.anomaly_map.min())
        level = judge.rule.level
        drawn = draw_overlay(found, HeatScale(min(calm, level), level), judge.bundle.manifest.preprocess)
        scale = min(1.0, SIDE / max(drawn.shape[:2]))
        size = max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale))
        small = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
        self._tiles[bundle][picture] = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()

    def html(self, found: Evaluation) -> str:
        """The page: what is wrong first, then where bundles differ, then by the level, the largest first."""
        order = sorted(range(found.pictures), key=lambda i: self._rank(found, i))
        shown = order[:MOST]
        tiles = "\n".join(self._figure(found, i) for i in shown)
        more = f"; {len(order) - len(shown)} more are not shown" if len(order) > len(shown) else ""
        labels = f" ({found.labels})" if found.labels else ""
        about = f"{found.pictures} pictures{labels}; {len(found.differ)} on which the bundles differ{more}."
        title = f"edgead evaluate: {found.folder}"
        tiles = f'<div class="tiles">{tiles}</div>'
        return _PAGE.format(title=escape(title), about=escape(about), table=_table(found), tiles=tiles)

    @staticmethod
    def _rank(found: Evaluation, picture: int) -> tuple[int, float]:
        said = [answers[picture] for answers in found.answers]
        mistakes = {wrong(one) for one in said}
        differs = len({one.verdict for one in said}) > 1
        place = 0 if "missed" in mistakes else 1 if "false reject" in mistakes else 2 if differs else 3
        return place, -(said[0].level if said[0].level is not None else 0.0)

    def _figure(self, found: Evaluation, picture: int) -> str:
        both = zip(self._tiles, found.answers, strict=True)
        return "\n".join(self._tile(tiles.get(picture), answers[picture]) for tiles, answers in both)

    @staticmethod
    def _tile(jpeg: bytes | None, said: Picture) -> str:
        mistake = wrong(said)
        image = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">' if jpeg is not None else ""
        words = [Path(said.file).name, said.kind or "", said.verdict, said.cause, mistake, Path(said.bundle).name]
        level = "" if said.level is None else f"{said.level:.5g}"
        caption = escape(", ".join(word for word in (*words, level) if word))
        return f'<figure class="{mistake.replace(" ", "-")}">{image}<figcaption>{caption}</figcaption></figure>'


def table(found: Evaluation) -> tuple[Sequence[str], list[list[str]]]:
    """Titles and a row a bundle; "-" for what cannot be measured."""
    titles = ("bundle", "AUROC", "AP", "PRO", "good NG", "good UNKNOWN", "missed", "defects UNKNOWN", "p50 ms")
    return titles, [list(_cells(found, i)) for i in range(len(found.bundles))]


def _cells(found: Evaluation, place: int) -> Iterator[str]:
    one = found.bundles[place]
    yield f"{Path(one.bundle).name} {one.engine}"
    for figure in (one.auroc, one.ap, one.pro):
        yield "-" if figure is None else f"{figure:.4f}"
    for counted, verdicts in ((one.false_rejects, one.good), (one.misses, one.defects)):
        if counted is None:
            yield from ("-", "-")
            continue
        yield f"{counted.events} of {counted.n} ({100 * counted.low:.2g} to {100 * counted.high:.2g} %)"
        yield str(verdicts.get("UNKNOWN", 0))
    yield f"{one.p50_ms:.1f}"


def _table(found: Evaluation) -> str:
    titles, lines = table(found)
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
