"""Writing ONNX takes most of the time of a search of a tiny model, and gives the same bytes each time."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from edgead.export.graph import write_onnx
from edgead.models.detector import Detector


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def written_once(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of a detector with the same modules and weights is copied."""

    def write(detector: Detector, target: Path) -> None:
        sha = hashlib.sha256(f"{detector} {detector.config} {detector.image_size}".encode())
        for tensor in detector.state_dict().values():
            sha.update(tensor.contiguous().numpy().tobytes())
        kept = graphs / f"{sha.hexdigest()}.onnx"
        if not kept.is_file():
            write_onnx(detector, kept)
        shutil.copy(kept, target)

    for module in ("edgead.export.search.bench", "edgead.export.workshop"):
        monkeypatch.setattr(f"{module}.write_onnx", write)
