"""Lab verbs on a line box: without torch each says in one line what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgead.cli.main import main
from tests.training._parts import write_good

VERBS = {
    "train": (["patchcore", "pictures", "-o", "model"], "train"),
    "pretrain": (["pictures", "-o", "taught.safetensors"], "train"),
    "distill": (["pictures", "-o", "teacher.safetensors"], "train"),
    "import": (["model.ckpt", "-o", "model"], "train"),
    "export": (["model"], "export"),
    "demo": ([], "export"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_without_torch_a_lab_verb_names_the_extra(verb: str, tmp_path: Path) -> None:
    arguments, extra = VERBS[verb]
    write_good(tmp_path / "pictures", 4)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.json").write_text("{}")
    (tmp_path / "model.ckpt").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    code = f"import sys; sys.modules['torch'] = None; from edgead.cli.main import main; sys.exit(main({[verb, *arguments]!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "needs the package 'torch'" in done.stderr
    assert f"pip install 'edgead[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


LATE = {
    "train": ["patchcore", "nowhere", "-o", "out"],
    "train, weights": ["patchcore", "pictures", "-o", "out", "--weights", "nowhere.pth"],
    "train, teacher": ["efficientad", "pictures", "-o", "out", "--teacher", "nowhere.safetensors"],
    "train, size": ["patchcore", "pictures", "-o", "out", "--size", "big"],
    "train, bits": ["patchcore", "pictures", "-o", "out", "--bits", "99"],
    "train, taken": ["patchcore", "pictures", "-o", "pictures"],
    "train, inside": ["patchcore", "pictures", "-o", "pictures/out"],
    "import": ["nowhere.ckpt", "-o", "out"],
    "import, images": ["model.ckpt", "-o", "out", "--images", "nowhere"],
    "import, taken": ["model.ckpt", "-o", "pictures"],
    "export": ["nowhere"],
    "export, calibration": ["model", "--calibration", "nowhere"],
    "export, taken": ["model", "-o", "pictures"],
    "pretrain": ["nowhere", "-o", "taught.safetensors"],
    "distill": ["nowhere", "-o", "teacher.safetensors"],
}


@pytest.mark.parametrize("case", LATE)
def test_wrong_paths_are_told_before_torch_is_imported(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_good(tmp_path / "pictures", 4)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.json").write_text("{}")
    (tmp_path / "model.ckpt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)  # its import would be exit code 5
    assert main([case.partition(",")[0], *LATE[case]]) == 2
    assert "nowhere" in (told := capsys.readouterr().err) or "pictures" in told or "big" in told or "99" in told


@pytest.mark.parametrize("verb", ["train", "export"])
def test_an_output_below_a_file_is_told_at_once(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_good(tmp_path / "pictures", 4)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    given = [verb, "patchcore", "pictures"] if verb == "train" else [verb, "model"]
    assert main([*given, "-o", "model/model.json/out"]) == 7
    assert "model.json is a file" in capsys.readouterr().err
