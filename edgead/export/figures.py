"""The report's pictures, drawn with matplotlib without a window system. The package's name appears only here."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgead.measured import Search
from edgead.models.learning.curve import Curve
from edgead.optional import require
from edgead.parity import Answers
from edgead.types import Image

GOOD, DEFECT, INK, FAINT, FLOAT, GRID = "#3f6fb5", "#e0662f", "#22262b", "#8a9099", "#2f9e77", "#e3e6ea"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.parse_math": False,  # a product may be called "$5 bolt"
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.hashsalt": "edgead",
}
BINS = 44


def check_available() -> None:
    """Raises MissingExtra without matplotlib."""
    require("matplotlib.figure", extra="report", why="Writing a report")


@contextmanager
def _figure(width: float, height: float) -> Iterator[Any]:
    """A figure of so many inches, in our style."""
    matplotlib = require("matplotlib", extra="report", why="Writing a report")
    figures = require("matplotlib.figure", extra="report", why="Writing a report")
    with matplotlib.rc_context(STYLE):
        yield figures.Figure(figsize=(width, height), layout="constrained")


def _saved(figure: Any, kind: str, dpi: int = 130) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "jpeg": {"pil_kwargs": {"quality": 90}}}
    how = options.get(kind, {})
    figure.savefig(buffer, format=kind, dpi=dpi, facecolor="white", **how)
    return buffer.getvalue()


def percent(share: float) -> str:
    """``0.0123`` -> ``"1.2 %"``."""
    shown = 100 * share if share >= 5e-5 else 0.0
    return f"{shown:.0f} %" if shown >= 9.95 or shown == 0 else f"{shown:.1f} %" if shown >= 0.095 else f"{shown:.1g} %"


def score_histograms(
    sides: Sequence[tuple[str, npt.NDArray[np.float32], float]], defect: npt.NDArray[np.bool_], defect_name: str
) -> bytes:
    """One row for each side (name, scores N, its own threshold), good parts against defects, on one axis; SVG."""
    everything = np.concatenate([scores for _, scores, _ in sides] + [np.array([t for _, _, t in sides], np.float32)])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.02 * (high - low or 1.0)
    bins = np.linspace(low - margin, high + margin, BINS + 1)
    with _figure(8.6, 0.7 + 1.45 * len(sides)) as figure:
        axes = figure.subplots(len(sides), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (name, scores, threshold) in zip(axes, sides, strict=True):
            for part, colour, label in ((~defect, GOOD, "good"), (defect, DEFECT, defect_name)):
                if part.any():
                    shown = f"{label} ({int(part.sum())})"
                    axis.hist(scores[part], bins, color=colour, alpha=0.72, label=shown, edgecolor="white", linewidth=0.4)
            axis.axvline(threshold, color=INK, linewidth=1.4, linestyle=(0, (4, 2)))
            axis.annotate(
                f"threshold {threshold:.4g}",
                (threshold, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(4, -2),
                textcoords="offset points",
                va="top",
                fontsize=8.5,
            )
            axis.set_title(name)
            axis.set_ylabel("pictures")
            axis.grid(axis="y", color=GRID, linewidth=0.7)
        beside_the_title = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.2, "ncols": 2}
        axes[0].legend(**beside_the_title, fontsize=8.5)
        axes[-1].set_xlabel("score, raw model units (larger is more anomalous)")
        return _saved(figure, "svg")


def score_scatter(
    engines: Sequence[tuple[str, npt.NDArray[np.float32], float]],
    reference: npt.NDArray[np.float32],
    threshold: float,
    defect: npt.NDArray[np.bool_],
) -> bytes:
    """Each picture's score of the trained model against that of each engine (name, scores, own threshold), flips ringed; SVG."""
    with _figure(4.3 * len(engines), 4.0) as figure:
        axes = figure.subplots(1, len(engines), squeeze=False)[0]
        for axis, (name, scores, own) in zip(axes, engines, strict=True):
            ends = [float(f(np.concatenate([reference, scores]))) for f in (np.min, np.max)]
            axis.plot(ends, ends, color=FAINT, linewidth=0.9, zorder=1)
            for part, colour in ((~defect, GOOD), (defect, DEFECT)):
                axis.scatter(reference[part], scores[part], s=14, color=colour, alpha=0.65, linewidths=0, zorder=2)
            flips = (reference >= threshold) != (scores >= own)
            axis.scatter(reference[flips], scores[flips], s=90, facecolors="none", edgecolors="#c2185b", linewidths=1.6, zorder=3)
            axis.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)))
            axis.axhline(own, color=INK, linewidth=1, linestyle=(0, (4, 2)))
            axis.set_title(f"{name}: {int(flips.sum())} label{'s' if flips.sum() != 1 else ''} flipped")
            axis.set_xlabel("score of the trained model")
            axis.set_ylabel("score of the engine")
            axis.grid(color=GRID, linewidth=0.7)
        return _saved(figure, "svg")


