"""What cells of `benchmarks.methods` say: means over seeds, tables, and docs/methods.md with the words of the families' pages."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._sets import SETS
from benchmarks._spread import cell, spread
from edgead.calibration.judging.deviation import rank_correlation
from edgead.errors import EdgeadError
from edgead.families import FAMILIES, method, methods, trained
from edgead.families.contract import Preset

FIGURES = (
    "image_auroc", "drawn_auroc", "brightness_auroc", "map_mean_auroc", "map_max_auroc", "brightness_correlation",
    "pixel_auroc", "pro", "train_cpu_s",
)  # fmt: skip
ONCE = (
    "px", "gflop", "fp32_error", "fp32_p50_ms", "int8_p50_ms", "fp32_cpu_ms", "int8_cpu_ms", "int8_times_faster", "int8_flips",
    "int8_frames", "int8_auroc_change", "int8_deviation", "int8_kept_float", "int8_refused", "engines_failed",
)  # fmt: skip
"""Measured with the first seed only."""

SURE = 1.96

FEWEST_SEEDS = 3
"""Of fewer, Student's interval says nothing: with one degree of freedom it is 12.7 standard errors, wider than any AUROC."""

BUILDS = Path(__file__).parents[1] / "results/rtx_builds.json"
"""Of `python -m benchmarks.rtx_builds`."""

REPOSITORY = Path(__file__).parents[2]


