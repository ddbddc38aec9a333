"""TensorRT against torch and ONNX Runtime on this machine's GPU, in one interleaved run.

    python -m benchmarks.gpu --json benchmarks/results/gpu.json

Every contender gets the same 256 x 256 uint8 picture in host memory and returns score and map there, as on the line: copies
count. The contenders of a model take turns, so that clocks and heat hit all alike. Weights are random: this measures speed, not
accuracy. The share of the time that is not the GPU is what is left of a TensorRT engine's latency when CUDA events have timed
its stream.

EfficientAD-S's authors state 2.2 ms and 614 images/s (that in batches; here pictures come one by one) on an RTX A6000 (Batzner et
al. 2024): the line to beat on like hardware. Without a GPU this says so and exits with 5.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgead.engines._tensorrt import FLAVOURS, load_tensorrt
from edgead.engines.cuda import DeviceInfo, open_cuda
from edgead.errors import EdgeadError, EngineError
from edgead.machine import facts
from edgead.types import Image

FAMILIES = ("patchcore", "simplenet", "efficientad")
PRECISIONS = ("fp32", "fp16", "int8")
PUBLISHED = {"efficientad": {"model": "EfficientAD-S", "gpu": "RTX A6000", "latency_ms": 2.2, "images_per_s": 614}}
SIZE = 256
ROW = "{:<13}{:<34}{:>9}{:>9}{:>9}{:>10}{:>9}{:>10}".format

Ask = Callable[[Image], float]


@dataclass(frozen=True, slots=True)
class Row:
    """One contender: milliseconds of one picture from host memory to host memory, and how much of the median is not the GPU."""

    model: str
    contender: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    images_per_s: float
    gpu_ms: float | None = None
    not_gpu: float | None = None


def timed(model: str, contenders: Mapping[str, Ask], image: Image, rounds: int, warmup: int) -> list[Row]:
    """Ask all contenders in turn, `rounds` times each after `warmup`."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(warmup + rounds):
        for name, ask in contenders.items():
            began = time.perf_counter()
            ask(image)
            if i >= warmup:
                times[name].append((time.perf_counter() - began) * 1e3)
    return [_row(model, name, found) for name, found in times.items()]


def _row(model: str, name: str, times_ms: Sequence[float]) -> Row:
    p50, p95, p99 = (float(value) for value in np.percentile(times_ms, (50, 95, 99)))
    return Row(model, name, p50, p95, p99, 1000 / statistics.fmean(times_ms))


def detector_of(family: str) -> Any:
    """An untrained detector of full size."""
    import torch

    from edgead.families.efficientad.network import EfficientAd
    from edgead.families.patchcore.network import PatchCore
    from edgead.families.simplenet.network import SimpleNet
    from edgead.models.backbones import load_backbone
    from edgead.models.patches import PatchFeatures

    torch.manual_seed(0)
    if family == "efficientad":
        detector: Any = EfficientAd.build({"size": "small"}, (SIZE, SIZE))
    else:
        features = PatchFeatures(load_backbone())
        if family == "patchcore":
            detector = PatchCore.from_bank(features, torch.randn(2048, features.channels), 3, (SIZE, SIZE))
        else:
            layers = list(features.backbone.layers)
            config = {"backbone": "efficientnet_lite0", "layers": layers, "channels": features.channels, "hidden": 1024}
            detector = SimpleNet(config, (SIZE, SIZE), features.backbone)
    return detector.requires_grad_(False).eval()


def graphs_of(detector: Any, folder: Path) -> dict[str, Path]:
    """The ONNX graph in each precision."""
    from edgead.calibration.int8.calibrate import calibrate
    from edgead.calibration.int8.half import to_half
    from edgead.calibration.int8.targets import target_for
    from edgead.calibration.pictures.sets import CalibrationSet
    from edgead.export.graph import write_onnx

    rng = np.random.default_rng(0)
    noise = CalibrationSet.of([rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(8)])
    files = {precision: folder / f"{precision}.onnx" for precision in PRECISIONS}
    write_onnx(detector, files["fp32"])
    to_half(files["fp32"], files["fp16"])
    calibrate(files["fp32"], noise, target_for("tensorrt"), output=files["int8"], allow_unsafe=True)
    return files


def tensorrt_engines(graphs: Mapping[str, Path], backend: str, stack: ExitStack) -> Iterator[tuple[str, Any]]:
    """Each precision with and without a CUDA graph."""
    from edgead.export.tensorrt import BuildOptions, build_engine
    from edgead.registry import resolve

    for precision, graph in graphs.items():
        plan = graph.with_suffix(".engine")
        build_engine(graph, plan, backend, precision, BuildOptions(timing_cache=graph.with_name("timing-cache")))
        for captured in (True, False):
            engine = resolve("engine", backend)(plan, graph=captured)
            stack.callback(engine.close)
            yield f"{backend} {precision}" + (", CUDA graph" if captured else ""), engine


