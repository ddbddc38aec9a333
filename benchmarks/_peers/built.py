"""What every variant runs, built once and kept: bundles of edgead, the peers' graphs, and every variant's scores."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from benchmarks._peers.pictures import Pictures
from benchmarks._peers.plain import OUTPUTS, Levels, Peer, plain, unit_features
from edgead.bundle import Bundle
from edgead.calibration.deviation import Limits
from edgead.export import ExportOptions, export_bundle
from edgead.export.graph import OPSET, write_onnx
from edgead.models.detector import Detector, load_detector
from edgead.models.efficientad import EfficientAd
from edgead.models.rewrites import Setting
from edgead.optional import require
from edgead.types import Image

PTQ_PICTURES = {"efficientad": 32, "efficientad-separate": 32}
"""Pictures of the validation set that INT8_PTQ looks at; 100 where nothing is said (NNCF takes minutes on EfficientAD)."""

EXPORT_FRAMES = 20


@dataclass(frozen=True, slots=True)
class Built:
    """One trained model and where its graphs lie (below `folder`, made when they are first asked for)."""

    family: str
    model_dir: Path
    folder: Path
    pictures: Pictures
    detector: Detector
    info: dict[str, Any]

    @classmethod
    def of(cls, family: str, model_dir: Path, cache: Path, pictures: Pictures) -> Built:
        detector, info = load_detector(model_dir)
        digest = hashlib.sha256((model_dir / "model.safetensors").read_bytes()).hexdigest()[:12]
        folder = cache / f"{family}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        return cls(family, model_dir, folder, pictures, detector, info)

    def bundle(self, rewrites: Mapping[str, Setting]) -> Bundle:
        """What `edgead export` makes with these lossy rewrites beside the exact ones. Limits are wide open: AUROC is what this
        benchmark judges, on frames of its own."""
        target = self.folder / f"{key(rewrites)}.edgead"
        if not target.is_dir():
            limits = Limits(1.0, 1.0, 1e6)
            options = ExportOptions(
                backends=("openvino",), frames_per_class=EXPORT_FRAMES, limits=limits, rewrites=dict(rewrites)
            )
            export_bundle(self.model_dir, target, options)
        return Bundle.open(target)

    def plain(self, resize: bool = False) -> Peer:
        """The peers' torch model with its post-processing."""
        return Peer(plain(self.detector), self.detector.image_size, self.levels(), resize).eval()

    def levels(self) -> Levels:
        """Range and F1 threshold of the plain model on the validation set."""
        kept = self.folder / "levels.json"
        if not kept.is_file():
            images, labels = self._validation()
            model = plain(self.detector)
            with torch.inference_mode():
                told = [model(torch.from_numpy(unit_rgb(resized(image, self.detector.image_size)))) for image in images]
            scores = np.array([float(score) for score, _ in told])
            maps = [float(edge) for _, found in told for edge in (found.min(), found.max())]
            levels = Levels(scores.min(), scores.max(), f1_threshold(labels, scores), min(maps), max(maps))
            kept.write_text(json.dumps(asdict(levels)), "utf-8")
        return Levels(**json.loads(kept.read_text("utf-8")))

    def plain_onnx(self, resize: bool) -> Path:
        """The peers' ONNX: input ``input`` of model size, or of any size that the graph resizes itself."""
        target = self.folder / ("plain_any.onnx" if resize else "plain.onnx")
        if not target.is_file():
            _write_onnx(self.plain(resize), self.detector.image_size, resize, target)
        return target

    def original(self) -> Path:
        """The graph whose operations count as the work to be done: the trained model without rewrites, EfficientAD's networks
        separate as in the paper."""
        if isinstance(self.detector, EfficientAd):
            return self.plain_onnx(False)
        target = self.folder / "original.onnx"
        if not target.is_file():
            write_onnx(self.detector, target)
        return target

    def ptq(self, resize: bool) -> Path:
        """INT8_PTQ: ``nncf.quantize(model, validation set)`` with all defaults, as an IR."""
        target = self.folder / ("ptq_any.xml" if resize else "ptq.xml")
        if not target.is_file():
            nncf = require("nncf", extra="nncf", why="This benchmark")
            ov = require("openvino", extra="openvino", why="This benchmark")
            logging.getLogger("nncf").setLevel(logging.ERROR)
            images = [unit_rgb(resized(image, self.detector.image_size)) for image in self._validation()[0]]
            with redirect_stdout(io.StringIO()):  # it draws progress bars
                quantised = nncf.quantize(ov.convert_model(str(self.plain_onnx(resize))), nncf.Dataset(images))
            _save(quantised, target)
        return target

    def features_ir(self) -> Path:
        """The patch features alone in OpenVINO FP32, for the search with faiss."""
        target = self.folder / "features.xml"
        if not target.is_file():
            features: Any = self.detector.features
            graph = target.with_suffix(".onnx")
            _export(unit_features(features), self.detector.image_size, graph, ["features"], None)
            _save(require("openvino", extra="openvino", why="This benchmark").convert_model(str(graph)), target)
        return target

    def scores(self, variant: str, ask: Callable[[Image], float]) -> list[float]:
        """A variant's scores of the tested frames, asked once and kept."""
        kept = self.folder / f"scores-{hashlib.sha256(variant.encode()).hexdigest()[:12]}-{self.pictures.each}.json"
        if not kept.is_file():
            kept.write_text(json.dumps([ask(frame) for frame in self.pictures.frames()]), "utf-8")
        found: list[float] = json.loads(kept.read_text("utf-8"))
        return found

    def _validation(self) -> Any:
        return self.pictures.validation(PTQ_PICTURES.get(self.family, 100))


def key(rewrites: Mapping[str, Setting]) -> str:
    """A file name for settings of rewrites."""
    return "+".join(f"{name}={value}" for name, value in rewrites.items()).replace("/", "_") or "default"


def resized(image: Image, size: tuple[int, int]) -> Image:
    """Bilinear without antialias, H x W of `size`: what the peers' export does inside its graph."""
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def unit_rgb(image: Image) -> Any:
    """uint8 BGR -> float32 1 x 3 x H x W RGB 0 to 1."""
    return np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255.0)


def f1_threshold(labels: Any, scores: Any) -> float:
    """The score at and above which "defect" has the largest F1."""
    best = max(np.unique(scores), key=lambda t: 2 * (labels & (scores >= t)).sum() / (labels.sum() + (scores >= t).sum()))
    return float(best)


def _write_onnx(model: nn.Module, size: tuple[int, int], resize: bool, target: Path) -> None:
    dims = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    _export(model, (640, 480) if resize else size, target, list(OUTPUTS), (dims,) if resize else None)


def _export(model: nn.Module, size: tuple[int, int], target: Path, outputs: list[str], dims: Any) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    part = target.with_suffix(".part")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        program = torch.onnx.export(
            model, (torch.zeros(1, 3, *size),), input_names=["input"], output_names=outputs, opset_version=OPSET, dynamo=True,
            dynamic_shapes=dims, verbose=False,
        )  # fmt: skip
        assert program is not None
        program.save(str(part))
    part.replace(target)


def _save(model: Any, target: Path) -> None:
    """Write an IR; its ``.xml`` comes last, so that half of one is never taken for whole."""
    ov = require("openvino", extra="openvino", why="This benchmark")
    part = target.parent / "part" / target.name
    part.parent.mkdir(exist_ok=True)
    ov.save_model(model, str(part), compress_to_fp16=False)
    for suffix in (".bin", ".xml"):
        shutil.move(part.with_suffix(suffix), target.with_suffix(suffix))
