"""The program that is run for parts that are not OK."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgead.errors import BadInput, OutputError
from edgead.runtime.outputs.command import CommandOutput
from edgead.types import Verdict
from tests.contracts.test_outputs import inspection

SCRIPT = """
import os, pathlib, sys
with pathlib.Path(sys.argv[1]).open("a") as file:
    file.write("|".join(os.environ["EDGEAD_" + name] for name in ("PART_ID", "VERDICT", "CAUSE", "SCORE", "SOURCE")) + "\\n")
"""


def test_it_runs_for_everything_that_is_not_ok_and_knows_the_part(tmp_path: Path) -> None:
    (tmp_path / "note.py").write_text(SCRIPT)
    seen = tmp_path / "seen; rm -rf x"  # a shell would stumble over it
    output = CommandOutput(f"{sys.executable} {tmp_path}/note.py '{seen}'")
    for part_id, verdict in enumerate((Verdict.OK, Verdict.NG, Verdict.UNKNOWN), start=1):
        output.signal(inspection(verdict, part_id))
    assert seen.read_text().splitlines() == ["2|NG||3.0|belt/7.png", "3|UNKNOWN|camera_lost||"]


def test_a_failing_program_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="exit code 3"):
        CommandOutput(f"{sys.executable} -c 'raise SystemExit(3)'").signal(inspection(Verdict.NG))


@pytest.mark.parametrize("command", ["", "no-such-program -x", "echo 'open"])
def test_a_command_that_cannot_run_is_refused_at_the_start(command: str) -> None:
    with pytest.raises(BadInput):
        CommandOutput(command)
