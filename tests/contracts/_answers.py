"""Run as a process of its own, since an engine that crashes must fail a test and not the run: a graph's answers in every engine.

``python -m tests.contracts._answers GRAPH.onnx PICTURES.npy OUT.npz``: N x H x W x 3 uint8 pictures -> maps and scores of ONNX
Runtime and of OpenVINO with one and with two threads, and again, to see that the same picture gives the same bits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import openvino


def main(graph: Path, pictures: Path, out: Path) -> None:
    images, found = np.load(pictures), {}
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    for again in ("", "_again"):
        answers = [session.run(["anomaly_map", "score"], {"image": one[None]}) for one in images]
        found[f"onnxruntime{again}_map"], found[f"onnxruntime{again}_score"] = (
            np.concatenate(one) for one in zip(*answers, strict=True)
        )
    core = openvino.Core()
    for threads in (1, 2):
        hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(str(graph)), "CPU", hints)
        for again in ("", "_again"):
            told = [{port.any_name: value.copy() for port, value in compiled(one[None]).items()} for one in images]
            found[f"openvino{threads}{again}_map"] = np.concatenate([one["anomaly_map"] for one in told])
            found[f"openvino{threads}{again}_score"] = np.concatenate([one["score"] for one in told])
    np.savez(out, **found)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
