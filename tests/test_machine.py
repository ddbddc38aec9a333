"""The facts stored beside every measurement."""

from __future__ import annotations

import json
import math

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
