"""The journal: nothing that was measured is lost, whatever happens to the process."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.export.search.journal import Journal
from tests.export.search.records import record

HEAD = {"model": "abc", "frames": "def"}
RECORDS = [record(30, name="a"), record(20, 1, "b"), dataclasses.replace(record(10, name="c"), accuracy=None, failed="no")]


def written(file: Path) -> Journal:
    journal = Journal(file, HEAD)
    for one in RECORDS:
        journal.add(one)
    return journal


def test_all_comes_back_in_order(tmp_path: Path) -> None:
    written(tmp_path / "j")
    again = Journal(tmp_path / "j", HEAD)
    assert again.records == RECORDS
    assert again.found == 3
    assert again.get(RECORDS[1].choice) == RECORDS[1]


def test_the_latest_counts(tmp_path: Path) -> None:
    journal = written(tmp_path / "j")
    more = dataclasses.replace(RECORDS[0], bytes=7)
    journal.add(more)
    assert journal.records == [more, *RECORDS[1:]]
    assert Journal(tmp_path / "j", HEAD).records == [more, *RECORDS[1:]]


def test_of_another_model_or_other_frames_it_is_begun_anew(tmp_path: Path) -> None:
    written(tmp_path / "j")
    other = Journal(tmp_path / "j", {**HEAD, "frames": "other"})
    assert other.records == []
    other.add(RECORDS[0])
    assert Journal(tmp_path / "j", {**HEAD, "frames": "other"}).records == RECORDS[:1]


@given(st.integers(0, 10_000))
@settings(max_examples=60)
def test_cut_anywhere_it_keeps_what_is_whole_and_goes_on(cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "j"
        written(file)
        whole = file.read_bytes()
        cut %= len(whole) + 1
        file.write_bytes(whole[:cut])
        lines = max(0, whole[:cut].count(b"\n") - 1)
        journal = Journal(file, HEAD)
        assert journal.records == RECORDS[:lines]
        journal.add(RECORDS[2])
        assert RECORDS[2] in Journal(file, HEAD).records
        assert len(Journal(file, HEAD).records) == min(3, lines + 1)


@given(st.binary(max_size=40))
@settings(max_examples=60)
def test_garbage_at_the_end_is_dropped(garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "j"
        written(file)
        with file.open("ab") as out:
            out.write(garbage)
        assert Journal(file, HEAD).records == RECORDS
