"""A part alone, exported and asked in the engines that every bundle is served by."""

from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch
from torch import Tensor, nn

from edgead.export.graph import OPSET, _quiet


def in_engines(module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> list[np.ndarray]:
    """What ONNX Runtime and OpenVINO tell, in single precision."""
    file = folder / "part.onnx"
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(module.eval(), inputs, opset_version=OPSET, dynamo=True, verbose=False, optimize=True)
    assert program is not None
    program.save(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    asked = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    compiled = openvino.compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    return [session.run(None, asked)[0], compiled(list(asked.values()))[0]]


class Rebuilt(nn.Module):
    """A network that rebuilds, as one module: pictures and what is visible of them -> rebuilt pictures."""

    def __init__(self, network: nn.Module, visible: Tensor | None = None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("visible", visible)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.visible
        inputs = x if seen is None else x.expand(len(seen), -1, -1, -1)
        return self.network.decode(*self.network.encode(inputs, seen))
