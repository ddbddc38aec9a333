"""A model's graph in both engines, in a process of its own: an engine that crashes must fail a test, not end the run.

python -m tests.families.alone MODEL...     # -> JSON for each: engine -> largest error of map and score over the map's reach
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ENGINES = ("onnxruntime 1", "onnxruntime 2", "openvino 1", "openvino 2")


def pictures(size: tuple[int, int]) -> list[npt.NDArray[np.uint8]]:
    """Black, white, even, noise, and a part with and without a defect."""
    from tests.bundles import part

    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    drawn = [
        np.ascontiguousarray(np.resize(part(5, max(size), defect)[: size[0], : size[1]], (*size, 3))) for defect in (False, True)
    ]
    return [*(np.full((*size, 3), grey, np.uint8) for grey in (0, 255, 119)), noise, *drawn]


def errors(model: Path) -> dict[str, float]:
    """Of each engine with one and with two threads, on all pictures; infinite where an answer is not finite."""
    import torch

    from edgead.engines.onnxruntime import OnnxRuntimeEngine
    from edgead.engines.openvino import OpenVinoEngine
    from edgead.export.graph import write_onnx
    from edgead.trained import load_model

    detector, _ = load_model(model)
    seen = pictures(detector.image_size)
    with torch.no_grad():
        maps, scores = detector(torch.from_numpy(np.stack(seen)))
    reach = float(maps.max() - maps.min()) or 1.0
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        write_onnx(detector, file)
        for name in ENGINES:
            kind, _, threads = name.partition(" ")
            made: Any = OpenVinoEngine if kind == "openvino" else OnnxRuntimeEngine
            engine = made(file, threads=int(threads))
            told = [engine.infer(picture) for picture in seen]
            again = [engine.infer(picture) for picture in seen]
            engine.close()
            assert all(a[0] == b[0] and np.array_equal(a[1], b[1]) for a, b in zip(told, again, strict=True)), f"{name} wavers"
            worst = max(np.abs(m - maps[i].numpy()).max() for i, (_, m) in enumerate(told))
            worst = max(worst, *(abs(s - float(scores[i])) for i, (s, _) in enumerate(told)))
            found[name] = float(worst / reach) if np.isfinite(worst) else float("inf")
    return found


def check(*models: Path, limit: float = 1e-4) -> None:
    """Every engine answers as each model, whatever the picture and the threads."""
    asked = subprocess.run(
        [sys.executable, "-m", "tests.families.alone", *map(str, models)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert asked.returncode == 0, f"ended with {asked.returncode}: {asked.stderr[-2000:]}"
    found = [json.loads(line) for line in asked.stdout.splitlines()]
    assert [list(one) for one in found] == [list(ENGINES)] * len(models)
    assert max(worst for one in found for worst in one.values()) <= limit, found


if __name__ == "__main__":
    for model in sys.argv[1:]:
        print(json.dumps(errors(Path(model))))
