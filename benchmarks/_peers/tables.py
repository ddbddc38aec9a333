"""What `benchmarks.peers` measured, in words: goals, the section of docs/performance.md, the block of the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

OURS = ("edgead INT8, imported", "edgead FP32, imported", "edgead INT8", "edgead FP32")
EXPORTS = ("anomalib OpenVINO", "anomalib OpenVINO, f32", "anomalib OpenVINO, 256 px", "anomalib INT8_PTQ")
FP32, INT8 = EXPORTS[:3], EXPORTS[3:]
LIMIT = 0.01
"""Share of flipped labels that `edgead export` tolerates by default."""


def flips(data: Mapping[str, Any], model: str, variant: str, name: str = "") -> tuple[int, int]:
    """Flipped labels and judged pictures of one variant, over seeds and over sets, or of one set."""
    found = [
        (row["flips"], case["judged"])
        for case in data["cases"]
        if case["model"] == model and name in ("", case["set"])
        for row in case["variants"]
        if row["variant"] == variant
    ]
    return sum(one for one, _ in found), sum(count for _, count in found)


def times(data: Mapping[str, Any], model: str, variants: Sequence[str]) -> list[float]:
    """For each timed set and thread count: how much longer the fastest of `variants` takes than edgead on the same weights."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in data["latency"]:
        if row["model"] == model and row["variant"] in variants:
            found.setdefault((row["set"], row["threads"]), []).append(row["times"])
    return [min(one) for one in found.values()]


