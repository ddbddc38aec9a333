"""How fast does `edgead score` go through an archive, against `edgead bench --throughput`, and does it lose or double a row?

    python -m benchmarks.scale --rates --json benchmarks/results/scale.json      # minutes; bench, processes and Ray take turns
    python -m benchmarks.scale --decoding --json benchmarks/results/scale.json   # seconds: what a picture costs beside the model
    python -m benchmarks.scale --kills --json benchmarks/results/scale.json      # 100,000 pictures, killed three times

Rates are those of the second part of each run, when engines are open and caches warm; a round asks each way once, and ratios are
formed within a round. Beside pictures a second stand CPU milliseconds a picture, which other work on the machine moves less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from benchmarks._fresh import FRAME
from benchmarks._scratch import pictures, write_bundle
from edgead.bundle import Bundle
from edgead.clock import MonotonicClock
from edgead.jobs.measure import load, many
from edgead.jobs.score import Judge
from edgead.jobs.scoring.job import ScoreRequest, score
from edgead.machine import facts
from edgead.preprocess import PreprocessRecipe, decoded
from edgead.runtime.cameras.conveyor import draw_part

WAYS = ("bench 1", "score 1", "cluster")
FROM = 0.25
"""Rates begin when this share of a run is done."""

SIDE_PX, SMALL_PX = 256, 64
CONTENTS, KILLS = 500, 3
COUNTS = {"bench 1": 80, "score 1": 192, "score 2": 320, "ray 1": 192, "ray 2": 320}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", action="store_true", help="throughput of each way")
    parser.add_argument("--kills", action="store_true", help="many small pictures, killed three times")
    parser.add_argument("--decoding", action="store_true", help="CPU time of decoding and resizing a camera's picture")
    parser.add_argument("--pictures", type=int, default=100_000, help="for --kills (default 100,000)")
    parser.add_argument("--rounds", type=int, default=5, help="for --rates (default 5)")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="other parts that it holds are kept; written after each round")
    parser.add_argument("--bundles", type=Path, metavar="DIR", help="bundles that are made once are kept there")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "BUNDLE", "ARCHIVE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(one(args.one[0], Path(args.one[1]), Path(args.one[2]))))
        return 0
    found: dict[str, Any] = json.loads(args.json.read_text("utf-8")) if args.json and args.json.exists() else {}

    def keep(part: str, value: dict[str, Any]) -> None:
        found.update({part: value, "machine": facts()})
        if args.json:
            args.json.write_text(f"{json.dumps(found, indent=1)}\n", "utf-8")

    with tempfile.TemporaryDirectory(prefix="edgead-scale-") as folder:
        scratch, bundles = Path(folder), args.bundles or Path(folder)
        if args.decoding:
            keep("decoding", decoding())
        if args.rates:
            taken = []
            for seen in rounds(scratch, bundles, args.rounds, tuple(args.ways.split(","))):
                taken.append(seen)
                keep("rates", rates(taken))
        if args.kills:
            keep("kills", kills(scratch, bundles, args.pictures))
    print(json.dumps({name: part for name, part in found.items() if name != "machine"}, indent=1))
    return 0


def decoding() -> dict[str, Any]:
    """CPU milliseconds to decode a drawn picture of 1920 x 1080 px, and to resize it to the model's input."""
    picture = draw_part(np.random.default_rng(0), size=FRAME)[0]
    told: dict[str, Any] = {"camera_px": [FRAME[1], FRAME[0]]}
    for suffix, options in ((".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]), (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]), (".bmp", [])):
        data = np.frombuffer(cv2.imencode(suffix, picture, options)[1].tobytes(), np.uint8)
        told[suffix[1:]] = {"bytes": data.size, "cpu_ms": _timed(partial(decoded, data, "picture"))}
    recipe = PreprocessRecipe(SIDE_PX, SIDE_PX)
    return told | {"resize_cpu_ms": _timed(partial(recipe.apply, picture))}


def _timed(work: Callable[[], Any], times: int = 30) -> float:
    cv2.setNumThreads(1)
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - began))
    return round(statistics.median(taken), 3)


