"""`edgead init` as people use it: on a terminal, without one, and stopped in the middle."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from edgead.cli.main import main
from tests.cli.test_run import write_bundle
from tests.terminal import Terminal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "part.edgead")
    return tmp_path


def test_six_questions_on_a_terminal(folder: Path) -> None:
    terminal = Terminal(folder, "init")
    for question, answers in {
        "What is this station called?": ("not a name\n", "line-7\n"),
        "Where do pictures come from?": ("sim:fps=5\n",),
        "Which bundle judges them?": ("a\n",),
        "Which PLC is told?": ("modbus-server:127.0.0.1:5020\n",),
        "What says that a part is there?": ("\n",),
        "Within how many milliseconds": ("250\n",),
    }.items():
        terminal.wait_for(question)
        for answer in answers:
            terminal.say(answer)
    code, told = terminal.end()
    assert code == 0, told
    assert "that cannot be: 'not a name' cannot be a name" in told
    assert "a: part.edgead  (a bundle)" in told
    assert "station.yaml is written and right" in told
    assert main(["station", "check", str(folder / "station.yaml")]) == 0
    text = (folder / "station.yaml").read_text("utf-8")
    assert "name: line-7" in text and "trigger: {source: plc}" in text and "budget_ms: 250" in text


@pytest.mark.parametrize("how", ["control-c", "control-d"])
def test_whoever_stops_in_the_middle_leaves_nothing(folder: Path, how: str) -> None:
    terminal = Terminal(folder, "init")
    terminal.wait_for("What is this station called?")
    if how == "control-c":
        terminal.process.send_signal(signal.SIGINT)
    else:
        terminal.say("\x04")
    code, told = terminal.end()
    assert code == (130 if how == "control-c" else 2), told
    assert "Traceback" not in told
    assert [path.name for path in folder.iterdir()] == ["part.edgead"]


def test_without_a_terminal_the_options_say_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", Path(os.devnull).open())  # noqa: SIM115
    assert main(["init"]) == 2
    assert "--name, --camera, --bundle, --plc, --trigger are missing" in capsys.readouterr().err
    assert main(["init", "--yes", "--camera", "99", "--budget-ms", "0"]) == 2
    assert "--budget-ms: not with --trigger free" in capsys.readouterr().err
    assert main(["init", "--yes", "--camera", "99", "--json", "-o", "box.yaml"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["answers"]["camera"], found["answers"]["bundle"]) == ("edgead.init/1", "99", "part.edgead")
    assert main(["init", "--yes", "--camera", "99", "-o", "box.yaml"]) == 2
    assert "box.yaml is there already" in capsys.readouterr().err
    sys.stdin.close()
