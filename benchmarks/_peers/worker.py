"""anomalib's side of `benchmarks.peers`: run by the Python of an environment of its own, with anomalib in it and without edgead.

    ENVIRONMENT/bin/python benchmarks/_peers/worker.py

One JSON object a line on standard input, one on standard output: ``{"do": NAME, ...}`` is answered with ``{"did": ...}`` or
``{"error": TEXT}``. Arrays travel as .npy and .npz files without pickle; pictures as files. All that anomalib prints goes to
standard error. Training, export and inference are anomalib's own calls, with its own defaults but for what a request says.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

LITE0, LAYERS = "tf_efficientnet_lite0", ("blocks.2", "blocks.4")
OPENVINO: dict[str, tuple[dict[str, str], bool]] = {
    "openvino": ({}, False),
    "openvino-f32": ({"INFERENCE_PRECISION_HINT": "f32"}, False),
    "openvino-fixed": ({"INFERENCE_PRECISION_HINT": "f32"}, True),
    "int8_ptq": ({}, True),
}
"""Variants that OpenVINOInferencer runs: what it is told beside the number of threads, and whether its graph has a fixed size.
Left to itself OpenVINO computes float layers in bf16 where the CPU has it."""


def declare_operators() -> Any:
    """Operators that torchvision's Python code registers shapes for; its CUDA build cannot bring them beside CPU torch. Nothing
    here calls them. The library must be kept."""
    import torch

    make: Any = torch.library.Library
    library = make("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


class Side:
    """What requests ask for; models and inferencers stay open between them."""

    def __init__(self) -> None:
        self._library = declare_operators()
        self._models: dict[str, Any] = {}
        self._open: dict[str, Any] = {}
        self._frames: list[Any] = []

    def hello(self) -> dict[str, str]:
        """Versions of what matters."""
        names = ("anomalib", "torch", "torchvision", "timm", "lightning", "openvino", "nncf", "numpy")
        return {name: importlib.metadata.version(name) for name in names}

    def train(self, data: str, out: str, weights: str, size: list[int], share: float, seed: int) -> dict[str, float]:
        """Train PatchCore on data/train/good, with data/test as validation set; writes Lightning's checkpoint to `out`."""
        from anomalib.engine import Engine
        from lightning.pytorch import seed_everything

        seed_everything(seed, verbose=False)
        model = self._new(Path(weights), (size[0], size[1]), share)
        root = Path(out).parent
        root.mkdir(parents=True, exist_ok=True)
        engine = Engine(default_root_dir=root / "results", accelerator="cpu", enable_progress_bar=False)
        began = time.monotonic()
        engine.fit(model=model, datamodule=self._datamodule(data))
        took_s = time.monotonic() - began
        engine.trainer.save_checkpoint(out)
        threshold = float(model.post_processor._image_threshold)
        return {"fit_s": round(took_s, 1), "rows": len(model.model.memory_bank), "threshold": threshold}

    def export(self, checkpoint: str, data: str, out: str, size: list[int]) -> dict[str, str]:
        """anomalib's OpenVINO export with defaults (pictures of any size, resized in the graph), the same for pictures of model
        size, and its INT8_PTQ of the latter: of the former it fails in anomalib 2.7 (it asks a dynamic shape for its numbers).

        Batches are of one picture, which must be asked for: by default torch 2.13 traces PatchCore with a batch of two, and bakes
        that in, so that anomalib's own inferencer cannot give it one picture."""
        import torch
        from anomalib.deploy import CompressionType, ExportType
        from anomalib.engine import Engine

        model, engine = self._model(checkpoint), Engine(default_root_dir=Path(out) / "results", accelerator="cpu")
        fixed = (size[0], size[1])
        kinds = {"openvino": (None, None), "openvino-fixed": (fixed, None), "int8_ptq": (fixed, CompressionType.INT8_PTQ)}
        any_size = ({2: torch.export.Dim("height"), 3: torch.export.Dim("width")},)
        files = {}
        for name, (given, compression) in kinds.items():
            datamodule = self._datamodule(data, fixed) if compression else None
            file = engine.export(
                model, ExportType.OPENVINO, Path(out) / name, input_size=given, compression_type=compression,
                datamodule=datamodule, onnx_kwargs={"dynamic_shapes": None if given else any_size},
            )  # fmt: skip
            files[name] = str(file)
        return files

    def predict(self, checkpoint: str, folder: str, out: str) -> dict[str, int]:
        """The trained model's answers on all pictures of a folder, by `Engine.predict`; .npz with names, scores and labels."""
        from anomalib.engine import Engine

        model = self._model(checkpoint)
        engine = Engine(default_root_dir=Path(out).parent / "results", accelerator="cpu", enable_progress_bar=False)
        found = []
        for kind in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
            for batch in engine.predict(model=model, data_path=kind) or []:
                names = [f"{kind.name}/{Path(path).name}" for path in batch.image_path]
                found += list(zip(names, batch.pred_score.flatten().tolist(), batch.pred_label.flatten().tolist(), strict=True))
        return _save_answers(out, found)

    def infer(self, variant: str, file: str, folder: str, out: str, size: list[int]) -> dict[str, int]:
        """The exported engine's answers on all pictures of a folder, by `OpenVINOInferencer.predict`, as `predict` keeps them."""
        import cv2

        run = self._inferencer(variant, file, os.cpu_count() or 1, size)
        found = []
        for path in sorted(Path(folder).glob("*/*.png")):
            told = run(cv2.imread(str(path), cv2.IMREAD_COLOR))
            name = f"{path.parent.name}/{path.name}"
            found.append((name, float(told.pred_score.reshape(-1)[0]), bool(told.pred_label.reshape(-1)[0])))
        return _save_answers(out, found)

    def open(self, name: str, variant: str, file: str, threads: int, size: list[int]) -> dict[str, str]:
        """Load one variant for `clock`: "torch" with its checkpoint, or one of `OPENVINO` with its IR."""
        import torch

        if variant == "torch":
            torch.set_num_threads(threads)
            self._open[name] = _TorchCall(self._model(file))
            return {"precision": "f32"}
        run = self._inferencer(variant, file, threads, size)
        self._open[name] = run
        return {"precision": run.precision()}

    def frames(self, file: str) -> dict[str, int]:
        """Camera pictures for `clock`: .npz of H x W x 3 uint8 BGR arrays."""
        with np.load(file, allow_pickle=False) as found:
            self._frames = [found[name] for name in found.files]
        return {"frames": len(self._frames)}

    def clock(self, name: str, calls: int) -> list[float]:
        """Milliseconds of each of so many calls, camera picture to score."""
        run, taken = self._open[name], []
        for number in range(calls):
            frame = self._frames[number % len(self._frames)]
            began = time.perf_counter()
            run(frame)
            taken.append((time.perf_counter() - began) * 1e3)
        return taken

    def close(self, name: str) -> None:
        """Forget one variant."""
        self._open.pop(name)

    def _new(self, weights: Path, size: tuple[int, int], share: float) -> Any:
        """An untrained PatchCore with the backbone's weights given."""
        import torch
        from anomalib.models import Patchcore

        made = Patchcore(
            backbone=LITE0, layers=LAYERS, pre_trained=False, coreset_sampling_ratio=share,
            pre_processor=Patchcore.configure_pre_processor(size), visualizer=False,
        )  # fmt: skip
        network = made.model.feature_extractor.feature_extractor
        wanted = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
        with np.load(weights, allow_pickle=False) as found:
            network.load_state_dict({name: torch.from_numpy(found[name]) for name in wanted}, strict=False)
        return made

    def _model(self, checkpoint: str) -> Any:
        if checkpoint not in self._models:
            from anomalib.models import Patchcore

            self._models = {checkpoint: Patchcore.load_from_checkpoint(checkpoint, map_location="cpu").eval()}
        return self._models[checkpoint]

    def _datamodule(self, data: str, size: tuple[int, int] | None = None) -> Any:
        """Batches of one: pictures of a set may differ in size. `size` has them resized already."""
        from anomalib.data import Folder
        from torchvision.transforms.v2 import Resize

        root = Path(data)
        return Folder(
            name="part", normal_dir=root / "train/good", normal_test_dir=root / "test/good", abnormal_dir=root / "test/defect",
            train_batch_size=1, eval_batch_size=1, num_workers=0, val_split_mode="same_as_test",
            augmentations=Resize(size, antialias=True) if size else None,
        )  # fmt: skip

    def _inferencer(self, variant: str, file: str, threads: int, size: list[int]) -> _OpenVinoCall:
        from anomalib.deploy import OpenVINOInferencer

        told, fixed = OPENVINO[variant]
        config = {**told, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        return _OpenVinoCall(OpenVINOInferencer(file, device="CPU", config=config), size if fixed else None)


class _OpenVinoCall:
    """From a BGR picture of the camera to anomalib's answer; a graph of fixed size gets it resized, each pixel the mean of
    what it covers, which is nearest to the antialias of training."""

    def __init__(self, inferencer: Any, size: list[int] | None) -> None:
        self._inferencer, self._size = inferencer, size

    def __call__(self, frame: Any) -> Any:
        import cv2

        if self._size is not None:
            frame = cv2.resize(frame, (self._size[1], self._size[0]), interpolation=cv2.INTER_AREA)
        return self._inferencer.predict(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))

    def precision(self) -> str:
        """What OpenVINO computes float layers in."""
        return str(self._inferencer.model.get_property("INFERENCE_PRECISION_HINT").get_type_name())


class _TorchCall:
    """What TorchInferencer.predict does, without the pickle that it wants to read the model from, and without gradients."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, frame: Any) -> float:
        import cv2
        import torch
        from torchvision.transforms.v2.functional import to_dtype, to_image

        image = to_dtype(to_image(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)), torch.float32, scale=True)
        with torch.inference_mode():
            return float(self._model(image[None]).pred_score)


def _save_answers(out: str, found: list[tuple[str, float, bool]]) -> dict[str, int]:
    names, scores, labels = zip(*found, strict=True)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, names=np.array(names, "U"), scores=np.array(scores, np.float64), labels=np.array(labels, np.bool_))
    return {"answers": len(names)}


def serve() -> None:
    """Answer requests until standard input ends."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints goes to standard error
    side = Side()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: dict[str, Any] = {"did": getattr(side, request.pop("do"))(**request)}
        except Exception as error:  # noqa: BLE001 - told to the other side, which decides
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        told.write(json.dumps(answer) + "\n")
        told.flush()


if __name__ == "__main__":
    serve()