def losses(curves: Sequence[Curve]) -> bytes:
    """A row for each stage of a training: its loss, the held-out one, and the step whose state stays; SVG."""
    with _figure(8.6, 0.4 + 2.6 * len(curves)) as figure:
        for axis, curve in zip(figure.subplots(len(curves), 1, squeeze=False)[:, 0], curves, strict=True):
            mean = "" if curve.of == 1 else f", mean of {curve.of} steps"
            for points, colour, label in (
                (curve.points(), GOOD, f"pictures that it learns from{mean}"),
                (curve.heldout, DEFECT, "good pictures kept from it"),
            ):
                if points:
                    mark = "." if len(points) < 40 else ""
                    axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, marker=mark, label=label)
            if curve.heldout:
                axis.axvline(curve.kept, color=INK, linewidth=1, linestyle=(0, (4, 2)), label=f"kept: step {curve.kept}")
            if all(loss > 0 for _, loss in (*curve.points(), *curve.heldout)):
                axis.set_yscale("log")
            axis.set_title(curve.stage)
            axis.set_xlabel("step")
            axis.set_ylabel("loss")
            axis.grid(color=GRID, linewidth=0.7)
            axis.legend(loc="best", fontsize=8.5)
        return _saved(figure, "svg")


def layer_bars(layers: Sequence[tuple[str, float, float]], kept_float: Callable[[str], bool], limit: float) -> bytes:
    """Score deviation that each layer alone causes (name, value of the engine, value of the literal graph), largest on top; those
    returned to float in green; SVG."""
    names, values = [name for name, _, _ in layers], np.array([value for _, value, _ in layers])
    places = np.arange(len(names))[::-1]
    with _figure(8.6, 0.9 + 0.23 * len(names)) as figure:
        axis = figure.subplots()
        axis.barh(places, values, color=[FLOAT if kept_float(name) else GOOD for name in names], height=0.72)
        marks = np.array([literal for _, _, literal in layers])
        axis.vlines(
            marks, places - 0.36, places + 0.36, color=INK, linewidth=1.6, label="rounding alone, without the engine's kernels"
        )
        axis.legend(loc="lower right", fontsize=8.5)
        axis.set_yticks(places, [name if len(name) <= 48 else f"{name[:46]}..." for name in names], fontsize=8)
        axis.set_ylim(-0.7, len(names) - 0.3)
        for place, value in zip(places, values, strict=True):
            axis.annotate(percent(value), (value, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
        if limit <= 1.6 * float(values.max()):
            axis.axvline(limit, color=INK, linewidth=1, linestyle=(0, (4, 2)))
            axis.annotate(
                "tolerated of all together",
                (limit, len(names) - 0.4),
                xytext=(-4, 0),
                textcoords="offset points",
                fontsize=8,
                ha="right",
            )
        axis.set_xlabel("score deviation of INT8 in this layer alone, share of the scores' standard deviation")
        axis.xaxis.set_major_formatter(lambda value, place: percent(value))
        axis.grid(axis="x", color=GRID, linewidth=0.7)
        axis.margins(x=0.08)
        return _saved(figure, "svg")


def latency_bars(latency_ms: Mapping[str, float]) -> bytes:
    """Median milliseconds of one inference per engine; SVG."""
    names = list(latency_ms)
    places = np.arange(len(names))[::-1]
    with _figure(8.6, 0.8 + 0.32 * len(names)) as figure:
        axis = figure.subplots()
        colours = [FAINT if name.endswith("fp32") else GOOD for name in names]
        axis.barh(places, [latency_ms[name] for name in names], color=colours, height=0.66)
        axis.set_yticks(places, names)
        for place, name in zip(places, names, strict=True):
            told = f"{latency_ms[name]:.1f} ms"
            axis.annotate(told, (latency_ms[name], place), xytext=(4, 0), textcoords="offset points", va="center")
        axis.set_xlabel("milliseconds a picture, median, engines taking turns")
        axis.grid(axis="x", color=GRID, linewidth=0.7)
        axis.margins(x=0.1)
        return _saved(figure, "svg")


def latency_distribution(totals_ms: Mapping[str, Sequence[float]], kind: str) -> bytes:
    """How many parts take longer than so many milliseconds, by engine: both axes logarithmic, so that the slow few are seen.

    Args:
        totals_ms: of each engine's parts.
        kind: "svg" or "png".
    """
    with _figure(8.6, 4.4) as figure:
        axis = figure.subplots()
        colours = (GOOD, DEFECT, FLOAT, INK, FAINT)
        for place, (name, totals) in enumerate(totals_ms.items()):
            values = np.sort(np.asarray(totals, np.float64))
            longer = 1 - np.arange(len(values)) / len(values)
            told = f"{name}: p50 {np.percentile(values, 50):.3g}, p99 {np.percentile(values, 99):.3g} ms"
            style = ("-", "--", ":")[place // len(colours) % 3]
            axis.step(
                values, longer, where="post", color=colours[place % len(colours)], linestyle=style, linewidth=1.5, label=told
            )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("milliseconds from the frame's arrival to the verdict")
        axis.set_ylabel("parts that take longer")
        axis.yaxis.set_major_formatter(lambda value, place: percent(value))
        axis.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axis.xaxis.set_minor_formatter(lambda value, place: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        axis.grid(color=GRID, linewidth=0.7, which="both")
        axis.legend(loc="upper right", fontsize=8.5)
        return _saved(figure, kind)


def latency_against_auroc(search: Search, kind: str = "svg") -> bytes:
    """Every judged candidate of a search (`measured.search` of a manifest), the budget and the tolerated loss.

    Filled: within the limits of what may be lost. Line: what no other candidate beats. Star: the choice.
    """
    known = [(row, row.latency.p99_ms, row.accuracy) for row in search.candidates or () if row.latency and row.accuracy]
    assert search.trained is not None and search.limits is not None and search.budget_ms is not None
    with _figure(8.6, 4.6) as figure:
        axis = figure.subplots()
        for backend, colour in zip(dict.fromkeys(row.backend for row, _, _ in known), (GOOD, DEFECT, FLOAT, FAINT), strict=False):
            for within, face in ((True, colour), (False, "none")):
                places = [(ms, a.auroc) for row, ms, a in known if row.backend == backend and a.within_loss == within]
                label = f"{backend}" + ("" if within else ", over a limit")
                if places:
                    times, aurocs = zip(*places, strict=True)
                    axis.scatter(times, aurocs, s=42, facecolors=face, edgecolors=colour, linewidths=1.4, label=label, zorder=3)
        best = sorted((ms, a.auroc) for row, ms, a in known if row.front)
        steps = [ms for ms, _ in best], [auroc for _, auroc in best]
        axis.step(*steps, where="post", color=FAINT, linewidth=1, zorder=1, label="beaten by none")
        axis.axvline(search.budget_ms, color=INK, linewidth=1.3, linestyle=(0, (4, 2)), label=f"budget {search.budget_ms:g} ms")
        trained, drop = search.trained.auroc, search.limits["max_auroc_drop"]
        axis.axhline(trained, color=FLOAT, linewidth=1, label=f"trained model {trained:.4f}")
        axis.axhline(trained - drop, color=FLOAT, linewidth=1, linestyle=(0, (1, 2)), label=f"tolerated {trained - drop:.4f}")
        for row, ms, found in known:
            if row.chosen:
                axis.scatter(
                    ms, found.auroc, s=260, marker="*", color="#c2185b", edgecolors="white", zorder=4, label=f"chosen: {row.name}"
                )
        if known and max(ms for _, ms, _ in known) > 6 * min(ms for _, ms, _ in known):
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
            axis.xaxis.set_minor_formatter(lambda value, place: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
        axis.set_xlabel("milliseconds from the camera's picture to the verdict, p99")
        axis.set_ylabel("AUROC" + (" on drawn defects" if search.trained.drawn else ""))
        axis.grid(color=GRID, linewidth=0.7)
        figure.legend(loc="outside lower center", ncols=3, fontsize=8.5)
        return _saved(figure, kind)


def thumbnails(images: Sequence[Image], captions: Sequence[str]) -> bytes:
    """Pictures (H x W x 3 uint8 BGR) in rows of four, each with its caption of some lines; JPEG."""
    columns = 4
    rows = -(-len(images) // columns)
    with _figure(10.4, 3.2 * rows) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in grid:
            axis.set_axis_off()
        for axis, image, caption in zip(grid, images, captions, strict=False):
            axis.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            axis.set_title(caption, fontsize=7.5, fontweight="normal", loc="center")
        return _saved(figure, "jpeg")


def worst_pictures(
    images: Sequence[Image], captions: Sequence[str], frames: Sequence[int], reference: Answers, answers: Answers, engine: str
) -> bytes:
    """A row for each frame: picture, the trained model's map, the engine's, both on one colour scale, and the difference; JPEG.

    Args:
        images: all frames, H x W x 3 uint8 BGR.
        captions: for each of `frames`.
        frames: which of them.
    """
    answers = answers.on(reference)
    shown = reference.maps[frames], answers.maps[frames]
    top = max(float(part.max()) for part in shown)
    low = float(np.quantile(reference.maps, 0.02))
    delta = max(float(np.abs(shown[1] - shown[0]).max()), 1e-9)
    with _figure(10.4, 0.5 + 2.55 * len(frames)) as figure:
        grid = figure.subplots(len(frames), 4, squeeze=False)
        for row, k, caption in zip(grid, frames, captions, strict=True):
            row[0].imshow(cv2.cvtColor(images[k], cv2.COLOR_BGR2RGB))
            heat = [
                row[i + 1].imshow(maps.maps[k], cmap="magma", vmin=low, vmax=top) for i, maps in enumerate((reference, answers))
            ]
            difference = row[3].imshow(answers.maps[k] - reference.maps[k], cmap="RdBu_r", vmin=-delta, vmax=delta)
            row[0].set_title(caption, fontsize=8.5, fontweight="normal")
            for axis in row:
                axis.set_xticks([])
                axis.set_yticks([])
                for spine in axis.spines.values():
                    spine.set_visible(False)
        for axis, title in zip(grid[0, 1:], ("trained model", engine, "difference"), strict=True):
            axis.set_title(title)
        for drawn, axes, shrink, label in (
            (heat[-1], grid[:, 1:3], 0.5, "anomaly map, raw units"),
            (difference, grid[:, 3], 0.8, "engine - trained"),
        ):
            bar = figure.colorbar(drawn, ax=axes.ravel().tolist(), location="bottom", shrink=shrink, aspect=30, pad=0.01)
            bar.set_label(label)
        return _saved(figure, "jpeg")
