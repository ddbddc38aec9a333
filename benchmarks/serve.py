"""Asked over the network against asked in this process: what a served bundle costs, and whether it answers the same.

    python -m benchmarks.serve part.edgead PICTURES --json benchmarks/results/serve.json
    python -m benchmarks.serve part.edgead PICTURES --http 127.0.0.1:8200 --grpc 127.0.0.1:8201 --model part --json triton.json

In an environment with the server library and NVIDIA's clients (docs/serve.md). Without addresses `edgead serve` is started here.

- The same pictures are judged by `edgead.open` in this process and over HTTP and gRPC, as pixels and as JPEG files' bytes, one
  after the other in turns (interleaved), one client, one thread an inference, from picture to verdict.
- *ratio*: the median over pictures of served / in-process times of the same round.
- *same*: labels that are equal, and the largest difference of scores and thresholds.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import edgead
from edgead.engines.timing import LatencyStats
from edgead.machine import facts
from edgead.preprocess import list_images, read_image
from edgead.types import Image, Inspection

ROUNDS = 10
SIZE = (1920, 1080)
"""Width, height of the pictures that are sent, as a camera would give them."""


class Asked:
    """One way to ask a server for the verdict, score and threshold of a picture, by its number."""

    def __init__(self, kind: Any, client: Any, model: str, images: list[Image], jpegs: list[bytes]) -> None:
        self._kind, self._client, self._model, self._images, self._jpegs = kind, client, model, images, jpegs

    def pixels(self, number: int) -> tuple[str, float, float]:
        return self._ask("picture", self._images[number][None])

    def file(self, number: int) -> tuple[str, float, float]:
        return self._ask("file", np.array([self._jpegs[number]], object))

    def _ask(self, name: str, values: Any) -> tuple[str, float, float]:
        tensor = self._kind.InferInput(name, values.shape, "BYTES" if name == "file" else "UINT8")
        tensor.set_data_from_numpy(values)
        wanted = [self._kind.InferRequestedOutput(one) for one in ("verdict", "score", "threshold")]
        found = self._client.infer(self._model, [tensor], outputs=wanted)
        return found.as_numpy("verdict")[0].decode(), float(found.as_numpy("score")[0]), float(found.as_numpy("threshold")[0])


@contextmanager
def own_server(bundle: Path) -> Iterator[tuple[str, str]]:
    """Addresses of HTTP and gRPC."""
    words = ("serve", f"part={bundle}", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--threads", "1")
    with subprocess.Popen([sys.executable, "-m", "edgead.cli.main", *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = next(line for line in process.stderr if line.startswith("serving"))
            found = re.search(r"HTTP on (\S+), gRPC on (\S+);", line)
            assert found is not None
            yield found[1], found[2]
        finally:
            process.terminate()


def run(bundle: Path, folder: Path, http: str, grpc: str, model: str, rounds: int, size: tuple[int, int]) -> dict[str, Any]:
    """Times of each way, and what was the same."""
    kinds = {"HTTP": (import_module("tritonclient.http"), http), "gRPC": (import_module("tritonclient.grpc"), grpc)}
    files = list_images(folder)
    images: list[Image] = [np.asarray(cv2.resize(read_image(file), size), np.uint8) for file in files]
    jpegs = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
    clients: dict[str, Any] = {name: kind.InferenceServerClient(url) for name, (kind, url) in kinds.items()}
    server = clients["HTTP"].get_server_metadata()
    with edgead.open(bundle, threads=1) as judge:
        ways: dict[str, Callable[[int], Any]] = {
            "in process": lambda i: judge(images[i]),
            "in process, JPEG": lambda i: judge(jpegs[i]),
        }
        for name, (kind, _) in kinds.items():
            to = Asked(kind, clients[name], model, images, jpegs)
            ways[name], ways[f"{name}, JPEG"] = to.pixels, to.file
        times: dict[str, list[float]] = {name: [] for name in ways}
        same = {name: Same() for name in ways if not name.startswith("in process")}
        for turn in range(rounds + 1):  # the first one warms up
            for i in range(len(images)):
                answers = {}
                for name, way in ways.items():
                    began = time.perf_counter()
                    answers[name] = way(i)
                    if turn:
                        times[name].append((time.perf_counter() - began) * 1e3)
                for name, kept in same.items():
                    kept.add(answers["in process, JPEG" if "JPEG" in name else "in process"], answers[name])
        for client in clients.values():
            client.close()
        ratios = {name: _ratio(times[name], times["in process, JPEG" if "JPEG" in name else "in process"]) for name in same}
        return {
            "machine": facts(), "bundle": bundle.name, "engine": judge.record.name, "threads": 1, "model": model,
            "server": f"{server['name']} {server['version']}", "size": list(size), "pictures": len(images), "rounds": rounds,
            "ways": {name: LatencyStats.of(found).to_json() for name, found in times.items()},
            "ratio": ratios, "same": {name: kept.to_json() for name, kept in same.items()},
        }  # fmt: skip


def _ratio(served: list[float], own: list[float]) -> float:
    return float(np.median(np.array(served) / np.array(own)))


class Same:
    """What was equal to the answers in this process."""

    def __init__(self) -> None:
        self.asked = self.labels = 0
        self.off = 0.0

    def add(self, own: Inspection, served: tuple[str, float, float]) -> None:
        self.asked += 1
        self.labels += own.verdict.value == served[0]
        self.off = max(self.off, abs(own.score - served[1]), abs(own.threshold - served[2]))

    def to_json(self) -> dict[str, Any]:
        return {"asked": self.asked, "labels_equal": self.labels, "largest_difference": self.off}


def table(data: dict[str, Any]) -> str:
    """In Markdown."""
    lines = ["| way | p50 ms | p99 ms | ratio | labels equal | scores off by at most |", "|---|---|---|---|---|---|"]
    for name, stats in data["ways"].items():
        ratio, same = data["ratio"].get(name), data["same"].get(name)
        told = f"{ratio:.2f} | {same['labels_equal']} of {same['asked']} | {same['largest_difference']:g}" if same else "1 | |"
        lines.append(f"| {name} | {stats['p50_ms']:.1f} | {stats['p99_ms']:.1f} | {told} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--http")
    parser.add_argument("--grpc")
    parser.add_argument("--model", default="part")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    size = (given.size[0], given.size[1])
    if given.http:
        data = run(given.bundle, given.pictures, given.http, given.grpc, given.model, given.rounds, size)
    else:
        with own_server(given.bundle) as (http, grpc):
            data = run(given.bundle, given.pictures, http, grpc, "part", given.rounds, size)
    print(table(data))
    if given.json:
        given.json.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
