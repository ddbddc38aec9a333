"""What other people named or sent reaches no terminal as a command, and no message is longer than a screen."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path

import pytest

from edgead.cli._console import console
from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.runtime.records.exports import write_csv
from edgead.runtime.records.history import SHOWN
from edgead.words import LONGEST, keep_secret, told

EVIL = "\x1b]0;owned\x07\x9b31m\u202egnp\r"


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    text = "".join(capsys.readouterr())
    assert all(character.isprintable() or character in "\n\t" for character in text), ascii(text)
    return text


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", f"x{EVIL}.edgead", "--camera", f"sim{EVIL}"],
        ["run", f"x{EVIL}.yaml"],
        ["station", "check", f"x{EVIL}.yaml"],
        ["records", f"x{EVIL}"],
        ["inspect", f"x{EVIL}"],
        ["plc-map", f"x{EVIL}/y\0"],
        ["nothing\x1b[31m"],
        ["records", ".", f"\x1b[31m{EVIL}"],
        ["records", ".", "--part", f"{EVIL}"],
    ],
)
def test_arguments_with_control_characters(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) != 0 and len(shown(capsys)) > 10


def test_a_station_file_and_its_folder_with_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / EVIL.replace("/", "")
    folder.mkdir()
    (folder / "s.yaml").write_text('name: "\\e[31m"\ncameras: []\n"\\e[32m": 1\n', "utf-8")
    assert main(["station", "check", str(folder / "s.yaml")]) == 2
    assert "x1b[32m" in shown(capsys)


def test_tables_and_lines_of_the_shared_console(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(f"head{EVIL}")
    table.add_row(f"cell{EVIL}")
    console(width=200).print(f"line{EVIL}", table, markup=False)
    text = shown(capsys)
    assert all(word in text for word in ("line\\x1b]0;owned", "head\\x1b]0;owned", "cell\\x1b]0;owned"))


def test_a_file_name_that_is_no_text_is_no_internal_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/\xff\xfe.db")
    assert main(["records", name]) != 1
    assert "\\udcff" in shown(capsys)


def test_no_message_is_longer_than_a_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(f"name: a\ncameras: [{{name: a, address: sim, trigger: {{source: {'x' * 100_000}}}}}]\n", "utf-8")
    assert main(["station", "check", str(file)]) == 2
    assert len(shown(capsys)) < 1920
    assert len(told(BadInput("a" * 10_000, hint="b\n" * 10_000))) < 2 * LONGEST + 200


def test_logs_of_verbs_without_a_station_hide_secrets_and_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    keep_secret("hunter2-words")
    before = logging.getLogger().handlers[:]
    logging.getLogger().handlers[:] = []
    try:
        assert main(["--version"]) == 0
        assert main(["plc-map", "/proc/none"]) == 7
        logging.getLogger("edgead").warning("%s in %s", "hunter2-words", EVIL)
    finally:
        logging.getLogger().handlers[:] = before
    text = shown(capsys)
    assert "hunter2-words" not in text and "*** in " in text


def test_a_spreadsheet_calculates_nothing_and_numbers_stay_numbers(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", "plain", ""]
    row = dict.fromkeys(SHOWN)
    rows = [{**row, "camera": text, "score": -1.5, "part_id": -7} for text in texts]
    write_csv(rows, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    cells = [each["camera"] for each in found]
    assert cells == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'\r=1", "'\uff1d1", "plain", ""]
    assert {each["score"] for each in found} == {"-1.5"} and {each["part_id"] for each in found} == {"-7"}