def goals(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each goal with what was reached; of ratios the smallest one counts."""
    told: list[dict[str, Any]] = []
    for model, title in (("patchcore", "PatchCore"), ("efficientad", "EfficientAD")):
        flipped, judged = flips(data, model, OURS[0])
        if judged:
            goal = f"anomalib's {title}, imported, INT8: at most {LIMIT:.0%} of labels flipped against anomalib's trained model"
            told.append({"goal": goal, "reached": round(flipped / judged, 4), "wanted": LIMIT, "met": flipped / judged <= LIMIT})
    for model, factor, variants, title in (
        ("patchcore", 2.0, FP32, "PatchCore: 2 times as fast as anomalib's OpenVINO"),
        ("efficientad", 3.0, FP32, "EfficientAD: 3 times as fast as anomalib's OpenVINO"),
        ("efficientad", 2.0, INT8, "EfficientAD: 2 times as fast as anomalib's INT8_PTQ"),
    ):
        if found := times(data, model, variants):
            told.append({"goal": title, "reached": min(found), "wanted": factor, "met": min(found) >= factor})
    return told


def page(data: Mapping[str, Any]) -> str:
    """The section of docs/performance.md."""
    peer = ", ".join(f"{name} {version}" for name, version in data["peer"].items())
    lines = [
        "## Against anomalib",
        "",
        f"anomalib itself ({peer}), in an environment of its own, by its own calls, beside edgead: `python -m benchmarks.peers`,"
        " [decision 0032](decisions/0032-peers.md). Same good pictures, backbone weights (EfficientNet-Lite0, stages 2 and"
        f" 4), input ({data['input_px']} px) and rows of PatchCore's bank ({data['share']:.0%} of the patches); thresholds chosen"
        " on the same labelled pictures, all judged on others. *anomalib OpenVINO* is its default export with default settings,"
        " which computes in bf16 where the CPU has it; *f32* keeps it from that; *256 px* is its export of fixed size in f32,"
        " with pictures resized before it, each pixel the mean of what it covers. INT8_PTQ has a fixed size, too: for pictures of"
        " any size it fails in this version. Batches of one picture had to be asked for: its default export of PatchCore takes"
        " two.",
        "",
        "The same trained weights, anomalib's: labels flipped against its trained torch model, and AUROC (mean over seeds; in"
        " brackets 95 % of the first seed's judged pictures drawn anew).",
        "",
        *_table(data, "anomalib", ("anomalib torch", *EXPORTS, *OURS[:2])),
        "",
        "Each tool's own training of PatchCore: AUROC, and labels flipped against the model that the same tool trained.",
        "",
        *_table(data, "", ("anomalib torch", *EXPORTS, "edgead torch", *OURS[2:]), ("patchcore",)),
        *_speed(data),
        "",
        "| goal | reached | |",
        "|---|---|---|",
        *(f"| {one['goal']} | {_reached(one)} | {'met' if one['met'] else 'missed'} |" for one in data["goals"]),
        "",
        *(f"- Left out: {what}: {reason}." for what, reason in data["skipped"].items()),
        *(
            f"- edgead refused ({case['set']}, seed {case['seed']}, {what}): {words}"
            for case in data["cases"]
            for what, words in case["refused"].items()
        ),
        f"- EfficientAD was trained for {data['efficientad_steps']} steps, with edgead's teacher and other sets' pictures in"
        " place of ImageNet's: its AUROC says nothing, its flips and times do.",
        *_load(data),
        "- Limits: screws has 8 good pictures to be judged on; SimpleNet has no counterpart in anomalib.",
    ]
    return "\n".join(lines) + "\n"


def _table(
    data: Mapping[str, Any], weights: str, variants: Sequence[str], models: Sequence[str] = ("patchcore", "efficientad")
) -> list[str]:
    """One row a set and model; a cell has flips and AUROC. `weights` "" takes both tools' own."""
    head = ("set", "model", "seeds", "judged", *variants)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, model in dict.fromkeys((case["set"], case["model"]) for case in data["cases"] if case["model"] in models):
        mine = [case for case in data["cases"] if (case["set"], case["model"]) == (name, model)]
        cells = [name, model, str(len(mine)), str(sum(case["judged"] for case in mine))]
        for variant in variants:
            rows = [row for case in mine for row in case["variants"] if row["variant"] == variant]
            rows = [row for row in rows if weights in ("", row["weights"])]
            cells.append(_cell(rows) if rows else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    low, high = rows[0]["interval"]
    told = f"{mean(row['auroc'] for row in rows):.3f} ({low:.2f} to {high:.2f})"
    return told if rows[0]["variant"].endswith("torch") else f"{sum(row['flips'] for row in rows)} flipped, {told}"


def _speed(data: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "Milliseconds from the camera's picture to the score; *times*: how much longer than edgead's INT8 engine of the same"
        " weights (median over rounds in which all take turns; in brackets its quartiles), and of the 95th percentiles.",
        "",
        "| set | picture | model | threads | variant | p50 ms | p95 ms | times | times, p95 | float layers |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in data["latency"]:
        low, high = row["times_quartiles"]
        cells = (
            row["set"], row["frame_px"], row["model"], str(row["threads"]), row["variant"], f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}", f"{row['times']:.2f} ({low:.2f} to {high:.2f})", f"{row['times_p95']:.2f}",
            row["float_layers"],
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _load(data: Mapping[str, Any]) -> list[str]:
    seen = [one[0] for one in data["load_while_timed"]]
    if not seen:
        return []
    return [
        f"- While timed, {min(seen):g} to {max(seen):g} processes wanted the {data['machine']['cores']} cores; only ratios count."
    ]


def _reached(goal: Mapping[str, Any]) -> str:
    return f"{goal['reached']:.1%}" if goal["wanted"] == LIMIT else f"{goal['reached']:g} times"


def readme(data: Mapping[str, Any]) -> str:
    """The README's table: anomalib's trained models in anomalib's engines and in edgead's."""
    lines = [
        "| anomalib's trained model | its torch | its OpenVINO | its INT8_PTQ | imported into edgead, INT8 |",
        "|---|---|---|---|---|",
    ]
    columns = ("anomalib torch", "anomalib OpenVINO", "anomalib INT8_PTQ", OURS[0])
    for name, model in dict.fromkeys((case["set"], case["model"]) for case in data["cases"]):
        title = {"patchcore": "PatchCore", "efficientad": "EfficientAD-S"}[model]
        cells = [f"{title}, {name}"]
        for variant in columns:
            flipped, judged = flips(data, model, variant, name)
            rows = [row for row in data["latency"] if (row["set"], row["model"], row["variant"]) == (name, model, variant)]
            told = [] if variant.endswith("torch") else [f"{flipped} of {judged} labels flipped"] if judged else ["refused"]
            told += [f"{rows[0]['times']:.1f} x the time" if variant != rows[0]["base"] else "1"] if rows else []
            cells.append(", ".join(told))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
