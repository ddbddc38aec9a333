"""Compiled engines that are kept between starts: found again when all is the same, and never in the way when not."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.engines import cache, open_engine
from edgead.engines.cache import Kept
from edgead.types import AnomalyMap
from tests.bundles import Tiny, part

ENGINE = "openvino-int8"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled engines go in this test."""
    monkeypatch.setenv("EDGEAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/engines"


@pytest.fixture
def bundle(tiny: Tiny) -> Bundle:
    return Bundle.open(tiny.bundle("patchcore"))


def answer(bundle: Bundle, name: str = ENGINE, threads: int = 1, **options: bool) -> tuple[float, AnomalyMap]:
    engine = open_engine(bundle, name, threads, **options)
    try:
        return engine.infer(part(100, bundle.manifest.preprocess.width))
    finally:
        engine.close()


def same(first: tuple[float, AnomalyMap], second: tuple[float, AnomalyMap]) -> bool:
    return first[0] == second[0] and np.array_equal(first[1], second[1])


@pytest.mark.parametrize("name", ["openvino-fp32", "openvino-int8"])
def test_a_kept_engine_answers_bit_for_bit_as_the_first_one(name: str, bundle: Bundle, kept: Path) -> None:
    compiled = answer(bundle, name, keep=False)
    assert not kept.exists()
    first = answer(bundle, name)
    (file,) = kept.iterdir()
    written_ns = file.stat().st_ctime_ns
    os.utime(file, (0, 0))
    second = answer(bundle, name)
    assert [file] == list(kept.iterdir())
    assert file.stat().st_mtime > 0, "the kept one was used"
    assert written_ns <= file.stat().st_ctime_ns
    assert same(compiled, first)
    assert same(first, second)


def test_each_engine_file_and_setting_is_kept_by_itself(bundle: Bundle, kept: Path) -> None:
    for name, threads in (("openvino-int8", 1), ("openvino-int8", 2), ("openvino-fp32", 1)):
        answer(bundle, name, threads)
    assert len(list(kept.iterdir())) == 3


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "other"])
def test_a_damaged_one_is_compiled_again(damage: str, bundle: Bundle, kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = answer(bundle)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    file.write_bytes({"flipped": bytes(flipped), "short": whole[:-100], "empty": b"", "other": b"no engine" * 99}[damage])
    with caplog.at_level(logging.WARNING):
        assert same(answer(bundle), first)
    assert len(caplog.records) == 1
    assert "is not whole" in caplog.text
    caplog.clear()
    assert same(answer(bundle), first), "and kept again"
    assert not caplog.records


def test_what_the_backend_does_not_take_is_compiled_again(bundle: Bundle, kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = answer(bundle)
    (file,) = kept.iterdir()
    file.write_bytes(bytes(5000) + hashlib.sha256(bytes(5000)).digest())
    with caplog.at_level(logging.WARNING):
        assert same(answer(bundle), first)
    assert "OpenVINO cannot take" in caplog.text
    caplog.clear()
    assert same(answer(bundle), first), "and kept again"
    assert not caplog.records


def test_a_folder_that_others_can_write_is_not_trusted(bundle: Bundle, kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    answer(bundle)
    assert kept.stat().st_mode & 0o077 == 0
    kept.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        answer(bundle)
    assert "can be written by other users" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_is_not_used(bundle: Bundle, kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    answer(bundle)
    (file,) = kept.iterdir()
    os.chown(file, 12345, 12345)
    with caplog.at_level(logging.WARNING):
        answer(bundle)
    assert "belongs to another user" in caplog.text
    os.chown(kept, 12345, 12345)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        answer(bundle)
    assert "belongs to another user" in caplog.text


def test_a_link_is_not_followed(bundle: Bundle, kept: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = answer(bundle)
    (file,) = kept.iterdir()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        assert same(answer(bundle), first)
    assert "compiling" in caplog.text
    assert not file.is_symlink()


def test_a_place_that_cannot_be_written_costs_one_line(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGEAD_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(answer(bundle)[0])
    assert 1 <= len(caplog.records) <= 2


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "engines", ("digest",), max_bytes=250)
    for age, name in enumerate(("first", "second", "third")):
        kept.save(bytes(50), name)
        for file in kept.folder.iterdir():
            os.utime(file, (file.stat().st_mtime - 10, file.stat().st_mtime - 10))
        assert kept.load(name) is not None, age
    kept.save(bytes(100), "fourth")
    found = [name for name in ("first", "second", "third", "fourth") if kept.load(name) is not None]
    assert found == ["third", "fourth"]
    assert len(list(kept.folder.iterdir())) == 2


def test_off_means_off(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("EDGEAD_CACHE", "off")
    answer(bundle)
    assert not list(tmp_path.iterdir())
    monkeypatch.delenv("EDGEAD_CACHE")
    answer(bundle)
    assert len(list((tmp_path / ".cache/edgead/engines").iterdir())) == 1


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"EDGEAD_CACHE": "/a", "CACHE_DIRECTORY": "/b"}, "/a/engines"),
        ({"CACHE_DIRECTORY": "/b:/c", "XDG_CACHE_HOME": "/d"}, "/b/engines"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/edgead/engines"),
    ],
)
def test_where_it_is(environ: dict[str, str], wanted: str) -> None:
    assert cache.folder(environ) == Path(wanted)


def test_edgead_run_keeps_it_unless_told_otherwise(tiny: Tiny, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", str(tiny.bundle("patchcore")), "--engine", ENGINE, "--camera", "sim:parts=1,fps=1000", "--max-parts", "1"]
    assert main([*command, "--no-cache"]) == 0
    assert not kept.exists()
    assert main(command) == 0
    assert len(list(kept.iterdir())) == 1
    capsys.readouterr()
