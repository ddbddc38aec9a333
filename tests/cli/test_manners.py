"""What verbs print on a terminal of 80 columns, on consoles that know few letters, and without colours."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgead.cli._verb import fitted
from edgead.cli.main import VERBS

EARLIER = Path(__file__).resolve().parents[1] / "fixtures/earlier/d56ce55"
ROOT = Path(__file__).resolve().parents[2]
SOME = """
inspect part.edgead
verify part.edgead
records data/top
records data/top --summary
records data/top --replay 0.01
threshold part.edgead
threshold part.edgead --good parts --max-false-reject 20% --dry-run
bench part.edgead --rounds 1 --warmup 1 --no-cold --frame 64x64
bundle history part.edgead
evaluate part.edgead parts
station check station.yaml
station example
plc-map
weights list
run part.edgead --camera parts
"""
PROSE = {"inspect", "threshold", "station", "plc-map", "weights", "run"}
"""Verbs of SOME that print words, pages, files or (to a pipe) JSON, which a terminal wraps; the others print tables."""
DRIVE = """
import sys
from edgead.cli.main import main
for line in sys.argv[1].splitlines():
    print("=====", line, flush=True)
    code = main(line.split())
    sys.stdout.flush()
    print("-----", code, flush=True)
"""
ESCAPE = "\x1b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a name that neither ASCII nor cp1252 has, and pictures with such names."""
    made = Path(shutil.copytree(EARLIER, tmp_path / "линия-検査"))
    (made / "parts/000.png").rename(made / "parts/пример-é-検.png")
    return made


def env(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONUTF8", "FORCE_COLOR", "CLICOLOR_FORCE")}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "OMP_NUM_THREADS": "1"} | more


def blocks(text: str) -> dict[str, list[str]]:
    """Command -> the lines that it printed, the last one with its exit code."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("===== "):
            found[line[6:]] = inner = []
        else:
            inner.append(line)
    return found


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_no_verb_stumbles_over_a_console_with_few_letters_and_what_is_aligned_fits_80_columns(
    folder: Path, encoding: str
) -> None:
    lines = "\n".join(f"{verb} --help" for verb in VERBS) + SOME
    command = [sys.executable, "-c", DRIVE, lines.replace("\n\n", "\n")]
    done = subprocess.run(command, cwd=folder, env=env(PYTHONIOENCODING=encoding, NO_COLOR="1"), capture_output=True)
    assert done.returncode == 0, done.stderr.decode(encoding)
    printed, told = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert ESCAPE not in printed + told and "internal error" not in told and "Traceback" not in told
    found = blocks(printed)
    assert [line for line, block in found.items() if block[-1] != "----- 0"] == []
    assert len(found) == len(VERBS) + SOME.count("\n") - 1
    wide = {
        line: long
        for line, block in found.items()
        if line.split()[0] not in PROSE or "--help" in line
        if (long := [one for one in block if len(one) > 80 and "judged by" not in one])
    }
    assert wide == {}


def on_a_terminal(folder: Path, *arguments: str, **more: str) -> str:
    """What a verb writes where both its outputs are a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgead", *arguments], cwd=folder, env=env(TERM="xterm-256color", **more),
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                piece = terminal.read(4096)
            except OSError:  # so Linux tells the end of a terminal
                break
            if not piece:
                break
            seen += piece
    assert process.wait() == 0, seen
    return seen.decode("utf-8", "replace")


COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3|4|9|10)\d(?:;[0-9;]*)?m")


def test_colours_are_there_on_a_terminal_and_off_when_asked(folder: Path) -> None:
    assert COLOUR.search(on_a_terminal(folder, "verify", "part.edgead"))
    assert not COLOUR.search(on_a_terminal(folder, "verify", "part.edgead", NO_COLOR="1"))
    assert ESCAPE not in on_a_terminal(folder, "records", "data/top", NO_COLOR="1")


def test_a_description_is_wrapped_anew_where_it_does_not_fit() -> None:
    wide = (
        "word " * 25
        + "end\nof the paragraph.\n\n  edgead verb        what it does, in many words that do not fit there\nkind: one"
    )
    assert fitted(wide, 130) == "word " * 25 + "end\nof the paragraph." + wide[wide.index("\n\n") :]
    assert fitted(wide, 50).splitlines()[-5:] == [
        "",
        "  edgead verb",
        "      what it does, in many words that do not fit",
        "      there",
        "kind: one",
    ]
    assert all(len(line) <= 50 for line in fitted(wide, 50).splitlines())
