"""Foreign graphs, wrapped to the graph contract, as detectors: ONNX answers through ONNX Runtime, IR through OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from edgead.models.detector import Detector
from edgead.optional import require


class GraphDetector(Detector):
    """The bytes of an ONNX file that follows the graph contract (docs/architecture.md).

    Config keys: ``bytes``: the file's length; ``normalised``: the score is not in raw model units but clamped by its tool.
    """

    family: ClassVar[str] = "graph"
    exports: ClassVar[Literal["torch", "onnx", "openvino"]] = "onnx"
    onnx: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__(config, image_size)
        self.register_buffer("onnx", torch.zeros(int(config["bytes"]), dtype=torch.uint8))
        self._session: Any = None

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> GraphDetector:
        return cls(config, image_size)

    @classmethod
    def from_bytes(cls, data: bytes, image_size: tuple[int, int], normalised: bool) -> GraphDetector:
        """The detector of an ONNX file's content."""
        detector = cls({"bytes": len(data), "normalised": normalised}, image_size)
        detector.onnx.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        return detector.eval()

    def serialized(self) -> bytes:
        return self.onnx.numpy().tobytes()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if self._session is None:
            runtime = require("onnxruntime", extra="onnxruntime", why="Running an imported ONNX graph")
            self._session = runtime.InferenceSession(self.serialized(), providers=["CPUExecutionProvider"])
        answers = [self._session.run(["anomaly_map", "score"], {"image": one[None].numpy()}) for one in image]
        maps, scores = (np.concatenate([answer[i] for answer in answers]) for i in (0, 1))
        return torch.from_numpy(maps), torch.from_numpy(scores)


class IrDetector(Detector):
    """An OpenVINO IR that follows the graph contract; it cannot be written as ONNX, so it runs in OpenVINO only.

    Config keys: ``xml``, ``bin``: the lengths of its two files; ``normalised`` as in :class:`GraphDetector`.
    """

    family: ClassVar[str] = "openvino_ir"
    exports: ClassVar[Literal["torch", "onnx", "openvino"]] = "openvino"
    xml: Tensor
    bin: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__(config, image_size)
        for name in ("xml", "bin"):
            self.register_buffer(name, torch.zeros(int(config[name]), dtype=torch.uint8))
        self._request: Any = None

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> IrDetector:
        return cls(config, image_size)

    @classmethod
    def from_files(cls, xml: Path, image_size: tuple[int, int], normalised: bool) -> IrDetector:
        """The detector of an IR: `xml` and the ``.bin`` beside it."""
        contents = {"xml": xml.read_bytes(), "bin": xml.with_suffix(".bin").read_bytes()}
        detector = cls({**{name: len(data) for name, data in contents.items()}, "normalised": normalised}, image_size)
        for name, data in contents.items():
            if data:
                getattr(detector, name).copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        return detector.eval()

    def write_ir(self, xml: Path) -> None:
        xml.write_bytes(self.xml.numpy().tobytes())
        xml.with_suffix(".bin").write_bytes(self.bin.numpy().tobytes())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if self._request is None:
            ov = require("openvino", extra="openvino", why="Running an imported OpenVINO IR")
            core = ov.Core()
            model = core.read_model(self.xml.numpy().tobytes(), self.bin.numpy().tobytes())
            precise = {"INFERENCE_PRECISION_HINT": "f32"}
            self._request = core.compile_model(model, "CPU", precise).create_infer_request()
        answers = []
        for one in image:
            self._request.infer([one[None].numpy()])
            answers.append([self._request.get_tensor(name).data.copy() for name in ("anomaly_map", "score")])
        maps, scores = (np.concatenate([answer[i] for answer in answers]) for i in (0, 1))
        return torch.from_numpy(maps), torch.from_numpy(scores)
