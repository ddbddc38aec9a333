"""What does it cost to look after 1, 20 and 200 boxes from one machine, and to bring a bundle to each?

    python -m benchmarks.fleet --json benchmarks/results/fleet.json

`edgead fleet status`: boxes are addresses of one HTTP server (a process of its own) that gives the /metrics of a real station
with two cameras; of the last row every tenth takes the connection and never answers. CPU time of the asking process, and the time
that passed. Push and pull: a bundle of so many MB through docker-registry on this machine, CPU time of the asking process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._fresh import show
from edgead.bundle import Manifest, write_manifest
from edgead.config.inventory import BoxConfig, Inventory
from edgead.jobs.fleet import status
from edgead.machine import facts
from edgead.oci.address import OciAddress
from edgead.oci.transfer import pull, push
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.station import Station
from edgead.runtime.supervision.metrics import Metrics
from edgead.testing import FakeCamera, FakeEngine
from tests.servers.registry import Registry, registry_is_missing
from tests.vouched import write_vouched

SIZES_MB = (14, 128)
"""Of bundles: one of the tutorial's kind, and a large one."""

SERVER = """
import http.server, sys
content = open(sys.argv[1], "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def metrics() -> bytes:
    """What a station with two cameras serves after 1,000 parts each."""
    frames = [np.full((64, 64, 3), 10, np.uint8)] * 1000
    stations = {}
    for name in ("top", "side"):
        station = Station(
            FakeCamera(list(frames)), FakeEngine([1.0] * 1000), PreprocessRecipe(64, 64), 100.0, engine_name="openvino-int8",
            bundle="a" * 64,
        )  # fmt: skip
        with station:
            station.run()
        stations[name] = station
    return Metrics(stations).render()[1]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of this process, and seconds that passed."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def asked(count: int, silent: int, port: int, deaf: int, runs: int, timeout_s: float) -> dict[str, Any]:
    """Medians of asking `count` boxes of which `silent` do not answer."""
    boxes = tuple(BoxConfig(name=f"box-{i}", metrics=f"http://127.0.0.1:{deaf if i < silent else port}") for i in range(count))
    inventory = Inventory(boxes=boxes, sha256="a" * 64)
    found = status(inventory, timeout_s=timeout_s)
    assert len(found.silent) == silent and len(found.boxes) == count and not found.behind
    took = [timed(lambda: status(inventory, timeout_s=timeout_s)) for _ in range(runs)]
    cpu, wall = (statistics.median(one[i] for one in took) for i in (0, 1))
    return {"boxes": count, "silent": silent, "timeout_s": timeout_s, "cpu_s": round(cpu, 3), "passed_s": round(wall, 2)}


def bundle_of(folder: Path, megabytes: int) -> Path:
    """A bundle of that size, of random bytes but for the small files."""
    path = write_vouched(folder / f"b{megabytes}.edgead")
    (path / "weights.bin").write_bytes(np.random.default_rng(0).bytes(megabytes * 1_000_000))
    write_manifest(path, Manifest.parse((path / "manifest.json").read_bytes(), str(path)))
    return path


def moved(folder: Path, registry: Registry, megabytes: int, runs: int) -> dict[str, Any]:
    """Medians of pushing and pulling a bundle; each time the registry and the box have none."""
    path, pushes, pulls = bundle_of(folder, megabytes), [], []
    for i in range(runs):
        address = OciAddress.parse(f"oci://{registry.host}/bench{i}/b{megabytes}:1")
        target = folder / "box" / path.name
        pushes.append(timed(lambda a=address: push(path, a)))  # type: ignore[misc]
        pulls.append(timed(lambda a=address, t=target: pull(a, t)))  # type: ignore[misc]
        shutil.rmtree(folder / "box")
    row: dict[str, Any] = {"megabytes": megabytes}
    for name, took in (("push", pushes), ("pull", pulls)):
        cpu, wall = (statistics.median(one[i] for one in took) for i in (0, 1))
        row[name] = {"cpu_s": round(cpu, 2), "passed_s": round(wall, 2)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, moves = [], []
    with tempfile.TemporaryDirectory() as scratch, socket.create_server(("127.0.0.1", 0), backlog=500) as mute:
        content = metrics()
        (Path(scratch) / "metrics").write_bytes(content)
        command = [sys.executable, "-c", SERVER, str(Path(scratch) / "metrics")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port, deaf = int(server.stdout.readline()), mute.getsockname()[1]
            for count, silent in ((1, 0), (20, 0), (200, 0), (200, 20)):
                rows.append(asked(count, silent, port, deaf, arguments.runs, 5.0))
            server.kill()
        if not registry_is_missing():
            os.environ["HOME"] = scratch
            with Registry(Path(scratch)) as registry:
                moves = [moved(Path(scratch), registry, size, arguments.runs) for size in SIZES_MB]
    show(
        ("boxes", "silent", "CPU", "passed"),
        [(r["boxes"], r["silent"], f"{r['cpu_s']:.2f} s", f"{r['passed_s']:.1f} s") for r in rows],
    )
    show(
        ("bundle", "push, CPU", "passed", "pull, CPU", "passed"),
        [(f"{m['megabytes']} MB", *(f"{m[n][k]:.2f} s" for n in ("push", "pull") for k in ("cpu_s", "passed_s"))) for m in moves],
    )
    if arguments.json is not None:
        found = {"machine": facts(), "bytes_of_metrics": len(content), "status": rows, "bundles": moves}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
