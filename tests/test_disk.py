"""Replacing files and folders: never something that is neither."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgead.disk import exchange_folders, is_special, replace_file


def test_a_pipe_or_a_device_is_never_replaced(tmp_path: Path) -> None:
    pipe, work = tmp_path / "pipe", tmp_path / "work"
    os.mkfifo(pipe)
    work.mkdir()
    with pytest.raises(OSError, match="it is a device or a pipe"):
        replace_file(pipe, "text")
    with pytest.raises(OSError, match="it is a device or a pipe"):
        exchange_folders(work, pipe)
    assert pipe.is_fifo() and work.is_dir() and sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "work"]


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    replace_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_what_is_special(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_special(Path("/dev/null")) and is_special(Path("/dev/stdout"))
    assert not any(is_special(path) for path in (tmp_path, tmp_path / "file", tmp_path / "none", Path("/dev/shm")))
