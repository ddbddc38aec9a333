"""What `benchmarks.peers` measured, in words: goals, the section of docs/performance.md, the table of the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

IMPORTED = ("edgead INT8, imported", "edgead INT8, imported exactly")
OPENVINO = ("anomalib OpenVINO", "anomalib OpenVINO, f32", "anomalib OpenVINO, 256 px")
PTQ = "anomalib INT8_PTQ"
SAME = (
    "anomalib torch", *OPENVINO, PTQ, "edgead FP32, imported", "edgead FP32, imported exactly", IMPORTED[0], IMPORTED[1],
)  # fmt: skip
OWN = ("anomalib torch", "edgead torch", "edgead FP32", "edgead INT8")
LIMIT = 0.01
"""Share of flipped labels that `edgead export` tolerates by default."""


def flips(data: Mapping[str, Any], variant: str, name: str = "") -> tuple[int, int]:
    """Flipped labels and judged pictures of one variant, over seeds and over sets, or of one set."""
    found = [(row["flips"], case["judged"]) for case, row in _rows(data, variant, name)]
    return sum(one for one, _ in found), sum(count for _, count in found)


def times(data: Mapping[str, Any], variants: Sequence[str]) -> list[float]:
    """For each timed set and thread count: how much longer the fastest of `variants` takes than edgead on the same weights."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in data["latency"]:
        if row["variant"] in variants:
            found.setdefault((row["set"], row["threads"]), []).append(row["times"])
    return [min(one) for one in found.values()]