def summarise(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each method and set: means and 95 % intervals over seeds (of one or two seeds :func:`_half_of_few`), what was
    measured once, and whether it is above brightness alone for certain, for certain below, or neither."""
    rows = []
    for name, set_ in dict.fromkeys((one["method"], one["set"]) for one in cells):
        mine = [one for one in cells if (one["method"], one["set"]) == (name, set_)]
        fine = [one for one in mine if "image_auroc" in one]
        row: dict[str, Any] = {"method": name, "set": set_, "seeds": [one["seed"] for one in fine]}
        if failed := [one["failed"] for one in mine if "failed" in one]:
            row["failed"] = failed[0]
        for key in FIGURES:
            if values := [one[key] for one in fine if key in one]:
                row[key] = spread(values)
        if 0 < len(fine) < FEWEST_SEEDS:
            row["image_auroc"]["half"] = _half_of_few(fine)
        if fine:
            away, half = row["image_auroc"]["mean"] - row["brightness_auroc"]["mean"], row["image_auroc"].get("half", 0.0)
            row["brightness"] = "above" if away > half else "below" if away < 0 else "not told apart"
        for key in ONCE:
            if found := [one[key] for one in mine if key in one]:
                row[key] = found[0]
        rows.append(row)
    return rows


def _half_of_few(cells: Sequence[Mapping[str, Any]]) -> float:
    """Half of the interval of one seed or two: the widest of DeLong's, of their pictures, and no less than how far the seeds lie
    from their mean."""
    values = [one["image_auroc"] for one in cells]
    widest = SURE * max(one["image_auroc_error"] for one in cells)
    return float(round(max(widest, (max(values) - min(values)) / 2), 4))


def accuracy(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of what the methods are worth: image AUROC on each set, and where there are masks pixel AUROC and PRO."""
    sets = [name for name in SETS if any(row["set"] == name for row in rows)]
    masked = [name for name in sets if any("pro" in row for row in rows if row["set"] == name)]
    titles = ["method", *sets, *(f"pixel AUROC, PRO ({name})" for name in masked), "correlation with brightness"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    lines.append(f"| *brightness alone* | {' | '.join(_brightness(rows, name) for name in sets)} |{' |' * (len(masked) + 1)}")
    for name in _ordered(rows):
        mine = {row["set"]: row for row in rows if row["method"] == name}
        found = [_worth(mine.get(one)) for one in sets]
        found += [_pair(mine.get(one)) for one in masked]
        along = [
            f"{mine[one]['brightness_correlation']['mean']:+.2f}" for one in sets if "brightness_correlation" in mine.get(one, {})
        ]
        lines.append(f"| {name} | {' | '.join(found)} | {', '.join(along)} |")
    return lines


def costs(rows: Sequence[Mapping[str, Any]], builds: Mapping[str, str]) -> list[str]:
    """The table of what the methods cost, and what INT8 does to each; the times are those of the first set that has them.

    Args:
        builds: by method, whether TensorRT for RTX builds its graph (:func:`rtx_builds`).
    """
    titles = ("method", "input px", "training, CPU s", "GFLOP", "FP32 error", "ms FP32", "ms INT8", "FP32 / INT8", "INT8 flips",
              "AUROC lost by INT8", "left float by the guard", "TensorRT for RTX", "")  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name in _ordered(rows):
        mine = [row for row in rows if row["method"] == name]
        timed = next((row for row in mine if "fp32_cpu_ms" in row), mine[0])
        seconds = [row["train_cpu_s"]["mean"] for row in mine if "train_cpu_s" in row]
        errors = [row["fp32_error"] for row in mine if "fp32_error" in row]
        flips = ", ".join(f"{row['int8_flips']} of {row['int8_frames']}" for row in mine if "int8_flips" in row)
        lost = [-row["int8_auroc_change"] for row in mine if row.get("int8_auroc_change") is not None]
        kept = sorted({len(row["int8_kept_float"]) for row in mine if "int8_kept_float" in row})
        found = [
            name, timed.get("px", ""), f"{min(seconds):.0f} to {max(seconds):.0f}" if seconds else "", timed.get("gflop", ""),
            f"{max(errors):.1g}" if errors else "", timed.get("fp32_cpu_ms", ""), timed.get("int8_cpu_ms", ""),
            timed.get("int8_times_faster", ""), flips, f"{max(0.0, *lost):.3f}" if lost else "", " or ".join(map(str, kept)),
            builds.get(name, ""), _wrong(mine),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(str(one).replace('|', '/') for one in found)} |")
    return lines


def rtx_builds(file: Path = BUILDS) -> dict[str, str]:
    """By method: "builds", or what stops it; nothing without the file."""
    if not file.exists():
        return {}
    rows = json.loads(file.read_text("utf-8"))["rows"]
    return {row["method"]: "builds" if row["built"] else f"no: {row['why']}" for row in rows}


def chosen_by_drawn(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What drawn defects are worth for choosing: on each set the real AUROC of the method that is best on drawn ones, of
    patchcore, and of the best in hindsight; and the rank correlation of both. Without methods that learn from drawn defects."""
    lines = ["| set | methods | chosen by drawn defects | patchcore | best in hindsight | rank correlation |", "|---" * 6 + "|"]
    for name in SETS:
        mine = {
            row["method"]: (row["drawn_auroc"]["mean"], row["image_auroc"]["mean"])
            for row in rows
            if row["set"] == name and "drawn_auroc" in row and _known(row["method"]) and not method(row["method"])[1].made_up
        }
        if len(mine) < 3:
            continue
        drawn, real = (np.array([one[side] for one in mine.values()]) for side in (0, 1))
        told = [
            f"{one} ({mine[one][1]:.3f})"
            for one in (max(mine, key=lambda one: mine[one][0]), max(mine, key=lambda one: mine[one][1]))
        ]
        usual = f"{mine['patchcore'][1]:.3f}" if "patchcore" in mine else ""
        lines.append(f"| {name} | {len(mine)} | {told[0]} | {usual} | {told[1]} | {rank_correlation(drawn, real):+.2f} |")
    return lines


def printed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """All tables, for people."""
    return [*accuracy(rows), "", *costs(rows, rtx_builds()), "", *chosen_by_drawn(rows)] if rows else ["nothing measured yet"]


def written(page: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the tables, and a paragraph for each method, between the marks of a page."""
    text = page.read_text("utf-8")
    cost = costs(rows, rtx_builds())
    made = {"accuracy": accuracy(rows), "costs": cost, "drawn": chosen_by_drawn(rows), "methods": paragraphs()}
    for mark, lines in made.items():
        begin, end = f"<!-- begin {mark} -->\n", f"<!-- end {mark} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + "".join(f"{line}\n" for line in lines) + end + after
    page.write_text(text, "utf-8")


def paragraphs() -> list[str]:
    """For each family its own page up to the options, and its methods with their sources: written there, shown here."""
    lines: list[str] = []
    for family in (FAMILIES[name] for name in trained() if name in FAMILIES):
        lines += [f"### {family.title}", "", *_own_words(REPOSITORY / "edgead/families" / family.name / "README.md"), ""]
        lines += [*(_told(method(one)[1]) for one in methods() if method(one)[0].name == family.name), ""]
    return lines[:-1]


def _own_words(readme: Path) -> list[str]:
    """A family's page without title, source and options, its links as they are from docs/."""
    text = readme.read_text("utf-8").partition("\n")[2].partition("\n## Options")[0]
    text = re.sub(r"^Sources?: .*(?:\n.+)*\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"^## ", "#### ", text, flags=re.MULTILINE)

    def moved(found: re.Match[str]) -> str:
        there = (readme.parent / found[1]).resolve()
        page = "" if there == REPOSITORY / "docs/methods.md" else os.path.relpath(there, REPOSITORY / "docs")
        return f"]({page}{found[2]})"

    return re.sub(r"\]\((?!https?:|#)([^)#]+)(#[^)]*|)\)", moved, text).strip().splitlines()


def _told(preset: Preset) -> str:
    words = [f"- **{preset.name}**, {preset.title}: {preset.summary}", f"Source: {preset.source}" if preset.source else ""]
    gave_up = f"Lite gives up: {preset.gave_up}" if preset.gave_up else ""
    return " ".join(f"{one.rstrip('.')}." for one in (words[0], gave_up, words[1]) if one)


def _ordered(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Methods in the order of the table of families, then those that are there no more."""
    there = dict.fromkeys(row["method"] for row in rows)
    return [name for name in methods() if name in there] + [name for name in there if not _known(name)]


def _known(name: str) -> bool:
    try:
        return bool(method(name))
    except EdgeadError:
        return False


def _brightness(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    found = [row["brightness_auroc"]["mean"] for row in rows if row["set"] == name and "brightness_auroc" in row]
    return f"{max(found):.3f}" if found else ""


def _worth(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if "image_auroc" not in row:
        return "failed"
    mark = {"above": "", "below": " **below**", "not told apart": " (=)"}[row["brightness"]]
    return f"{cell(row['image_auroc'])}{mark}"


def _pair(row: Mapping[str, Any] | None) -> str:
    if row is None or "pro" not in row:
        return ""
    return f"{row['pixel_auroc']['mean']:.3f}, {row['pro']['mean']:.3f}"


def _wrong(rows: Sequence[Mapping[str, Any]]) -> str:
    """What failed, each once."""
    told = [f"{row['set']}: {row[key]}" for row in rows for key in ("failed", "engines_failed") if key in row]
    told += [f"{row['set']}: INT8 refused ({row['int8_refused']})" for row in rows if "int8_refused" in row]
    return "; ".join(told)
