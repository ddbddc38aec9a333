"""What a verb tells while it works: on a terminal at once, in a log now and then."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from edgead.cli._console import STARTING, Told, progress
from edgead.cli.main import VERBS, root
from edgead.testing import FakeClock

CLI = Path(__file__).resolve().parents[2] / "edgead/cli"
QUICK = {
    "bundle", "dashboard", "deploy-files", "docs", "init", "inspect", "plc-map", "run", "serve", "serve-files", "sign", "station",
    "users",
}  # fmt: skip
"""Done in less than two seconds, asks, or goes on until it is stopped and tells what happens."""


def test_every_other_verb_tells_where_it_stands() -> None:
    """A new verb is one of QUICK, or uses a bar."""
    for verb in VERBS.keys() - QUICK:
        command = root().get_command(click.Context(root()), verb)
        assert command is not None
        text = (CLI / f"{verb.replace('-', '_').replace('import', 'import_')}.py").read_text("utf-8")
        assert re.search(r"with (told_)?progress\(|with read_through|class _Line", text), verb


def test_a_log_hears_once_a_minute_how_far_it_is_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    told = Told(None, clock)
    for step in range(601):
        told("training", step / 600)
        clock.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"training: {20 * n}%, about 0:0{5 - n}:00 left" for n in range(1, 5)] + ["training: 100%"]


def test_a_quick_job_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(None, FakeClock())
    for step in range(100):
        told("asking the engines", step / 99)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_something_moves_before_the_first_stage_and_gives_way_to_it() -> None:
    bars = progress()
    told = Told(bars, FakeClock())
    assert [task.description for task in bars.tasks] == [STARTING]
    told("reading", 0.5)
    told("features", 0.0)
    assert [(task.description, task.completed) for task in bars.tasks] == [("reading", 0.5), ("features", 0.0)]
