"""What other packages bring to a station file: a PLC link like a built-in one, cameras and outputs that are looked at first.

The link's package is what docs/architecture.md shows ("a PLC link"): real entry points in a folder of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgead.cli.main import main
from edgead.config.reading import read_station, schema
from edgead.errors import BadInput
from edgead.line.service import Station
from edgead.runtime.plc.modbus import ModbusClientSettings
from edgead.testing.plc import FakePlc
from edgead.types import Verdict
from tests.cli.test_run import write_bundle
from tests.waiting import PATIENCE_S, until

RECIPE = Path(__file__).resolve().parents[2] / "docs/architecture.md"

THEIRS = """
from edgead.testing.plc import FakePlcLink

class Short:
    settings = dict
    def __init__(self, settings): pass

class Other:
    def __init__(self, address, clock, gain=1): pass

class Odd:
    def __init__(self): pass

def nothing(rest, clock):
    return None
"""


def toy_link() -> str:
    """The module of the recipe."""
    recipe = RECIPE.read_text("utf-8").partition("### A PLC link")[2]
    return textwrap.dedent(recipe.partition("```python\n")[2].partition("```")[0])


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an installed package: the toy's link, and broken things."""
    folder = tmp_path / "site"
    about = folder / "edgead_toy-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "edgead_toy.py").write_text(toy_link())
    (folder / "edgead_theirs.py").write_text(THEIRS)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: edgead-toy\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[edgead.links]\ntoy = edgead_toy:ToyLink\nshort = edgead_theirs:Short\ngone = not_installed:Link\n"
        "[edgead.cameras]\nodd = edgead_theirs:Odd\nnothing = edgead_theirs:nothing\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in ("edgead_toy", "edgead_theirs"):
        sys.modules.pop(name, None)


def station(folder: Path, plc: str, address: str = "sim:width=64,height=64,fps=50", more: str = "") -> Path:
    write_bundle(folder / "tiny.edgead")
    file = folder / "station.yaml"
    triggered = f"budget_ms: 60000, trigger: {{source: plc}}, plc: {plc}" if plc else "budget_ms: 60000"
    first = f"{{name: top, address: '{address}', bundle: tiny.edgead, {triggered}}}"
    file.write_text(f"name: line\ncameras:\n  - {first}\n{more}")
    return file


def test_a_link_of_another_package_carries_verdicts_from_a_station_file_to_the_plc(packages: Path, tmp_path: Path) -> None:
    with Station.from_file(station(tmp_path, "{type: toy, host: press-7, station: 3, cycle_ms: 2}")) as line:
        import edgead_toy  # type: ignore[import-not-found]

        plc: FakePlc = edgead_toy.PLCS["press-7", 3]
        plc.wanted = 3
        runner = threading.Thread(target=line.run, name="test-run")
        runner.start()
        until(lambda: len(plc.verdicts) == 3)
        line.stop()
        runner.join(PATIENCE_S)
        assert not runner.is_alive()
    assert [verdict.part_id for verdict in plc.verdicts] == [1, 2, 3]
    assert {verdict.by for verdict in plc.verdicts} == {"station"}
    assert all(verdict.verdict in (Verdict.OK, Verdict.NG) for verdict in plc.verdicts)


@pytest.mark.parametrize(
    ("plc", "says"),
    [
        ("{type: toy}", "line 3: cameras[0].plc.host: is missing"),
        ("{type: toy, host: h, sttion: 3}", "line 3: cameras[0].plc.sttion: unknown key"),
        ("{type: toy, host: h, station: 300}", "line 3: cameras[0].plc.station: input should be less than or equal to 247"),
        ("{type: toy, host: h, station: true}", "line 3: cameras[0].plc: station is true, which is no value for it"),
        ("{type: toy, host: ''}", "line 3: cameras[0].plc: the toy needs a host"),
        ("{type: short}", "link 'short' has no settings that a station file could hold"),
        ("{type: profinet}", "line 3: cameras[0].plc: type 'profinet' is not known"),
    ],
)
def test_its_settings_are_checked_like_those_of_a_built_in_link(
    packages: Path, tmp_path: Path, plc: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = station(tmp_path, plc)
    with pytest.raises(BadInput) as caught:
        read_station(file)
    assert says in str(caught.value)
    assert main(["station", "check", str(file)]) == 2
    assert "\n  -> " in capsys.readouterr().err
    if "profinet" in plc:
        assert "'s7'" in caught.value.hint and "'toy'" in caught.value.hint


def test_two_cameras_with_one_block_of_it_are_refused(packages: Path, tmp_path: Path) -> None:
    second = (
        "  - {name: side, address: sim, bundle: tiny.edgead, budget_ms: 100, trigger: {source: plc}, "
        "plc: {type: toy, host: h, station: %s}}\n"
    )
    with pytest.raises(BadInput, match=r"cameras\[1\]\.plc.*\(side\).*is taken by cameras\[0\]\.plc"):
        read_station(station(tmp_path, "{type: toy, host: h, station: 4, cycle_ms: 9}", more=second % 4))
    assert len(read_station(station(tmp_path, "{type: toy, host: h, station: 4}", more=second % 5)).cameras) == 2


def test_the_schema_has_it_and_a_broken_one_hinders_nobody(packages: Path, tmp_path: Path) -> None:
    known = json.dumps(schema())
    assert '"const": "toy"' in known and "Of the toy in its ring." in known
    assert '"const": "modbus-client"' in known and "not_installed" not in known
    plc = read_station(station(tmp_path, "{type: modbus-client, host: 10.0.0.9}")).cameras[0].plc
    assert plc == ModbusClientSettings(host="10.0.0.9")


def test_a_package_that_cannot_be_imported_is_named(packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["station", "check", str(station(tmp_path, "{type: gone}"))]) == 5
    assert "link 'gone' cannot be loaded from not_installed:Link: ModuleNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("odd:7", "camera 'odd' does not take what it is made of here: too many positional arguments"),
        ("nothing:7", "camera 'nothing' gave NoneType, which is no camera: it has no grab, close"),
    ],
)
def test_a_camera_whose_factory_is_another_ends_the_start_in_one_line(
    packages: Path, tmp_path: Path, address: str, says: str
) -> None:
    file = station(tmp_path, "", address)
    code = f"import sys; sys.path.insert(0, {str(packages)!r}); from edgead.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "run", str(file), "--max-parts", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"edgead run: {says}") and len(done.stderr.splitlines()) == 2, done.stderr
