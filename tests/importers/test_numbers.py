"""Numbers that no trained network holds are refused as the file is read, by the entry's name, and not minutes later at export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import helper

from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.importers import import_model
from tests.importers.test_anomalib import _patchcore_checkpoint, supersimplenet_checkpoint
from tests.importers.test_foreign import body, graph

NORM = "model.feature_extractor.feature_extractor.layer2.0.bn1.running_var"


def spoilt(path: Path, name: str, value: float, make: Any = _patchcore_checkpoint) -> Path:
    """A checkpoint with this value in the first place of an entry."""
    make(path)
    content = torch.load(path, weights_only=True)
    content["state_dict"][name].view(-1)[0] = value
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (NORM, -0.5, r"1 of 128 variances in '.*layer2\.0\.bn1\.running_var' are below 0 \(down to -0\.5\)"),
        ("model.memory_bank", 1e20, r"1 of 40 rows of 'memory_bank' hold numbers beyond 1e\+12 \(up to 1e\+20\)"),
        ("model.memory_bank", float("inf"), r"1 of 40 rows of 'memory_bank' are not finite"),
    ],
)
def test_a_number_that_cannot_be_is_named_at_import(name: str, value: float, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=says):
        import_model(spoilt(tmp_path / "m.ckpt", name, value))


def test_a_variance_below_zero_in_a_head_is_named_too(tmp_path: Path) -> None:
    name = "model.segdec.seg_head.1.running_var"
    with pytest.raises(BadInput, match=r"variances in '.*seg_head\.1\.running_var' are below 0"):
        import_model(spoilt(tmp_path / "m.ckpt", name, -1.0, supersimplenet_checkpoint))


def test_a_graph_that_gives_every_picture_the_same_score_is_told_at_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [*body(score="s"), helper.make_node("Sub", ["s", "s"], ["score"])]
    path, model = graph(tmp_path / "m.onnx", nodes), tmp_path / "model"
    ports = ["--score", "score", "--map", "heat", "--threshold", "1"]
    assert main(["import", str(path), "-o", str(model), *ports]) == 0
    assert "the model gives all 8 generated pictures the same score, 0: it finds nothing" in capsys.readouterr().out
    assert main(["export", str(model), "-o", str(tmp_path / "b.edgead"), "--precision", "fp32"]) == 2
    assert "import another output (--score, --map)" in capsys.readouterr().err
