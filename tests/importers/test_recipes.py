"""The recipes of docs/importing.md, executed as a user would type them; and what the commands say when something is missing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.typed import plain
from tests.importers import _reference as reference
from tests.importers.test_anomalib import _patchcore_checkpoint
from tests.importers.test_graph import write_graph, write_ir
from tests.importers.test_originals import autoencoder, patchcore_folder, pdn_small

DOCS = Path(__file__).resolve().parents[2] / "docs/importing.md"
RECIPES = re.findall(r"<!-- run: (\S+) -->\n```sh\nedgead (.*?)\n```", DOCS.read_text("utf-8"), re.DOTALL)


def _good(folder: Path, count: int = 6, size: int = 64) -> None:
    folder.mkdir()
    for i, image in enumerate(reference.pictures(count, size)):
        cv2.imwrite(str(folder / f"{i}.png"), image)


def _lay_out(kind: str, folder: Path) -> None:
    """The files that a recipe names, in `folder`."""
    torch.save(reference.resnet18_state(), folder / "resnet18.pth")
    if kind == "anomalib":
        nested = folder / "results/Patchcore/part/latest/weights/lightning"
        nested.mkdir(parents=True)
        for target in (nested / "model.ckpt", folder / "model.ckpt"):
            _patchcore_checkpoint(target)
    elif kind in ("anomalib-onnx", "anomalib-ir"):
        write_graph(folder / "model.onnx", ("anomaly_map", "pred_score"), (1, 3, "h", "w"))
        if kind == "anomalib-ir":
            write_ir(folder / "model.onnx")
    elif kind == "onnx":
        write_graph(folder / "model.onnx")
    elif kind == "patchcore":
        (folder / "models").mkdir()
        patchcore_folder(folder / "models/mvtec_screw")
    elif kind == "simplenet":
        g = torch.Generator().manual_seed(0)
        head = {
            "body.block1.0.weight": torch.randn(16, 32, generator=g), "body.block1.0.bias": torch.zeros(16),
            "body.block1.1.weight": torch.ones(16), "body.block1.1.bias": torch.zeros(16),
            "body.block1.1.running_mean": torch.zeros(16), "body.block1.1.running_var": torch.ones(16),
            "tail.weight": torch.randn(1, 16, generator=g),
        }  # fmt: skip
        adaptor = {"layers.0fc.weight": torch.randn(32, 32, generator=g), "layers.0fc.bias": torch.zeros(32)}
        torch.save({"discriminator": head, "pre_projection": adaptor}, folder / "ckpt.pth")
    else:
        nested = folder / "output/1/trainings/mvtec_ad/screw"
        nested.mkdir(parents=True)
        for name, module in (("teacher", pdn_small(384)), ("student", pdn_small(768)), ("autoencoder", autoencoder())):
            torch.save(module, nested / f"{name}_final.pth")
    _good(folder / "good", count=4 if kind == "efficientad" else 24)


def _run(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(shlex.split(line))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(("kind", "line"), RECIPES, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(RECIPES)])
def test_the_recipe_works(
    kind: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _lay_out(kind, tmp_path)
    monkeypatch.chdir(tmp_path)
    extra = ""
    if line.startswith("export"):
        extra = " --threads 1" + (" --backend onnxruntime" if kind != "anomalib-ir" else "")
        extra += "" if "--precision fp32" in line else " --max-flips 1"
    code, out, err = _run(line + extra, capsys)
    assert code == 0, err
    assert "found" in out
    target = Path(shlex.split(line)[shlex.split(line).index("-o") + 1])
    if line.startswith("export"):
        origin: dict[str, Any] = plain(Bundle.open(target).manifest.origin)
    else:
        origin = json.loads((target / "model.json").read_text("utf-8"))["origin"]
    assert origin["tool"] == "edgead import"
    assert origin["source"]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in origin["files"].values())
    assert origin["files"]


def test_every_source_has_a_recipe() -> None:
    assert {kind for kind, _ in RECIPES} == {
        "anomalib",
        "anomalib-onnx",
        "anomalib-ir",
        "onnx",
        "patchcore",
        "simplenet",
        "efficientad",
    }


def test_an_imported_model_exports_and_verifies_like_a_trained_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _patchcore_checkpoint(tmp_path / "model.ckpt")
    _good(tmp_path / "good", 8, 96)
    assert main(shlex.split("import model.ckpt -o part --images good --threshold 2.5 --name screw")) == 0
    assert main(shlex.split("export part -o part.edgead --precision fp32 --threads 1 --backend onnxruntime")) == 0
    assert main(shlex.split("verify part.edgead")) == 0
    manifest = Bundle.open(tmp_path / "part.edgead").manifest
    assert (manifest.name, manifest.engines[0].threshold.value) == ("screw", 2.5)
    assert manifest.origin.assumptions
    code, out, _ = _run("inspect part.edgead", capsys)
    assert code == 0
    assert "anomalib" in out


def test_what_rounding_after_the_resize_changes_is_measured_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _patchcore_checkpoint(tmp_path / "model.ckpt")
    _good(tmp_path / "good", 8, 96)
    _, rounded, _ = _run("import model.ckpt -o part --images good --threshold 2.5", capsys)
    told = re.search(r"rounded to 8 bits.* of 2 held out good pictures by up to (\S+) .*--exact-resize 96x96", rounded)
    assert told is not None and 0 < float(told[1]) < 0.1
    _, exact, _ = _run("import model.ckpt -o exact --images good --threshold 2.5 --exact-resize 96x96", capsys)
    assert "rounded to 8 bits" not in exact


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import absent.ckpt -o out", "absent.ckpt"),
        ("import model.ckpt -o out", "--images"),
        ("import modules -o out", "--images"),
        ("import model.ckpt -o out --images absent", "--images absent does not exist"),
        ("import model.ckpt -o out --size big", "not a size"),
        ("import model.ckpt -o good --threshold 1", "not a trained model"),
        ("import model.onnx -o out --mean 1,2 --map heat", "--mean"),
        ("import model.onnx -o out --map heat --exact-resize 64x64", "--exact-resize"),
        ("export good", "no model"),
    ],
)
def test_what_is_missing_is_one_line_and_leaves_nothing(
    line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = _patchcore_checkpoint(tmp_path / "model.ckpt")
    content["state_dict"]["post_processor._image_threshold"] = torch.tensor(np.nan)
    torch.save(content, tmp_path / "model.ckpt")
    write_graph(tmp_path / "model.onnx")
    _good(tmp_path / "good", 2)
    (tmp_path / "modules").mkdir()
    for name, module in (("teacher", pdn_small(384)), ("student", pdn_small(768)), ("autoencoder", autoencoder())):
        torch.save(module, tmp_path / f"modules/{name}_final.pth")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, _, err = _run(line, capsys)
    assert code == 2
    assert says in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before
