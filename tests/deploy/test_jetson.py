"""The Jetson scripts as far as a machine that is none can run them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

JETSON = Path(__file__).resolve().parents[2] / "edgead/deploy/jetson"
BINDINGS = {36: "cuda-python>=12.6,<13", 38: "cuda-python>=13,<14"}


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(JETSON / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **environment}, check=False)


@pytest.mark.parametrize("release", BINDINGS)
def test_the_cuda_bindings_fit_the_driver_of_each_jetpack(release: int, tmp_path: Path) -> None:
    (tmp_path / "release").write_text(f"# R{release} (release), REVISION: 4.0, GCID: 1, BOARD: generic\n")
    done = run("install.sh", "--dry-run", "/opt/x", "edgead.whl", EDGEAD_TEGRA_RELEASE=str(tmp_path / "release"))
    assert done.returncode == 0
    assert "+ /usr/bin/python3 -m venv --system-site-packages /opt/x" in done.stdout
    assert f"+ /opt/x/bin/pip install --upgrade edgead.whl {BINDINGS[release]}" in done.stdout
    assert "[tensorrt]" not in done.stdout  # TensorRT is JetPack's


def test_other_machines_and_releases_are_refused_in_a_line(tmp_path: Path) -> None:
    done = run("install.sh", EDGEAD_TEGRA_RELEASE=str(tmp_path / "none"))
    assert (done.returncode, done.stderr.splitlines()[0][:30]) == (5, "install.sh: this is no Jetson:")
    (tmp_path / "old").write_text("# R35 (release), REVISION: 2.0\n")
    done = run("install.sh", EDGEAD_TEGRA_RELEASE=str(tmp_path / "old"))
    assert done.returncode == 5
    assert "L4T R35 is not supported" in done.stderr


def test_power_modes_are_listed_taken_and_checked(tmp_path: Path) -> None:
    (tmp_path / "modes").write_text(
        "< PARAM TYPE=FILE NAME=X >\n< POWER_MODEL ID=0 NAME=MAXN >\nCPU 1\n< POWER_MODEL ID=1 NAME=15W >\n"
    )
    assert run("power.sh", "--list", EDGEAD_NVPMODEL_CONF=str(tmp_path / "modes")).stdout == "0 MAXN\n1 15W\n"
    done = run("power.sh", "--dry-run", "1")
    assert "nvpmodel -m 1" in done.stdout
    assert "+ jetson_clocks" in done.stdout
    assert run("power.sh", "fast").returncode == 2
    assert run("power.sh").returncode == 5


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", *map(str, JETSON.glob("*.sh"))], capture_output=True, text=True, check=False)
    assert done.stdout == ""
