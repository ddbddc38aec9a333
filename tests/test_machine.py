"""The facts stored beside every measurement."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from edgead import machine


def test_facts_are_complete_and_go_into_json() -> None:
    facts = json.loads(json.dumps(machine.facts()))
    assert {"cpu", "cores", "cpu_flags", "int8_dot", "memory_mb", "os", "python", "packages", "governor", "jetson"} <= set(facts)
    assert facts["cores"] >= 1
    assert "numpy" in facts["packages"]
    assert set(facts["cpu_flags"]) <= set(machine.FLAGS)


def test_any_dot_product_instruction_makes_int8_exact() -> None:
    assert machine.has_int8_dot(["avx2", "avx_vnni"])
    assert machine.has_int8_dot(["asimddp"])
    assert not machine.has_int8_dot(["avx2", "avx512f"])


def test_a_package_that_is_not_installed_is_left_out() -> None:
    assert machine.packages(["no-such-package-of-anybody"]) == {}


def test_memory_of_this_process_is_seen() -> None:
    resident = machine.resident_mb()
    assert math.isnan(resident) or 5 < resident <= machine.peak_mb() + 1


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"cpu.max": "400000 100000", "a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 0.5),
        ({"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "200000", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000"},
         "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x", 2.0),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/", None),
        ({"cpu.max": "garbage"}, "0::/", None),
        ({}, "", None),
    ],
)  # fmt: skip
def test_the_cpu_quota_of_a_container_is_seen(files: dict[str, str], own: str, cores: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    assert machine.quota_cores(tmp_path / "fs", tmp_path / "own") == cores


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (0.5, 1), (1.5, 1), (2.0, 2), (64.0, 4)])
def test_a_quota_counts_as_whole_cores(quota: float | None, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "quota_cores", lambda: quota)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    assert machine.usable_cores() == cores
