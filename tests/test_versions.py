"""What an export or a training replaces is kept and can be put back; what killed runs left is removed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgead import disk
from edgead.bundle import new_bundle
from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.versions import KEPT, folder_of, former, restore


def write(target: Path, text: str) -> None:
    with new_bundle(target, marker="model.json", kind="a trained model") as work:
        (work / "model.json").write_text(f'{{"origin": {{"created_at": "{text}"}}}}')


def content(folder: Path) -> str:
    return (folder / "model.json").read_text().split('"')[5]


def test_each_former_one_is_kept_whole_and_can_be_put_back(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for text in ("first", "second", "third"):
        write(target, text)
    assert [(v.number, v.made) for v in former(target)] == [(1, "first"), (2, "second")]
    version, kept = restore(target, 1)
    assert (version.made, content(target)) == ("first", "first")
    assert kept is not None
    assert [(v.number, v.made) for v in former(target)] == [(2, "second"), (3, "third")]
    restore(target)
    assert content(target) == "third"
    with pytest.raises(BadInput, match="no version 9") as caught:
        restore(target, 9)
    assert "there are: 2, 4" in caught.value.hint


def test_without_exchange_of_folders_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_exchanged", lambda *_: False)
    target = tmp_path / "model"
    for text in ("first", "second"):
        write(target, text)
    assert (content(target), [v.made for v in former(target)]) == ("second", ["first"])
    restore(target)
    assert (content(target), [v.made for v in former(target)]) == ("first", ["second"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "model.versions"]


def test_the_oldest_go_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = tmp_path / "model"
    for i in range(KEPT + 2):
        write(target, str(i))
    assert [v.made for v in former(target)] == [str(i) for i in range(1, KEPT + 1)]
    assert f"removed {folder_of(target) / '0001'}" in caplog.text


def test_a_lost_bundle_comes_back_from_its_versions(tmp_path: Path) -> None:
    target = tmp_path / "model"
    write(target, "first")
    write(target, "second")
    (target / "model.json").unlink()
    target.rmdir()
    assert restore(target)[1] is None
    assert content(target) == "first"


HOLDS = """
import os, signal, sys
from pathlib import Path
from edgead.bundle import new_bundle
with new_bundle(Path(sys.argv[1]), marker="model.json", kind="a trained model") as work:
    (work / "half.bin").write_bytes(b"half")
    print(work, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_what_a_killed_run_left_is_removed_and_what_a_living_one_holds_is_not(
    signal: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "model"
    other = tmp_path / "model2"
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen([*command, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        write(target, "first")  # while the other one lives
        assert (left / "half.bin").exists()
        assert "left behind" not in caplog.text
        process.terminate() if signal == "TERM" else process.kill()
        process.wait()
    assert (left / "half.bin").exists()
    write(other, "another target")
    assert (left / "half.bin").exists()
    write(target, "second")
    assert not left.exists()
    assert f"removed {left}, left behind by a run that was killed" in caplog.text
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_nothing_else_that_is_hidden_is_touched(tmp_path: Path) -> None:
    mine = [tmp_path / ".model.mine", tmp_path / ".model.abcdefgh.tar", tmp_path / ".other.abcdefgh"]
    for folder in mine:
        folder.mkdir()
    (tmp_path / ".model.ijklmnop").write_text("a file")
    write(tmp_path / "model", "first")
    assert all(folder.is_dir() for folder in mine)
    assert (tmp_path / ".model.ijklmnop").is_file()


def test_the_verb_lists_and_restores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "model"
    for text in ("2026-01-01", "2026-02-02"):
        write(target, text)
    assert main(["bundle", "history", str(target)]) == 0
    said = capsys.readouterr().out
    assert "2026-01-01" in said
    assert "2026-02-02" in said
    assert main(["bundle", "restore", str(target)]) == 0
    assert f"{target} is version 1 again, made 2026-01-01; what was there is version 2 now" in capsys.readouterr().out
    assert main(["bundle", "restore", str(target), "7"]) == 2
    assert main(["bundle", "history", str(target), "7"]) == 2
    assert main(["bundle", "history", str(tmp_path / "nothing")]) == 2
    assert main(["bundle", "restore", str(tmp_path / "nothing")]) == 2
