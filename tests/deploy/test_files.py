"""The files for a plant come with the package: whoever has the wheel has them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import edgead
from edgead.cli.main import main
from edgead.deploy import KINDS

ROOT = Path(edgead.__file__).parent


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_all_files_are_written_as_they_are_and_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy-files", str(tmp_path / "new" / "plant")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert sorted(told) == sorted(str(file) for file in (tmp_path / "new/plant").rglob("*") if file.is_file())
    for kind in (one for one in KINDS if one != "station"):
        assert contents(tmp_path / "new/plant" / kind) == contents(ROOT / "deploy" / kind)
    assert (tmp_path / "new/plant/ansible/roles/edgead/tasks/main.yml").is_file()
    assert os.access(tmp_path / "new/plant/jetson/install.sh", os.X_OK)
    assert json.loads((tmp_path / "new/plant/station/station.schema.json").read_text())["$schema"]
    assert main(["deploy-files", str(tmp_path / "new/plant"), "--only", "plc", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["files"]) == len(list((ROOT / "deploy/plc").iterdir()))


def test_a_file_that_somebody_changed_stays_until_replace_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "systemd").mkdir()
    unit = tmp_path / "systemd/edgead.service"
    unit.write_text("mine")
    assert main(["deploy-files", str(tmp_path)]) == 2
    assert "edgead.service is there with another content (1 such) -> another DIR, or --replace" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (unit.read_text(), list(tmp_path.iterdir())) == ("mine", [tmp_path / "systemd"])
    assert main(["deploy-files", str(tmp_path), "--replace"]) == 0
    assert unit.read_bytes() == (ROOT / "deploy/systemd/edgead.service").read_bytes()
    assert main(["deploy-files", str(unit)]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_messages_cite_files_that_are_there() -> None:
    cited = {
        name for file in ROOT.rglob("*.py") for name in re.findall(r"([\w/.]+) of `edgead deploy-files`", file.read_text("utf-8"))
    }
    assert cited
    for name in cited:
        assert (ROOT / "deploy" / name).exists(), name