def goals(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each goal with what was reached; of ratios the smallest one counts."""
    told: list[dict[str, Any]] = []
    for variant in IMPORTED:
        flipped, judged = flips(data, variant)
        if judged:
            goal = f"{variant}: at most {LIMIT:.0%} of labels flipped against anomalib's trained model"
            told.append({"goal": goal, "reached": round(flipped / judged, 4), "wanted": LIMIT, "met": flipped / judged <= LIMIT})
    for factor, variants, title in ((2.0, OPENVINO, "anomalib's fastest FP32 export"), (2.0, (PTQ,), "anomalib's INT8_PTQ")):
        if found := times(data, variants):
            goal = f"edgead INT8, imported: {factor:g} times as fast as {title}"
            told.append({"goal": goal, "reached": min(found), "wanted": factor, "met": min(found) >= factor})
    return told


def page(data: Mapping[str, Any]) -> str:
    """The section of docs/performance.md."""
    peer = ", ".join(f"{name} {version}" for name, version in data["peer"].items())
    lines = [
        "## Against anomalib",
        "",
        f"anomalib itself ({peer}), in an environment of its own, by its own calls, beside edgead: `python -m benchmarks.peers`,"
        " [decision 32](decisions/0032-peers.md). PatchCore on the same good pictures, backbone weights (EfficientNet-Lite0,"
        f" stages 2 and 4), input ({data['input_px']} px) and rows ({data['share']:.0%} of the patches); with the same"
        " labelled pictures at hand, all judged on others. *anomalib OpenVINO* is its default export with default settings, which"
        " computes in bf16 where the CPU has it; *f32* keeps it from that; *256 px* is its export of fixed size in f32, with"
        " pictures resized before it, each pixel the mean of what it covers. INT8_PTQ has a fixed size, too: for pictures of any"
        " size it fails in this version. Batches of one picture had to be asked for: its default export takes two.",
        "",
        "The same trained weights, anomalib's: labels flipped against its trained torch model. *imported*: `edgead export"
        " model.ckpt`, which resizes to a picture of 8 bits before the graph; *exactly*: with `--exact-resize`, in float"
        " inside the graph, for pictures of one size.",
        "",
        *_table(data, SAME[1:], _flipped),
        "",
        "AUROC of the same (mean over seeds; in brackets 95 % of the first seed's judged pictures drawn anew).",
        "",
        *_table(data, SAME, _auroc),
        "",
        "Each tool's own training, AUROC, and what its default threshold missed of the defects and rejected of the good pictures"
        " (anomalib chooses it on labelled pictures, edgead on good ones alone, and for each engine anew: *flipped* against"
        " edgead's trained torch model).",
        "",
        *_table(data, OWN, _judged),
        *_speed(data),
        "",
        "| goal | reached | |",
        "|---|---|---|",
        *(f"| {one['goal']} | {_reached(one)} | {'met' if one['met'] else 'MISSED'} |" for one in data["goals"]),
        "",
        *(f"- Left out: {what}: {reason}." for what, reason in data["skipped"].items()),
        *(
            f"- edgead refused ({case['set']}, seed {case['seed']}, {what}): {words}"
            for case in data["cases"]
            for what, words in case["refused"].items()
        ),
        *_load(data),
        "- Limits: screws has 8 good pictures to be judged on. Neither SimpleNet, which anomalib does not have, nor EfficientAD,"
        " whose pretrained teacher is not at hand, is compared.",
    ]
    return "\n".join(lines) + "\n"


def _rows(data: Mapping[str, Any], variant: str, name: str) -> list[tuple[Any, Any]]:
    cases = [case for case in data["cases"] if name in ("", case["set"])]
    return [(case, row) for case in cases for row in case["variants"] if row["variant"] == variant]


def _table(data: Mapping[str, Any], variants: Sequence[str], cell: Any) -> list[str]:
    """One row a set; variants that no case has are left out."""
    variants = [variant for variant in variants if _rows(data, variant, "")]
    head = ("set", "seeds", "judged", *variants)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in dict.fromkeys(case["set"] for case in data["cases"]):
        mine = [case for case in data["cases"] if case["set"] == name]
        found = [[row for _, row in _rows(data, variant, name)] for variant in variants]
        cells = [name, str(len(mine)), str(sum(case["judged"] for case in mine)), *(cell(rows) if rows else "" for rows in found)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _flipped(rows: Sequence[Mapping[str, Any]]) -> str:
    return str(sum(row["flips"] for row in rows))


def _auroc(rows: Sequence[Mapping[str, Any]]) -> str:
    low, high = rows[0]["interval"]
    return f"{mean(row['auroc'] for row in rows):.3f} ({low:.2f} to {high:.2f})"


def _judged(rows: Sequence[Mapping[str, Any]]) -> str:
    missed, rejected = (sum(row[key] for row in rows) for key in ("misses", "false_rejects"))
    told = f"{_auroc(rows)}, {missed} missed, {rejected} rejected"
    if "flips_at_trained_threshold" not in rows[0]:
        return told
    flipped, same = (sum(row[key] for row in rows) for key in ("flips", "flips_at_trained_threshold"))
    return f"{told}, {flipped} flipped ({same} at the trained model's threshold)"


def _speed(data: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "Milliseconds from the camera's picture to the score; *times*: how much longer than edgead's INT8 engine of the import,"
        " whose weights are anomalib's (median over rounds in which all take turns; in brackets its quartiles), and of the 95th"
        " percentiles. The last two rows of a set are edgead's own training: as many rows, edgead's faster resize rule.",
        "",
        "| set | picture | threads | variant | p50 ms | p95 ms | times | times, p95 | float layers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in data["latency"]:
        low, high = row["times_quartiles"]
        ms = (f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}")
        ratios = (f"{row['times']:.2f} ({low:.2f} to {high:.2f})", f"{row['times_p95']:.2f}")
        cells = (row["set"], row["frame_px"], str(row["threads"]), row["variant"], *ms, *ratios, row["float_layers"])
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _load(data: Mapping[str, Any]) -> list[str]:
    seen = [one[0] for one in data["load_while_timed"]]
    if not seen:
        return []
    wanted = f"{min(seen):g} to {max(seen):g} processes wanted the {data['machine']['cores']} cores"
    return [f"- While timed, {wanted}; only ratios count."]


def _reached(goal: Mapping[str, Any]) -> str:
    return f"{goal['reached']:.1%}" if goal["wanted"] == LIMIT else f"{goal['reached']:g} times"


def readme(data: Mapping[str, Any]) -> str:
    """The README's table: models that anomalib trained, in its engines and in edgead's."""
    columns = {
        OPENVINO[0]: "its OpenVINO export", PTQ: "its INT8_PTQ", "edgead FP32, imported exactly": "edgead FP32, `--exact-resize`",
        IMPORTED[0]: "edgead INT8",
    }  # fmt: skip
    lines = [f"| PatchCore of anomalib on | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name in [*dict.fromkeys(case["set"] for case in data["cases"]), ""]:
        cells = [name or "all"]
        for variant in columns:
            flipped, judged = flips(data, variant, name)
            rows = [row for row in data["latency"] if (row["set"], row["variant"]) == (name, variant)]
            told = [f"{flipped} of {judged} flipped"] if judged else []
            told += [f"{rows[0]['times']:.1f} x the time" if variant != rows[0]["base"] else "the time"] if rows else []
            cells.append(", ".join(told))
        lines.append(f"| {' | '.join(cells)} |")
    cores, seen = data["machine"]["cores"], [one[0] for one in data["load_while_timed"]]
    if seen and max(seen) > 2 * cores:
        lines += ["", f"Timed while up to {max(seen):.0f} processes wanted the {cores} cores; labels do not depend on it."]
    return "\n".join(lines)
