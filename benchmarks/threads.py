"""What threads that wait cost beside other work: pieces of a training and of an export, with and without edgead's rule for them.

    python -m benchmarks.threads --json benchmarks/results/threads.json

Beside one busy loop for each core (and whatever else the machine does), the same piece of work runs in fresh processes, in
turns: as torch and ONNX Runtime do by themselves (threads that wait spin), as edgead has it (they sleep: `edgead/__init__.py`,
and `patient` sessions), and on one thread. Told: seconds by the clock and of CPU, medians of the rounds, and a checksum of the
answer, which has to be the same however threads wait. Torch's answers depend on their number, so that is not chosen by the load.
numpy has one thread as edgead has it: OpenBLAS's cannot be told to sleep.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgead import machine

JOBS = ("coreset", "features", "simplenet", "literal", "resize")
WAYS = ("spinning", "edgead", "one thread")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("JOB", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(_measure(*args.child)))
        return
    found: dict[str, dict[str, list[dict[str, Any]]]] = {job: {way: [] for way in WAYS} for job in JOBS}
    with _busy(machine.usable_cores()):
        for _ in range(args.rounds):
            for job in JOBS:
                for way in WAYS:
                    found[job][way].append(_child(job, way))
    rows = [_row(job, way, runs) for job, ways in found.items() for way, runs in ways.items()]
    load = os.getloadavg()[0]
    print(f"beside {machine.usable_cores()} busy loops, load {load:.1f}; medians of {args.rounds}")
    for row in rows:
        print(f"{row['job']:<10} {row['way']:<11} {row['wall_s']:7.2f} s {row['cpu_s']:7.2f} s CPU  {row['answer']}")
    if args.json:
        data = {"machine": machine.facts(), "load": load, "busy_loops": machine.usable_cores(), "rows": rows, "runs": found}
        args.json.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def _row(job: str, way: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    medians = {key: round(statistics.median(run[key] for run in runs), 3) for key in ("wall_s", "cpu_s")}
    return {"job": job, "way": way, **medians, "answer": ", ".join(sorted({run["answer"] for run in runs}))}


def _child(job: str, way: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.threads", "--child", job, way]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "OPENBLAS_"))}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@contextmanager
def _busy(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _measure(job: str, way: str) -> dict[str, Any]:
    if way == "spinning":
        for name in ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS"):
            os.environ.pop(name, None)  # before torch and numpy are loaded, below
    made = {"coreset": _coreset, "features": _features, "simplenet": _simplenet, "literal": _literal, "resize": _resize}
    work = made[job](way)
    began, before = time.perf_counter(), time.process_time()
    answer = work()
    return {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - before, "answer": answer}


def _torch(way: str) -> Any:
    import torch

    torch.set_num_threads(1 if way == "one thread" else machine.usable_cores())
    return torch


def _coreset(way: str) -> Any:
    """100 of 20,000 rows."""
    torch = _torch(way)
    from edgead.families.patchcore.coreset import greedy_coreset

    points = torch.randn(20000, 64, generator=torch.Generator().manual_seed(0))
    return lambda: str(int(greedy_coreset(points, 100).sum()))


def _features(way: str) -> Any:
    """Patch features of 16 pictures of 128 px."""
    torch = _torch(way)
    from edgead.models.rows import collect_rows, load_features

    features, pictures = load_features("efficientnet_lite0", None, None), _pictures(16)
    return lambda: f"{float(collect_rows(features, pictures, torch.Generator().manual_seed(0))[0].double().sum()):.9g}"


def _simplenet(way: str) -> Any:
    """20 steps of a SimpleNet."""
    _torch(way)
    from edgead.families.contract import FitData
    from edgead.families.simplenet.fit import fit
    from edgead.families.simplenet.options import SimpleNetOptions

    pictures, options = _pictures(8), SimpleNetOptions(steps=20)
    return lambda: f"{float(fit(FitData(pictures, (128, 128)), options).state_dict()['hidden.weight'].double().sum()):.9g}"


def _literal(way: str) -> Any:
    """40 answers of twelve convolutions of 32 channels at 64 px, node by node, as the guard asks an INT8 graph."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from edgead.engines.onnxruntime import open_session

    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(0, 0.06, (32, 32, 3, 3)).astype(np.float32), f"w{i}") for i in range(12)]
    nodes = [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1]) for i in range(12)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32, 64, 64]) for name in ("x0", "x12")]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    threads = 1 if way == "one thread" else machine.usable_cores()
    if way == "spinning":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.use_deterministic_compute = threads, True
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    else:
        session = open_session(model, threads=threads, literal=True)
    picture = rng.normal(size=(1, 32, 64, 64)).astype(np.float32)
    return lambda: f"{max(float(session.run(None, {'x0': picture})[0].astype(np.float64).std()) for _ in range(40)):.6g}"


def _resize(way: str) -> Any:
    """20 pictures of 789 x 600 px brought to 256 x 256 as imports do."""
    import numpy as np

    from edgead.preprocess import PreprocessRecipe

    recipe = PreprocessRecipe(256, 256, resize="antialias")
    picture = np.random.default_rng(0).integers(0, 256, (789, 600, 3), dtype=np.uint8)
    recipe.apply(picture)
    return lambda: str(sum(int(recipe.apply(picture).sum()) for _ in range(20)))


def _pictures(count: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (128, 128, 3), np.uint8) for _ in range(count)]


if __name__ == "__main__":
    main()
