"""A folder for a line box without internet: made by wheelhouse.sh, installed by install.sh.

The wheels here are stand-ins, pip is real. `.ci/run` does the same with the wheel of edgead and its real dependencies.
"""

from __future__ import annotations

import ensurepip
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgead
from edgead.jobs.deploy_files import write_files

SCRIPTS = Path(edgead.__file__).parent / "deploy/offline"
MADE_OF = {
    "edgead": """
import sys, needed
def main():
    print("asked", sys.argv[1])
    raise SystemExit(needed.CODE if sys.argv[1] == "doctor" else 0)
""",
    "needed": "CODE = 0\n",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a line box runs Linux")


def wheel(folder: Path, name: str, code: str, *more: str) -> Path:
    """A wheel of one module; `edgead` is a command, and brings `needed`."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *more]) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        for inner, text in files.items():
            made.writestr(inner, text)
        made.writestr(f"{info}/RECORD", "".join(f"{inner},,\n" for inner in [*files, f"{info}/RECORD"]))
    return path


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `edgead deploy-files` writes, and beside it the only packages that pip sees."""
    folder = tmp_path_factory.mktemp("lab")
    write_files(folder / "plant", ("offline", "systemd"))
    index = folder / "index"
    index.mkdir()
    needs = ("Provides-Extra: station", "Requires-Dist: needed; extra == 'station'")
    for name, code in MADE_OF.items():
        wheel(index, name, code, *(needs if name == "edgead" else ()))
    shutil.copy(next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")), index)
    return folder


def run(script: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "EDGEAD_PYTHON": sys.executable, **environment}
    return subprocess.run(["sh", str(script), *map(str, arguments)], capture_output=True, text=True, env=env)


def made(scripts: Path, target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(scripts / "index"), "PIP_CONFIG_FILE": os.devnull}
    return run(scripts / "plant/offline/wheelhouse.sh", target, "edgead[station]", **index | environment)


@pytest.fixture(scope="module")
def house(scripts: Path) -> Path:
    target = scripts / "box"
    done = made(scripts, target)
    assert done.returncode == 0, done.stderr
    return target


def test_a_box_gets_all_of_it_checked_and_without_an_index_and_keeps_what_was_there(house: Path, tmp_path: Path) -> None:
    target = tmp_path / "edgead"
    target.mkdir()
    (target / "old").touch()
    (target / "pyvenv.cfg").touch()
    done = run(house / "install.sh", "--no-service", target)
    assert done.returncode == 0, done.stderr
    assert "asked doctor" in done.stdout and f"edgead is in {target}" in done.stdout
    assert (tmp_path / "edgead.before/old").exists() and not (target / "old").exists()
    assert not list(target.rglob("pip"))
    lines = (house / "requirements.txt").read_text().splitlines()
    assert [line.split(" --hash=sha256:")[0] for line in lines] == ["edgead[station]==1.0", "needed==1.0"]
    assert (house / "systemd/edgead.service").is_file()


@pytest.mark.parametrize("whose", ["edgead", "edgead.before"])
def test_a_folder_that_is_no_installation_is_neither_moved_nor_removed(house: Path, tmp_path: Path, whose: str) -> None:
    (tmp_path / whose).mkdir()
    (tmp_path / whose / "thesis.txt").touch()
    done = run(house / "install.sh", "--no-service", tmp_path / "edgead")
    assert done.returncode == 2 and f"{tmp_path / whose} is something else" in done.stderr
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == [whose, f"{whose}/thesis.txt"]


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ("wheels/needed-1.0-py3-none-any.whl", "is not what was made"),
        ("requirements.txt", "is not what was made"),
        ("systemd/edgead.service", "is not what was made"),
        ("made-for", "is not what was made"),
    ],
)
def test_a_changed_file_is_refused_before_anything_is_touched(house: Path, tmp_path: Path, spoilt: str, says: str) -> None:
    box = Path(shutil.copytree(house, tmp_path / "box"))
    with (box / spoilt).open("ab") as file:
        file.write(b" ")
    done = run(box / "install.sh", "--no-service", tmp_path / "edgead")
    assert (done.returncode, says in done.stderr) == (2, True)
    assert not (tmp_path / "edgead").exists()


def test_pip_itself_takes_nothing_that_the_list_does_not_name(house: Path, tmp_path: Path) -> None:
    """Whoever changes a wheel may change SHA256SUMS as well; then what the list of requirements says still holds."""
    box = Path(shutil.copytree(house, tmp_path / "box"))
    wheel(box / "wheels", "needed", "CODE = 0  # another\n")
    _sums(box)
    done = run(box / "install.sh", "--no-service", tmp_path / "edgead")
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr.upper()


def test_what_does_not_work_there_leaves_what_was_there(house: Path, scripts: Path, tmp_path: Path) -> None:
    index = tmp_path / "lab/index"
    shutil.copytree(scripts / "plant", tmp_path / "lab/plant")
    shutil.copytree(scripts / "index", index)
    wheel(index, "needed", "CODE = 5\n")
    assert made(tmp_path / "lab", tmp_path / "box").returncode == 0
    target = tmp_path / "edgead"
    target.mkdir()
    (target / "old").touch()
    (target / "pyvenv.cfg").touch()
    done = run(tmp_path / "box/install.sh", "--no-service", target)
    assert done.returncode == 2 and f"nothing has changed: {target}" in done.stderr
    assert (target / "old").exists() and not (target / "bin").exists() and not (tmp_path / "edgead.before").exists()


def test_another_python_machine_or_an_older_system_is_refused_in_a_line(house: Path, tmp_path: Path) -> None:
    for made_for, says in (
        ("3.9 x86_64 2.17", "this is for Python 3.9, and"),
        ("{} riscv128 2.17", "this is for riscv128, and the box is"),
        ("{} {} 9.99", "this is for glibc 9.99 or newer, and the box has"),
    ):
        box = Path(shutil.copytree(house, tmp_path / says.split(",")[0]))
        python, machine = f"{sys.version_info[0]}.{sys.version_info[1]}", os.uname().machine
        (box / "made-for").write_text(made_for.format(python, machine) + "\n")
        _sums(box)
        done = run(box / "install.sh", "--no-service", tmp_path / "edgead")
        assert done.returncode == 2 and done.stderr.startswith(f"install.sh: {says}"), done.stderr
    assert not (tmp_path / "edgead").exists()


def test_what_does_not_apply_is_refused(house: Path, scripts: Path, tmp_path: Path) -> None:
    assert "the service runs /opt/edgead, not" in run(house / "install.sh", tmp_path / "edgead").stderr
    assert "there is no option --force" in run(house / "install.sh", "--force").stderr
    assert "is there already" in made(scripts, house).stderr
    assert "EDGEAD_GLIBC is 'new'" in made(scripts, tmp_path / "box", EDGEAD_GLIBC="new").stderr
    none = made(scripts, tmp_path / "box", PIP_FIND_LINKS=str(tmp_path))
    assert none.returncode == 2 and "not all packages are there as wheels" in none.stderr
    assert list(tmp_path.iterdir()) == []


def _sums(box: Path) -> None:
    (box / "SHA256SUMS").unlink()
    command = "find . -type f | xargs sha256sum > ../sums && mv ../sums SHA256SUMS"
    subprocess.run(["sh", "-c", command], cwd=box, check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", *map(str, SCRIPTS.glob("*.sh"))], capture_output=True, text=True, check=False)
    assert done.stdout == ""
