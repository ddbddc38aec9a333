"""`.ci/licences.py`: no extra that users install brings what they must not be handed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci/licences.py"
MIT = ("License-Expression: MIT",)


def installed(folder: Path, name: str, *lines: str) -> None:
    """What pip leaves of a package: its metadata."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines]) + "\n", "utf-8")


def looked_at(folder: Path) -> tuple[int, str]:
    """Exit code and what the script says of packages that are installed there."""
    env = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("licence", "fault"),
    [
        ("License-Expression: AGPL-3.0-only", "hazardous"),
        ("License-Expression: GPL-2.0-or-later OR LicenseRef-Proprietary", "hazardous"),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)", "hazardous"),
        ("License-Expression: CC-BY-NC-SA-4.0 AND Apache-2.0", "hazardous"),
        ("License: ask us", "nobody has looked at it"),
        ("Summary: says nothing", "nobody has looked at it"),
        ("License-Expression: EPL-2.0 OR BSD-3-Clause", ""),
        ("License-Expression: GPL-3.0-or-later WITH GCC-exception-3.1 AND BSD-3-Clause", ""),
        ("Classifier: License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", ""),
    ],
)
def test_what_a_package_says_decides_also_two_steps_away(tmp_path: Path, licence: str, fault: str) -> None:
    installed(tmp_path, "edgead", *MIT, "Provides-Extra: station", "Requires-Dist: near; extra == 'station'")
    installed(tmp_path, "near", *MIT, "Requires-Dist: far")
    installed(tmp_path, "far", licence)
    code, text = looked_at(tmp_path)
    assert code == (1 if fault else 0), text
    assert (f": {fault}; brought by station" in text) is bool(fault)


def test_extras_for_our_own_work_are_listed_and_not_refused(tmp_path: Path) -> None:
    needs = ("Requires-Dist: gpl; extra == 'test'", "Requires-Dist: absent; extra == 'serve'")
    installed(tmp_path, "edgead", *MIT, "Provides-Extra: serve", "Provides-Extra: test", *needs)
    installed(tmp_path, "gpl", "License-Expression: GPL-3.0-only")
    code, text = looked_at(tmp_path)
    assert code == 0 and "| gpl | 1.0 | GPL-3.0-only | test |" in text
    assert "Not installed here, not looked at: absent (serve: looked at by" in text


def test_an_extra_that_is_installed_nowhere_is_a_fault(tmp_path: Path) -> None:
    installed(tmp_path, "edgead", "Provides-Extra: tensorrt", "Provides-Extra: s7", "Requires-Dist: nowhere; extra == 's7'")
    code, told = looked_at(tmp_path)
    assert code == 1 and "not looked at: s7" in told