def torch_contenders(detector: Any) -> Iterator[tuple[str, Ask]]:
    """Eager, compiled, and half precision; from host memory to host memory, too."""
    import torch

    if not torch.cuda.is_available():
        raise EngineError("this torch has no CUDA")
    model = detector.cuda()
    compiled = torch.compile(model, mode="max-autotune")

    def ask(forward: Any, half: bool) -> Ask:
        def one(image: Image) -> float:
            with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=half):
                anomaly_map, score = forward(torch.from_numpy(image)[None].cuda())
                anomaly_map.cpu()
                return float(score[0])

        return one

    for name, forward, half in (
        ("torch eager fp32", model, False),
        ("torch eager fp16", model, True),
        ("torch compiled fp32", compiled, False),
        ("torch compiled fp16", compiled, True),
    ):
        yield name, ask(forward, half)


def onnxruntime_contenders(graphs: Mapping[str, Path]) -> Iterator[tuple[str, Ask]]:
    """ONNX Runtime's CUDA provider; no fall-back to the CPU goes unnoticed."""
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise EngineError("this ONNX Runtime has no CUDA provider")
    for precision, graph in graphs.items():
        session = ort.InferenceSession(str(graph), providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
        if "CUDAExecutionProvider" not in session.get_providers():
            raise EngineError("ONNX Runtime's CUDA provider does not load")

        def one(image: Image, session: Any = session) -> float:
            _, score = session.run(["anomaly_map", "score"], {"image": image[None]})
            return float(score[0])

        yield f"onnxruntime CUDA {precision}", one


def compete(family: str, backends: Sequence[str], rounds: int, warmup: int) -> tuple[list[Row], list[str]]:
    """All contenders on one model; the rows, and who was left out and why."""
    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        detector = detector_of(family)
        graphs = graphs_of(detector, Path(scratch))
        engines: dict[str, Any] = {}
        contenders: dict[str, Ask] = {}
        for backend in backends:
            for name, engine in tensorrt_engines(graphs, backend, stack):
                engines[name] = engine
                contenders[name] = _asks(engine)
        makers: tuple[Callable[[], Iterator[tuple[str, Ask]]], ...] = (
            lambda: torch_contenders(detector),
            lambda: onnxruntime_contenders(graphs),
        )
        for make in makers:
            try:
                contenders |= dict(make())
            except (EngineError, ImportError) as error:
                left_out.append(str(error))
        image = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        rows = timed(family, contenders, image, rounds, warmup)
        return [_with_gpu(row, engines) for row in rows], left_out


def _asks(engine: Any) -> Ask:
    return lambda image: float(engine.infer(image)[0])


def _with_gpu(row: Row, engines: Mapping[str, Any]) -> Row:
    if row.contender not in engines:
        return row
    gpu_ms = engines[row.contender].gpu_ms(100)
    return dataclasses.replace(row, gpu_ms=gpu_ms, not_gpu=max(0.0, 1 - gpu_ms / row.p50_ms))


def show(rows: Sequence[Row]) -> None:
    """The table, with the published figures under the model that they are for."""
    for row in rows:
        extra = ("", "") if row.gpu_ms is None or row.not_gpu is None else (f"{row.gpu_ms:.3f}", f"{100 * row.not_gpu:.0f} %")
        numbers = (f"{value:.3f}" for value in (row.p50_ms, row.p95_ms, row.p99_ms))
        print(ROW(row.model, row.contender, *numbers, f"{row.images_per_s:.0f}", *extra), flush=True)
    for model in dict.fromkeys(row.model for row in rows):
        if stated := PUBLISHED.get(model):
            name = f"published, {stated['gpu']}"
            print(ROW(model, name, f"{stated['latency_ms']:.3f}", "", "", str(stated["images_per_s"]), "", ""))


def gpu() -> DeviceInfo:
    """The GPU of this machine. Raises EdgeadError when there is none."""
    cuda = open_cuda()
    try:
        with cuda.current():
            return cuda.device()
    finally:
        cuda.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(FAMILIES))
    parser.add_argument("--backend", help=f"of {','.join(FLAVOURS)} (default: those installed)")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    try:
        device = gpu()
        backends = args.backend.split(",") if args.backend else [name for name in FLAVOURS if _installed(name)]
        versions = {backend: str(load_tensorrt(backend).__version__) for backend in backends}
        if not backends:
            raise EngineError("neither TensorRT nor TensorRT for RTX is installed")
    except EdgeadError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 5
    print(
        f"{device.name} ({device.compute_capability}), CUDA {device.driver}, "
        + ", ".join(f"{k} {v}" for k, v in versions.items())
    )
    print(ROW("model", "contender", "p50 ms", "p95 ms", "p99 ms", "images/s", "GPU ms", "not GPU"))
    rows: list[Row] = []
    for family in args.models.split(","):
        found, left_out = compete(family, backends, args.rounds, args.warmup)
        show(found)
        rows += found
        for reason in left_out:
            print(f"  left out: {reason}")
    if args.json:
        machine = {**facts(), "gpu": dataclasses.asdict(device), "tensorrt": versions}
        content = {"benchmark": "gpu", "published": PUBLISHED, "machine": machine, "rows": [dataclasses.asdict(r) for r in rows]}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


def _installed(backend: str) -> bool:
    try:
        load_tensorrt(backend)
    except EdgeadError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
