"""Threads that wait for others sleep: torch's OpenMP is told so before it is loaded, unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOADED = "import edgead.families.patchcore.fit"


@pytest.mark.parametrize(("given", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_the_openmp_that_torch_loads_waits_as_told(given: dict[str, str], policy: str) -> None:
    """libgomp says itself what it has read."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    environment = {**clean, "OMP_DISPLAY_ENV": "true", **given}
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, env=environment, check=True)
    told = [line for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    assert told
    assert all(f"'{policy}'" in line for line in told)