def rounds(scratch: Path, bundles: Path, count: int, ways: Sequence[str]) -> Iterator[dict[str, dict[str, float]]]:
    """Pictures a second and CPU milliseconds a picture of each way, round by round."""
    bundle = write_bundle(bundles, "patchcore", SIDE_PX, backends=("openvino",), precisions=("fp32",))
    archives = {suffix: archive(scratch / suffix[1:], suffix, 100) for suffix in (".bmp", ".jpg", ".png")}
    for number in range(count):
        seen: dict[str, dict[str, float]] = {}
        for way in ways if number % 2 == 0 else reversed(ways):
            kinds = archives if way == "score 1" else {".bmp": archives[".bmp"]}
            for suffix, folder in kinds.items():
                name = way if suffix == ".bmp" else f"{way}, {suffix[1:]}"
                told = asked(way, bundle.path, folder)
                seen.update(told if way == "cluster" else {name: told})
                print(f"round {number + 1}: {name}: {told}", file=sys.stderr, flush=True)
        yield seen


def rates(taken: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """What rounds say."""
    return {
        "pictures_px": SIDE_PX,
        "engine": "patchcore on efficientnet_lite0, openvino-fp32, one thread a worker",
        "rounds": taken,
        "medians": {
            name: {key: statistics.median(one[name][key] for one in taken) for key in seen} for name, seen in taken[0].items()
        },
        "ratios": {
            f"{first} / {second}, {key}": interval([one[first][key] / one[second][key] for one in taken])
            for first, second, key in (
                ("score 1", "bench 1", "per_s"),
                ("bench 1", "score 1", "cpu_ms"),
                ("bench 1", "score 1, jpg", "cpu_ms"),
                ("bench 1", "score 1, png", "cpu_ms"),
                ("score 2", "score 1, free", "per_s"),
                ("ray 1", "score 1, free", "per_s"),
                ("ray 2", "ray 1", "per_s"),
                ("ray 2", "score 2", "per_s"),
            )
            if first in taken[0] and second in taken[0] and key in taken[0][first] and key in taken[0][second]
        },
    }  # fmt: skip


def interval(ratios: Sequence[float]) -> dict[str, float]:
    """The median, the smallest and the largest of so few."""
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def archive(folder: Path, suffix: str, count: int) -> Path:
    """So many drawn pictures."""
    folder.mkdir()
    for i, picture in enumerate(pictures(count, SIDE_PX)):
        cv2.imwrite(str(folder / f"{i:04d}{suffix}"), picture)
    return folder


def asked(way: str, bundle: Path, folder: Path) -> dict[str, Any]:
    """One way, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.scale", "--one", way, str(bundle), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(way: str, bundle: Path, folder: Path) -> dict[str, Any]:
    """Pictures a second, and CPU milliseconds a picture; on a cluster with 1 and 2 workers, in turn with processes."""
    if way == "cluster":
        from edgead.jobs.scoring.onray import connect

        ray, _ = connect("ray", 2)
        names = ("score 1, free", "ray 1", "score 2", "ray 2")
        found = {name: _scored(name.partition(",")[0], bundle, folder) for name in names}
        ray.shutdown()
        return found
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the parent and its worker share it
    return _bench(bundle) if way == "bench 1" else _scored(way, bundle, folder)


def _scored(way: str, bundle: Path, folder: Path) -> dict[str, float]:
    kind, workers = way.split()
    listed = folder / f"{way.replace(' ', '-')}.csv"
    files = sorted(file for file in folder.iterdir() if file.suffix != ".csv")
    names = (files * (COUNTS[way] // len(files) + 1))[: COUNTS[way]]
    listed.write_text("path\n" + "".join(f"{name}\n" for name in names), "utf-8")
    marks: list[tuple[float, float, float]] = []

    def mark(stage: str, done: float) -> None:
        if done >= FROM:
            marks.append((done, time.perf_counter(), _cpu_s()))

    with tempfile.TemporaryDirectory() as out:
        request = ScoreRequest(
            bundle, str(listed), Path(out) / "a.parquet", workers=int(workers), cluster="ray" * (kind == "ray")
        )
        score(request, mark)
    (first, began, cpu), (last, ended, cpu_end) = marks[0], marks[-1]
    count = (last - first) * len(names)
    return {"per_s": count / (ended - began), "cpu_ms": 1000 * (cpu_end - cpu) / count}


def _bench(bundle: Path) -> dict[str, float]:
    """As `edgead bench --throughput --threads 1`."""
    opened = Bundle.open(bundle)
    candidate = load(opened, opened.manifest.default_engine, 1)
    parts, rounds = COUNTS["bench 1"], 3
    many(candidate, frame=(SIDE_PX, SIDE_PX), threads=1, parts=8, rounds=1)
    began = time.process_time()
    rate = many(candidate, frame=(SIDE_PX, SIDE_PX), threads=1, parts=parts, rounds=rounds)
    cpu_s = time.process_time() - began
    candidate.engine.close()
    return {"per_s": rate, "cpu_ms": 1000 * cpu_s / (parts * (rounds + 1))}


def _cpu_s() -> float:
    """Of this process and its children, so far."""
    me = psutil.Process()
    return sum(one.cpu_times().user + one.cpu_times().system for one in (me, *me.children(recursive=True)))


def kills(scratch: Path, bundles: Path, count: int) -> dict[str, Any]:
    """Many small pictures of a few contents, each of which is known; the run is killed by SIGKILL three times and goes on."""
    bundle = write_bundle(bundles, "patchcore", SMALL_PX, 256, backends=("openvino",), precisions=("fp32",))
    drawn = pictures(CONTENTS, SMALL_PX)
    encoded = [cv2.imencode(".png", picture)[1].tobytes() for picture in drawn]
    root = scratch / "archive"
    for i in range(count):
        file = root / f"{i // 1000:03d}" / f"{i:06d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded[i % CONTENTS])
    with Judge.open(bundle.path, threads=1) as judge:
        expected = [(found.verdict.value, found.cause, found.score) for found in map(judge, drawn)]
    out, clock = scratch / "parts.parquet", MonotonicClock()
    command = [sys.executable, "-m", "edgead.cli.main", "score", str(bundle.path), str(root), "-o", str(out), "--json"]
    shards, killed, began = scratch / "parts.parquet.scoring/shards", [], clock.now_ns()
    for kill in range(1, KILLS + 1):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while not shards.is_dir() or len(list(shards.iterdir())) < kill * count // (KILLS + 1) // 512:
                clock.sleep(0.5)
                if process.poll() is not None:
                    raise SystemExit("the run ended before it was killed")
            process.kill()
        killed.append(len(list(shards.glob("*.gz"))) * 512)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as last:
        peak, said = 0.0, b""
        while last.poll() is None:
            peak = max(peak, _resident_mb(last.pid))
            clock.sleep(0.5)
        assert last.stdout is not None
        said = last.stdout.read()
    wall_s = (clock.now_ns() - began) / 1e9
    told, rows = json.loads(said), _rows(out)
    paths = [str(root / f"{i // 1000:03d}" / f"{i:06d}.png") for i in range(count)]
    shutil.rmtree(root)
    return {
        "pictures": count,
        "side_px": SMALL_PX,
        "killed_at": killed,
        "rows": len(rows),
        "rows_in_order_each_once": [row["path"] for row in rows] == paths,
        "rows_exact": sum(
            (row["verdict"], row["cause"], row["score"]) == expected[i % CONTENTS] for i, row in enumerate(rows)
        ),
        "resumed": told["resumed"],
        "wall_s": round(wall_s, 1),
        "parent_peak_mb": round(peak, 1),
        "books_left": shards.parent.exists(),
    }  # fmt: skip


def _resident_mb(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.Error:
        return 0.0


def _rows(file: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    found: list[dict[str, Any]] = pyarrow.parquet.read_table(file, columns=["path", "verdict", "cause", "score"]).to_pylist()
    return found


if __name__ == "__main__":
    sys.exit(main())
