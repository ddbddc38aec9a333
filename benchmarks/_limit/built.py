"""What `benchmarks.limit` runs, built once and kept: bundles of edgead, and the graph whose operations count."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks._limit.plain import PlainEfficientAd
from edgead.bundle import Bundle
from edgead.calibration.judging.deviation import Limits
from edgead.export import ExportOptions, export_bundle
from edgead.export.graph import OPSET, write_onnx
from edgead.families.efficientad.network import EfficientAd
from edgead.models.detector import Detector
from edgead.models.rewrites import Setting
from edgead.trained import load_model

EXPORT_FRAMES = 20


@dataclass(frozen=True, slots=True)
class Built:
    """One trained model and where its graphs lie (below `folder`, made when they are first asked for)."""

    family: str
    model_dir: Path
    folder: Path
    detector: Detector

    @classmethod
    def of(cls, family: str, model_dir: Path, cache: Path) -> Built:
        detector, _ = load_model(model_dir)
        digest = hashlib.sha256((model_dir / "model.safetensors").read_bytes()).hexdigest()[:12]
        folder = cache / f"{family}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        return cls(family, model_dir, folder, detector)

    def bundle(self, rewrites: Mapping[str, Setting]) -> Bundle:
        """What `edgead export` makes with these lossy rewrites beside the exact ones. Limits are wide open: only the
        engines' speed is looked at."""
        target = self.folder / f"{key(rewrites)}.edgead"
        if not target.is_dir():
            limits = Limits(1.0, 1.0, 1e6)
            options = ExportOptions(
                backends=("openvino",), frames_per_class=EXPORT_FRAMES, limits=limits, rewrites=dict(rewrites)
            )
            export_bundle(self.model_dir, target, options)
        return Bundle.open(target)

    def original(self) -> Path:
        """The graph whose operations count as the work to be done: the trained model without rewrites, EfficientAD's networks
        separate as in the paper."""
        target = self.folder / "original.onnx"
        if not target.is_file():
            if isinstance(self.detector, EfficientAd):
                _write_separate(self.detector, target)
            else:
                write_onnx(self.detector, target)
        return target


def key(rewrites: Mapping[str, Setting]) -> str:
    """A file name for settings of rewrites."""
    return "+".join(f"{name}={value}" for name, value in rewrites.items()).replace("/", "_") or "default"


def _write_separate(detector: EfficientAd, target: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    part = target.with_suffix(".part")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        program = torch.onnx.export(
            PlainEfficientAd(detector).eval(), (torch.zeros(1, 3, *detector.image_size),), input_names=["input"],
            output_names=["score", "map"], opset_version=OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
        assert program is not None
        program.save(str(part))
    part.replace(target)
