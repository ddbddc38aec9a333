"""Threads that wait for others sleep, or are not there: torch's OpenMP and numpy's OpenBLAS are told so before they are loaded,
unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgead.machine import usable_cores

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


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux shows them")
@pytest.mark.parametrize("given", [{}, {"OPENBLAS_NUM_THREADS": "2"}])
def test_numpy_multiplies_on_one_thread_unless_the_user_says_otherwise(given: dict[str, str]) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    threads = "print(len(os.listdir('/proc/self/task')))"
    counted = f"import os, edgead.preprocess, numpy as n; n.ones((600, 600)) @ n.ones((600, 600)); {threads}"
    done = subprocess.run([sys.executable, "-c", counted], capture_output=True, text=True, env={**clean, **given}, check=True)
    several = bool(given) and usable_cores() > 1
    assert (int(done.stdout) > 1) is several
