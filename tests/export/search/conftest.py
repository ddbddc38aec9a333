"""Writing ONNX takes most of the time of a search of a tiny model, and gives the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export._once import writing_once


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def written_once(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of a detector with the same modules and weights is copied."""
    for module in ("edgead.export.search.bench", "edgead.export.workshop"):
        monkeypatch.setattr(f"{module}.write_onnx", writing_once(graphs))
