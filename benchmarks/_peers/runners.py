"""Every variant as one call: a 1080p BGR frame in, score and verdict out, on a given number of CPU threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch

from benchmarks._peers.built import Built, resized, unit_rgb
from edgead.budget import LatencyBudget
from edgead.bundle import Bundle
from edgead.clock import MonotonicClock
from edgead.engines import open_engine
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.optional import require
from edgead.runtime.inspector import Inspector
from edgead.types import Frame, Image, Verdict


class Runner(Protocol):
    """One variant, loaded."""

    def __call__(self, frame: Image) -> tuple[float, bool]:
        """Score (its own units) and whether the part is NG."""

    def close(self) -> None:
        """Release what it holds."""


@dataclass(slots=True)
class Ours:
    """One engine of a bundle behind the station's own inspector."""

    inspector: Inspector
    engine: Any

    @classmethod
    def open(cls, bundle: Bundle, name: str, threads: int, onnxruntime: bool = False) -> Ours:
        """`onnxruntime` runs the bundle's float graph, which is that backend's FP32 engine, with the threshold of `name`."""
        graph = bundle.path / "model.onnx"
        engine = OnnxRuntimeEngine(graph, threads=threads) if onnxruntime else open_engine(bundle, name, threads)
        rule = replace(bundle.manifest.engine(name).threshold.rule, unknown_band=None)
        return cls(Inspector(engine, bundle.manifest.preprocess, rule, LatencyBudget(None), MonotonicClock()), engine)

    def __call__(self, frame: Image) -> tuple[float, bool]:
        told = self.inspector.inspect(1, Frame(frame, "camera", 1, time.monotonic_ns()))
        if told.verdict is Verdict.UNKNOWN:
            raise RuntimeError(f"edgead did not answer: {told.cause}")
        return told.score, told.verdict is Verdict.NG

    def close(self) -> None:
        self.engine.close()


@dataclass(slots=True)
class Torch:
    """The plain model, eager or compiled, as anomalib's torch inferencer calls it."""

    model: Any
    size: tuple[int, int]

    @classmethod
    def eager(cls, built: Built) -> Torch:
        return cls(built.plain(), built.detector.image_size)

    @classmethod
    def compiled(cls, built: Built) -> Torch:
        """By inductor, weights frozen, as PyTorch advises for inference on CPUs."""
        torch._dynamo.reset()
        return cls(torch.compile(built.plain(), options={"freezing": True}), built.detector.image_size)

    def __call__(self, frame: Image) -> tuple[float, bool]:
        with torch.no_grad():
            score, label, _, _ = self.model(torch.from_numpy(unit_rgb(resized(frame, self.size))))
        return float(score[0]), bool(label[0])

    def close(self) -> None:
        self.model = None


@dataclass(slots=True)
class OnnxRuntime:
    """The plain graph in ONNX Runtime with its default optimisation."""

    session: Any
    size: tuple[int, int]

    @classmethod
    def open(cls, built: Built, threads: int) -> OnnxRuntime:
        ort = require("onnxruntime", extra="onnxruntime", why="This benchmark")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = ort.InferenceSession(str(built.plain_onnx(False)), options, providers=["CPUExecutionProvider"])
        return cls(session, built.detector.image_size)

    def __call__(self, frame: Image) -> tuple[float, bool]:
        score, label, _, _ = self.session.run(None, {"input": unit_rgb(resized(frame, self.size))})
        return float(score[0]), bool(label[0])

    def close(self) -> None:
        self.session = None


@dataclass(slots=True)
class OpenVino:
    """A peer's graph in OpenVINO as anomalib's inferencer runs it: read, compiled with its default settings, called with float32.

    With `size` None the whole frame is converted to float and the graph resizes it; else OpenCV resizes the frame first.
    """

    model: Any
    size: tuple[int, int] | None
    precision: str

    @classmethod
    def open(cls, file: Path, size: tuple[int, int] | None, threads: int, f32: bool = False, cache: str = "") -> OpenVino:
        """`f32` keeps float layers in FP32; left to itself OpenVINO takes bf16 on CPUs that have it. Threads are not bound to
        cores, as edgead's are not: the engines of one process would all be bound to the same ones."""
        ov = require("openvino", extra="openvino", why="This benchmark")
        config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if f32:
            config |= {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        model = ov.Core().compile_model(str(file), "CPU", config)
        return cls(model, size, model.get_property("INFERENCE_PRECISION_HINT").get_type_name())

    def __call__(self, frame: Image) -> tuple[float, bool]:
        image = cv2.cvtColor(frame if self.size is None else resized(frame, self.size), cv2.COLOR_BGR2RGB)
        values = image.astype(np.float32)
        if values.max() > 1.0:
            values /= 255.0
        told = self.model({"input": values[None].transpose(0, 3, 1, 2)}).to_tuple()
        return float(told[0].reshape(-1)[0]), bool(told[1].reshape(-1)[0])

    def close(self) -> None:
        self.model = None


@dataclass(slots=True)
class Faiss:
    """PatchCore's features by OpenVINO FP32, its bank in a flat index of faiss, score and map in NumPy and OpenCV."""

    model: Any
    index: Any
    bank: Any
    neighbours: int
    threshold: float
    size: tuple[int, int]
    set_threads: Callable[[], None]

    @classmethod
    def open(cls, built: Built, threads: int) -> Faiss:
        faiss = require("faiss", extra="benchmarks", why="This benchmark")
        ov = require("openvino", extra="openvino", why="This benchmark")
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        config["ENABLE_CPU_PINNING"] = False
        model = ov.Core().compile_model(str(built.features_ir()), "CPU", config)
        detector: Any = built.detector
        bank = np.ascontiguousarray((detector.bank() + detector.centre).numpy())
        index = faiss.IndexFlatL2(bank.shape[1])
        index.add(bank)
        neighbours, threshold = int(detector.config["neighbours"]), built.levels().threshold
        size = detector.image_size
        return cls(model, index, bank, neighbours, threshold, size, lambda: faiss.omp_set_num_threads(threads))

    def __call__(self, frame: Image) -> tuple[float, bool]:
        self.set_threads()
        found = self.model({"input": unit_rgb(resized(frame, self.size))}).to_tuple()[0][0]  # C x h x w
        patches = np.ascontiguousarray(found.reshape(len(found), -1).T)
        squared, nearest = self.index.search(patches, 1)
        distance = np.sqrt(np.maximum(squared[:, 0], 0.0))
        worst = int(distance.argmax())
        score = float(distance[worst])
        if self.neighbours > 1:
            _, around = self.index.search(self.bank[nearest[worst]], self.neighbours)
            to_neighbours = np.linalg.norm(self.bank[around[0]] - patches[worst], axis=1)
            share = np.exp(to_neighbours - to_neighbours.max())
            score *= float(1.0 - share[0] / share.sum())
        cv2.resize(distance.reshape(found.shape[1:]), self.size[::-1], interpolation=cv2.INTER_LINEAR)  # the map
        return score, score >= self.threshold

    def close(self) -> None:
        self.model = self.index = None
