"""Results as HTML, for pages and notebooks: pictures inside, no script, nothing from outside, every text escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np

from edgead.preprocess import PreprocessRecipe
from edgead.runtime.records.overlay import HeatScale, draw_overlay
from edgead.types import Image, Inspection
from edgead.words import hide, plain

SIDE = 320  # pixels of a tile
QUALITY = 80  # of JPEG

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
<div class="tiles">{tiles}</div>
</body></html>
"""


def page(title: str, about: str, tiles: Sequence[str], table: str = "") -> str:
    """A whole page; `tiles` and `table` are HTML."""
    return _PAGE.format(title=_text(title), about=_text(about), table=table, tiles="\n".join(tiles))


def figure(jpeg: bytes | None, caption: str, kind: str = "") -> str:
    """A picture with what is said of it."""
    image = "" if jpeg is None else embedded(jpeg)
    return f'<figure class="{_text(kind)}">{image}<figcaption>{_text(caption)}</figcaption></figure>'


def embedded(jpeg: bytes) -> str:
    """A picture in a page."""
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'


def html_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under titles."""
    head = "".join(f"<th>{_text(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_facts(facts: Mapping[str, object]) -> str:
    """A name and a value a row; numbers in four figures."""
    told = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in facts.items()}
    rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in told.items())
    return f"<table><tbody>{rows}</tbody></table>"


def drawn(found: Inspection, recipe: PreprocessRecipe | None) -> Image:
    """The camera's picture with the map over it; coloured from the map's own calm to the threshold. It must have a frame."""
    level = found.threshold
    calm = level if found.anomaly_map is None else float(np.nanmin(found.anomaly_map, initial=level))
    return draw_overlay(found, HeatScale(calm if np.isfinite(calm) else level, level), recipe)


def small_jpeg(image: Image, side: int = SIDE) -> bytes:
    """At most `side` pixels wide and high."""
    scale = min(1.0, side / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _text(text: str) -> str:
    return escape(plain(hide(text)))
