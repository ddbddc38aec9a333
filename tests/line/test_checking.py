"""`edgead station check` on a file whose paths are mistyped: what is wrong, and what may have been meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgead.cli.main import main
from tests.bundles import Tiny

STATION = "name: line\ncameras:\n  - {{name: top, address: '{address}', bundle: {bundle}, trigger: {{source: free}}}}\n"


@pytest.fixture
def box(tiny: Tiny, tmp_path: Path) -> Path:
    shutil.copytree(tiny.bundle(), tmp_path / "part.edgead")
    return tmp_path


def checked(
    box: Path, code: int, capsys: pytest.CaptureFixture[str], *, address: str = "sim", bundle: str = "part.edgead"
) -> str:
    (box / "station.yaml").write_text(STATION.format(address=address, bundle=bundle), "utf-8")
    assert main(["station", "check", str(box / "station.yaml")]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_a_camera_that_is_none_is_told_before_the_line_starts(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning: the file may be for another box, on which that folder is."""
    assert "warning" not in checked(box, 0, capsys)
    assert "warning" not in checked(box, 0, capsys, address="usb:0")  # whether it is plugged in is no matter of the file
    assert "warning: camera top: 'cam0' is not a camera, a file or a folder" in checked(box, 0, capsys, address="cam0")
    assert "warning: camera top: pictures/of does not exist" in checked(box, 0, capsys, address="pictures/of")


def test_a_bundle_that_is_not_there_is_told_with_those_that_are(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = checked(box, 3, capsys, bundle="prat.edgead")
    assert "prat.edgead is not a bundle: it does not exist" in told and "there is part.edgead beside it" in told
    shutil.rmtree(box / "part.edgead")
    assert "beside it" not in checked(box, 3, capsys, bundle="prat.edgead")
