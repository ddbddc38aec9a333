"""How much CPU time does it take to judge recorded parts again with another threshold? (`edgead records DIR --replay`)

    python -m benchmarks.replay --json benchmarks/results/replay.json

Also what a reading costs by area, which a thread of its own does after the verdict: level and statistic of a smooth random map.

Makes databases of `--parts` records, as a station's store makes them, of each kind of rule, and replays the whole of each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks._fresh import show
from edgead.decision import PixelRule, Rule
from edgead.machine import facts
from edgead.runtime.records.basis import Judged, levels_text
from edgead.runtime.records.database import Database
from edgead.runtime.records.history import History, Selection
from edgead.runtime.records.replay import Trial, replay
from edgead.runtime.records.wallclock import utc_now

KINDS = {
    "score": Judged(Rule(3.0), "openvino-int8"),
    "area": Judged(Rule(3.0, None, PixelRule(3.0, 12), "area"), "openvino-int8"),
    "score, settling in 3": Judged(Rule(3.0), "openvino-int8", settle_frames=3, hysteresis=0.1),
    "score, 2 frames a part": Judged(Rule(3.0), "openvino-int8", views=2, ng_views=1),
}
SIDES_PX = (64, 128, 256, 512)
TITLES = ("rule", "parts", "file", "replay", "changed")


def fill(folder: Path, judged: Judged, parts: int) -> int:
    """Records of a normal score; bytes of the file."""
    levels = np.random.default_rng(0).normal(2.0, 0.5, parts)
    database = Database(folder, "NORMAL")
    database.begin_run("bench", "line", utc_now())
    with database.transaction():
        rule, views = database.rule(judged.facts), judged.views
        for first in range(0, parts, 10_000):
            database.insert([row(first + i, float(level), rule, views) for i, level in enumerate(levels[first : first + 10_000])])
    database.close()
    return (folder / "records.db").stat().st_size


def row(part: int, level: float, rule: int, views: int) -> dict[str, Any]:
    """As a store would write it."""
    verdict = "NG" if level >= 3.0 else "OK"
    view = {"camera": "cam", "frame_id": part, "verdict": verdict, "cause": "", "score": level, "total_ms": 9.0}
    texts = {"time": "2026-11-29T12:00:00.000+00:00", "trigger_source": "plc", "camera": "cam", "source": "", "cause": ""}
    stages = dict.fromkeys(("wait_ms", "resize_ms", "inference_ms", "decision_ms", "total_ms"), 1.25)
    numbers = dict.fromkeys(("trigger_id", "line_part_id", "frame_id", "recorded_ns", "captured_ns"), part)
    none = dict.fromkeys(("picture", "overlay", "acknowledged"))
    several = {
        "views": json.dumps([view] * views) if views > 1 else None,
        "levels": levels_text([(level, level)] * views if views > 1 else ()),
    }
    found = {"run": 1, "part_id": part + 1, "verdict": verdict, "score": level, "threshold": 3.0, "engine": "openvino-int8"}
    return {**texts, **stages, **numbers, **none, **several, **found, "rule": rule, "statistic": level, "level": level}


def reading_ms(side_px: int, runs: int) -> float:
    """CPU time of a reading by area, median."""
    noise = np.random.default_rng(0).normal(size=(side_px, side_px)).astype(np.float32)
    anomaly_map = np.asarray(cv2.GaussianBlur(noise, (0, 0), side_px / 64), np.float32)
    judged = Judged(Rule(0.0, None, PixelRule(float(np.quantile(anomaly_map, 0.99)), 12), "area"))
    took = []
    for _ in range(runs):
        began = time.process_time()
        judged.reading(0.0, anomaly_map)
        took.append(time.process_time() - began)
    return round(1000 * statistics.median(took), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for kind, judged in KINDS.items():
        with tempfile.TemporaryDirectory() as scratch:
            size = fill(Path(scratch), judged, arguments.parts)
            took = []
            for _ in range(arguments.runs):
                began = time.process_time()
                with History(Path(scratch)) as history:
                    found = replay(history, Selection(), Trial(2.75))
                took.append(time.process_time() - began)
            seconds = {"median": round(statistics.median(took), 3), "most": round(max(took), 3)}
            rows.append({"rule": kind, "parts": found.parts, "bytes": size, "seconds": seconds, "changed": len(found.changed)})
    shown = [
        (r["rule"], f"{r['parts']:,}", f"{r['bytes'] / 1e6:.0f} MB", f"{r['seconds']['median']:.2f} s", f"{r['changed']:,}")
        for r in rows
    ]
    show(TITLES, shown)
    cv2.setNumThreads(1)
    readings = [{"side_px": side, "ms": reading_ms(side, 4 * arguments.runs)} for side in SIDES_PX]
    show(("map", "reading by area"), [(f"{one['side_px']} px", f"{one['ms']:.2f} ms") for one in readings])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": facts(), "rows": rows, "readings": readings}, indent=1) + "\n")


if __name__ == "__main__":
    main()
