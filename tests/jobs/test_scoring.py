"""`edgead score`: an archive into a table, whatever the source is and whatever happens on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.errors import StorageError
from edgead.jobs.evaluate import evaluate
from edgead.jobs.scoring.job import ScoreRequest, score
from edgead.jobs.scoring.onray import Actor, packed
from edgead.jobs.scoring.reading import LOST, Reader
from edgead.jobs.scoring.sources import find_source
from edgead.jobs.scoring.worker import Order
from edgead.runtime.records.store import RecordStore
from edgead.testing.fakes import FakeClock
from tests.cli.test_run import write_bundle
from tests.waiting import PATIENCE_S, until

Table = list[dict[str, Any]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores are the largest value of a picture; NG from 200 on."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny.edgead")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of grey pictures of 10, 20 ... 250, one that is none, and what is no picture."""
    root = tmp_path_factory.mktemp("archive") / "pictures"
    for i, value in enumerate(range(10, 260, 10)):
        write(root / ("day1" if i < 10 else "day2/late") / f"{value:03d}.png", value)
    (root / "day1/torn.png").write_bytes(b"\x89PNG torn")
    (root / "day1/notes.md").write_text("no picture")
    (root / "day1/.hidden.png").write_bytes(b"")
    return root


def write(file: Path, value: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), np.full((16, 16, 3), value, np.uint8))
    return file


def table(file: Path) -> Table:
    """The rows, but for what no two runs have in common."""
    return [{k: v for k, v in row.items() if k != "total_ms"} for row in pyarrow.parquet.read_table(file).to_pylist()]


def run(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgead.cli.main", "score", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, **more)


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    """The one line, and the hint below it."""
    assert main(["score", *map(str, words)]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("going on: ")]
    assert len(lines) <= 2 and lines[0].startswith("edgead score: "), lines
    return " ".join(lines)


def test_a_folder_becomes_a_table_that_says_what_evaluate_says(
    bundle: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parts.parquet"
    assert main(["score", str(bundle), str(archive), "-o", str(out), "--workers", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["verdicts"], told["causes"]) == (26, {"OK": 19, "NG": 6, "UNKNOWN": 1}, {"bad_frame": 1})
    assert told["skipped"] == {"hidden files and folders": 1, "files that are no pictures (.md)": 1}
    rows = table(out)
    said = evaluate([bundle], archive).answers[0]
    assert [(r["path"], r["verdict"], r["cause"], r["score"], r["level"]) for r in rows] == [
        (one.file, one.verdict, one.cause, one.score, one.level) for one in said
    ]
    assert {(r["engine"], r["bundle"]) for r in rows} == {("onnxruntime-fp32", Bundle.open(bundle).digest)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.parquet"]


def test_the_same_table_as_csv_and_for_a_person(
    bundle: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parts.csv"
    assert main(["score", str(bundle), str(archive), "-o", str(out), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "26 rows of folder" in shown and "19 OK, 6 NG, 1 UNKNOWN" in shown and "1 bad_frame" in shown
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows].count("NG") == 6 and rows[-1]["score"] == "250.0"


def test_what_a_source_may_be(bundle: Path, archive: Path, tmp_path: Path) -> None:
    files = sorted(str(file.relative_to(archive)) for file in archive.rglob("[0-9]*.png"))
    (tmp_path / "titled.csv").write_text("serial;image\n" + "".join(f"7;{name}\n" for name in files) + "8;missing.png\n9;\n")
    (tmp_path / "plain.txt").write_text("".join(f"{archive / name}\n" for name in files))
    (tmp_path / "named.csv").write_text("\ufeffwhat,where\n" + "".join(f'"a, b",{name}\n' for name in files[:3]))
    column = pyarrow.array([*(str(archive / name) for name in files[:4]), None])
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2, 3, 4, 5], "path": column}), tmp_path / "list.parquet")
    late = [name for name in files if "late" in name]
    for source, options, expected in (
        (tmp_path / "titled.csv", {"root": archive}, [*files, "missing.png", ""]),
        (tmp_path / "plain.txt", {}, [str(archive / name) for name in files]),
        (tmp_path / "named.csv", {"column": "where", "root": archive}, files[:3]),
        (tmp_path / "list.parquet", {}, [*(str(archive / name) for name in files[:4]), ""]),
        (f"{archive}/day*/[!t]*.png", {}, [str(archive / name) for name in files if name not in late]),
        (f"{archive}/**/[12]??.png", {}, [str(archive / name) for name in files if name[-7] in "12"]),
        (f"{archive}/**/**/late/**/*0.png", {}, [str(archive / name) for name in late]),
        (f"file://{archive}/day2/**", {}, [str(archive / name) for name in late]),
        (f"local://{archive}/*/late/*", {}, [str(archive / name) for name in late]),
        (f"local://{archive}/day2", {}, [str(archive / name) for name in late]),
    ):
        found = find_source(str(source), **options)
        assert list(found.items()) == list(found.items()) == expected, source
    out = tmp_path / "a.parquet"
    assert (
        main(["score", str(bundle), str(tmp_path / "titled.csv"), "-o", str(out), "--root", str(archive), "--workers", "1"]) == 0
    )
    rows = table(out)
    assert [row["path"] for row in rows] == [*files, "missing.png", ""]
    assert [row["verdict"] for row in rows[-2:]] == ["UNKNOWN", "UNKNOWN"] and rows[-3]["score"] == 250.0
    assert "cannot read" in rows[-2]["cause"] and "names no picture" in rows[-1]["cause"]


def test_pictures_of_a_store_are_read_by_their_address(bundle: Path, archive: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in archive.rglob("[0-9]*.png"):
        memory.pipe(f"/plant/{file.relative_to(archive)}", file.read_bytes())
    try:
        out = tmp_path / "a.parquet"
        assert main(["score", str(bundle), "memory://plant/day*/**/*.png", "-o", str(out)]) == 0
        assert [(row["path"].removeprefix("memory://"), row["score"]) for row in table(out)][-2:] == [
            ("/plant/day2/late/240.png", 240.0),
            ("/plant/day2/late/250.png", 250.0),
        ]
        assert len(table(out)) == 25
    finally:
        memory.rm("/plant", recursive=True)


def test_a_store_that_is_away_ends_the_run_and_one_bad_object_does_not() -> None:
    reader = Reader("", "memory://x", 8, FakeClock())

    class Away:
        def cat_file(self, path: str) -> bytes:
            raise FileNotFoundError(path) if path == "gone" else TimeoutError("no route")

        def unstrip_protocol(self, path: str) -> str:
            return f"s3://{path}"

    reader._system = Away()
    for _ in range(3 * LOST):
        assert "s3://gone" in str(reader.read("gone"))
    for _ in range(LOST - 1):
        assert "no route" in str(reader.read("there"))
    with pytest.raises(StorageError, match="in a row could not be fetched"):
        reader.read("there")


def test_saved_pictures_of_a_station_are_judged_and_its_overlays_are_not(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.runtime.parts import record

    folder = tmp_path / "records/cam"
    name = "20261122T060000.000Z_{:06d}_NG"
    store = RecordStore(folder)
    for part in (1, 2, 3, 4):
        store.write(record(part))
    for part in (1, 2, 3):
        picture = folder / "pictures" / f"{name.format(part)}.png"
        if part != 3:
            write(picture, 210)
            write(picture.with_suffix(".jpg"), 90)
        store.attach(part, picture, picture.with_suffix(".jpg"))
    store.close()
    for source in (folder, folder / "records.db", folder / "pictures"):
        assert main(["score", str(bundle), str(source), "-o", str(tmp_path / "a.parquet"), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["pictures"], told["verdicts"]) == (2, {"NG": 2}), source
        expected = {"overlays of a station": 2} if source.name == "pictures" else {
            "pictures that the station has removed since": 1, "parts without a saved picture": 1,
        }  # fmt: skip
        assert told["skipped"] == expected
    assert "records/cam" in refused(capsys, 2, bundle, tmp_path / "records", "-o", tmp_path / "b.parquet")
    (tmp_path / "deep").mkdir()
    (tmp_path / "records").rename(tmp_path / "deep/records")
    assert "overlays are no pictures" in refused(capsys, 2, bundle, tmp_path / "deep", "-o", tmp_path / "b.parquet")
    assert not list(tmp_path.glob("b.parquet*"))


def test_a_run_that_is_killed_again_and_again_has_each_row_once(bundle: Path, archive: Path, tmp_path: Path) -> None:
    files = sorted(archive.rglob("*.png")) * 150
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"{file}\n" for file in files))
    words = (bundle, tmp_path / "list.csv", "-o", tmp_path / "killed.parquet", "--workers", "2")
    shards = tmp_path / "killed.parquet.scoring/shards"
    for kill in (1, 2):
        command = [sys.executable, "-m", "edgead.cli.main", "score", *map(str, words)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as killed:
            until(lambda: shards.is_dir() and len(list(shards.glob("*.gz"))) >= kill)  # noqa: B023
            killed.kill()
        assert not (tmp_path / "killed.parquet").exists()
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed"] >= 1024 and "going on: " in done.stderr
    rows = table(tmp_path / "killed.parquet")
    assert [row["path"] for row in rows] == [str(file) for file in files]
    once = {row["path"]: row for row in rows}
    assert all(row == once[row["path"]] for row in rows)
    assert not shards.parent.exists()


def test_what_a_run_goes_on_with_must_be_what_it_began_with(
    bundle: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, books = tmp_path / "a.parquet", tmp_path / "a.parquet.scoring"
    files = sorted(archive.rglob("*.png")) * 25
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"{file}\n" for file in files))
    command = [sys.executable, "-m", "edgead.cli.main", "score", str(bundle), str(tmp_path / "list.csv"), "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as left:
        until(lambda: list(books.glob("shards/*.gz")))
        assert "another edgead score writes" in refused(capsys, 2, bundle, archive, "-o", out)
        left.kill()
    other = write_bundle(tmp_path / "other.edgead", wrong_by=1e-4)
    told = refused(capsys, 2, other, tmp_path / "list.csv", "-o", out)
    assert "its bundle is " in told and "--restart" in told
    assert "its source is " in refused(capsys, 2, bundle, archive, "-o", out)
    shard = next(books.glob("shards/*.gz"))
    whole = shard.read_bytes()
    for spoilt in (whole[:-9], whole[:10] + b"\xff" * 40 + whole[50:]):
        shard.write_bytes(spoilt)
        assert f"{shard.name} is damaged" in refused(capsys, 7, bundle, tmp_path / "list.csv", "-o", out)
    shard.unlink()
    for name in ("list.jsonl", "starts", "run.json"):
        kept = (books / name).read_bytes()
        (books / name).write_bytes(kept[:13])
        assert (
            f"{name} is damaged" in (told := refused(capsys, 7, bundle, tmp_path / "list.csv", "-o", out)) and "--restart" in told
        )
        (books / name).write_bytes(kept)
    assert main(["score", str(bundle), str(tmp_path / "list.csv"), "-o", str(out)]) == 0
    assert [row["path"] for row in table(out)] == [str(file) for file in files]


def test_a_picture_on_which_the_process_dies_is_one_row_and_costs_no_other(bundle: Path, archive: Path, tmp_path: Path) -> None:
    """The decoder is OpenCV's, and it crashes on one picture of a million."""
    (tmp_path / "sitecustomize.py").write_text(
        "import cv2, os, signal\n"
        "real = cv2.imdecode\n"
        "def imdecode(data, flags):\n"
        "    if b'POISON' in data.tobytes():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(data, flags)\n"
        "cv2.imdecode = imdecode\n"
    )
    pictures = tmp_path / "pictures"
    for i in range(40):
        write(pictures / f"{i:02d}.bmp", i)
    with (pictures / "17.bmp").open("ab") as file:
        file.write(b"POISON")
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", str(Path(__file__).resolve().parents[2]))))
    done = run(bundle, pictures, "-o", tmp_path / "a.parquet", "--workers", "2", env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "a.parquet")
    assert [row["verdict"] for row in rows] == ["OK" if i != 17 else "UNKNOWN" for i in range(40)]
    assert rows[17]["cause"] == "bad_frame: the process that judged it died twice (SIGKILL)"
    assert [row["score"] for row in rows] == [float(i) if i != 17 else None for i in range(40)]


def test_maps_are_kept_as_they_are_and_as_pictures(bundle: Path, archive: Path, tmp_path: Path) -> None:
    for kind in ("npz", "png"):
        out, maps = tmp_path / f"{kind}.parquet", tmp_path / kind
        words = ["score", str(bundle), str(archive / "day2"), "-o", str(out), "--maps", kind, str(maps), "--workers", "1"]
        assert main(words) == 0
        rows = table(out)
        assert len(rows) == 15 and len(list(maps.rglob(f"*.{kind}"))) == 15
        for row in rows:
            if kind == "npz":
                with np.load(maps / row["map"]) as found:
                    assert found["map"].dtype == np.float32 and found["map"].max() == row["score"]
            else:
                grey = cv2.imread(str(maps / row["map"]), cv2.IMREAD_UNCHANGED)
                assert grey is not None and grey.dtype == np.uint16
                assert bool(grey.max() >= 32768) == (row["verdict"] == "NG")


def test_mistakes_are_one_line_and_leave_nothing(
    bundle: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.parquet"
    (tmp_path / "empty").mkdir()
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    (tmp_path / "latin.csv").write_bytes(b"path\n\xff\xfe.png\n")
    (tmp_path / "no.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "from.csv").write_text("path\npictures/day1/010.png\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "from.csv").rename(tmp_path / "sub/from.csv")
    for code, words, told in (
        (2, (archive / "none", "-o", out), "there is no "),
        (2, (tmp_path / "empty", "-o", out), "no pictures to judge"),
        (2, (archive / "day1/010.png", "-o", out), "is no list of pictures"),
        (2, (tmp_path / "two.csv", "-o", out), "which column holds the paths? There are a, b"),
        (2, (tmp_path / "two.csv", "-o", out, "--column", "c"), "has no column c"),
        (2, (tmp_path / "latin.csv", "-o", out), "is not UTF-8"),
        (2, (tmp_path / "no.parquet", "-o", out), "is no whole Parquet file"),
        (2, (tmp_path / "none.csv", "-o", out), "cannot read"),
        (2, (archive, "-o", out, "--column", "a"), "--column is for a list"),
        (2, (archive, "-o", tmp_path / "a.xlsx"), "is .parquet or .csv"),
        (2, (archive, "-o", tmp_path / "no/a.csv"), "its folder does not exist"),
        (2, (archive, "-o", out, "--maps", "png", archive / "maps"), "would take maps for pictures"),
        (2, (archive, "-o", out, "--maps", "png", tmp_path / "two.csv"), "is no folder"),
        (2, (tmp_path / "two.csv", "-o", tmp_path / "two.csv", "--column", "a"), "is the list that is to be judged"),
        (2, (archive, "-o", out, "--on", "dask"), "is no cluster"),
        (2, (archive, "-o", out, "--workers", "0"), "--workers"),
        (2, ("nosuch://a/b/*.png", "-o", out), "cannot open nosuch://"),
        (2, ("memory://nowhere/*.png", "-o", out), "there is no memory://nowhere"),
        (2, ("", "-o", out), "SOURCE is empty"),
        (2, (archive / "day1/[9-0].png", "-o", out), "is no pattern: bad character range"),
        (2, (f"file://{tmp_path}/two.csv", "-o", tmp_path / "two.csv", "--column", "a"), "is the list that is to be judged"),
        (2, (archive / "**/*.png", "-o", out, "--maps", "png", archive / "maps"), "would take maps for pictures"),
        (2, (f"file://{archive}", "-o", out, "--maps", "png", archive / "maps"), "would take maps for pictures"),
        (7, (archive, "-o", "/proc/a.parquet"), "cannot write /proc/a.parquet.scoring"),
    ):  # fmt: skip
        assert told in refused(capsys, code, bundle, *words), words
    assert main(["score", str(archive), str(archive), "-o", str(out)]) == 3
    capsys.readouterr()
    wrong = write_bundle(tmp_path / "wrong.edgead", wrong_by=9.0)
    assert "does not answer as the trained model did" in refused(capsys, 4, wrong, archive, "-o", out)
    assert not list(tmp_path.glob("a.*"))


def test_a_list_whose_paths_start_elsewhere_is_told_so(
    bundle: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.csv").write_text("path\nday1/010.png\n")
    monkeypatch.chdir(archive)
    assert "--root ." in refused(capsys, 2, bundle, tmp_path / "list.csv", "-o", tmp_path / "a.parquet")
    assert main(["score", str(bundle), str(tmp_path / "list.csv"), "-o", str(tmp_path / "a.parquet"), "--root", "."]) == 0
    assert [row["verdict"] for row in table(tmp_path / "a.parquet")] == ["OK"]


def test_a_disk_that_is_full_keeps_what_is_done_and_leaves_no_table(bundle: Path, archive: Path, tmp_path: Path) -> None:
    """No file of more than 20,000 bytes can be written, by a limit of the process."""
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"{file}\n" for file in sorted(archive.rglob("*.png")) * 25))

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = run(bundle, tmp_path / "list.csv", "-o", tmp_path / "a.parquet", preexec_fn=limit)
    assert done.returncode == 7 and "cannot " in done.stderr and "the same command goes on" in done.stderr, done.stderr
    assert not (tmp_path / "a.parquet").exists()
    assert run(bundle, tmp_path / "list.csv", "-o", tmp_path / "a.parquet").returncode == 0
    assert len(table(tmp_path / "a.parquet")) == 675


def test_files_that_would_be_waited_for_or_read_without_end_are_rows(bundle: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "list.csv").write_text(f"path\n{tmp_path}/pipe.png\n/dev/zero\n{tmp_path}\n\x01.png\n")
    assert main(["score", str(bundle), str(tmp_path / "list.csv"), "-o", str(tmp_path / "a.parquet"), "--workers", "1"]) == 0
    rows = table(tmp_path / "a.parquet")
    assert {row["verdict"] for row in rows} == {"UNKNOWN"} and len(rows) == 4
    assert "FIFO" in rows[0]["cause"] and "device" in rows[1]["cause"]


def test_cells_that_are_no_paths_are_rows_and_hold_nobody_up(bundle: Path, tmp_path: Path) -> None:
    """A column of pictures themselves, in base64: two of them fill a pipe in both directions."""
    (tmp_path / "list.csv").write_text("image\n" + f"{'iVBORw0KGgo' * 20_000}\n" * 40)
    done = run(bundle, tmp_path / "list.csv", "-o", tmp_path / "a.parquet", "--workers", "1")
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "a.parquet")
    assert len(rows) == 40 and {row["verdict"] for row in rows} == {"UNKNOWN"} and "cannot read" in rows[0]["cause"]


def test_folders_that_lead_to_themselves_or_never_end(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "pictures/a.png", 10)
    (tmp_path / "pictures/loop").symlink_to("loop")
    (tmp_path / "pictures/round").symlink_to(".")
    found = find_source(str(tmp_path / "pictures"))
    assert [Path(item).name for item in found.items()] == ["a.png"]
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1200):  # deeper than Python calls itself
            os.mkdir("d", dir_fd=folder)
            below = os.open("d", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = below
    finally:
        os.close(folder)
    try:
        assert "nested too deep" in refused(capsys, 2, bundle, tmp_path / "d", "-o", tmp_path / "a.csv")
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest could not


def test_brackets_of_a_pattern_mean_their_characters(tmp_path: Path) -> None:
    for name in ("^", "[", "x"):
        write(tmp_path / f"{name}.png", 10)
    assert [Path(item).stem for item in find_source(f"{tmp_path}/[[^].png").items()] == ["[", "^"]


def test_a_list_of_a_store_that_breaks_off_is_told(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Broken(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            raise RuntimeError("payload is not complete")

        read = read1 = readinto  # type: ignore[assignment]

    class BreaksOff(MemoryFileSystem):  # type: ignore[misc]
        def open(self, path: str, *rest: Any, **more: Any) -> Any:
            return Broken(b"path")

    fsspec.register_implementation("breaksoff", BreaksOff, clobber=True)
    told = refused(capsys, 7, bundle, "breaksoff://plant/list.csv", "-o", tmp_path / "a.csv")
    assert "payload is not complete" in told


def test_a_machine_of_the_cluster_needs_no_keys(bundle: Path, tmp_path: Path) -> None:
    """The signature was asked for where the bundle lies; the machine is sent the bundle, and holds it to its digest."""
    order = Order("/not/here/tiny.edgead", Bundle.open(bundle).digest, "onnxruntime-fp32", trusted=("/not/here/line.pub",))
    right, wrong = (Actor(asdict(one), packed(bundle)) for one in (order, replace(order, sha256="0" * 64)))
    assert right.open() == {} and "sha256" in wrong.open()["failed"]
    assert [row["verdict"] for row in right.piece(0, (str(write(tmp_path / "a.png", 210)),))["rows"]] == ["NG"]
    assert right._scorer is not None and right._folder is not None and wrong._folder is not None
    right._scorer.close()
    right._folder.cleanup()
    wrong._folder.cleanup()


def test_names_that_are_no_text_and_secrets_in_addresses(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "pictures/a.png", 10).rename(os.fsdecode(bytes(tmp_path) + b"/pictures/\xff.png"))
    assert main(["score", str(bundle), str(tmp_path / "pictures"), "-o", str(tmp_path / "a.parquet")]) == 0
    (row,) = table(tmp_path / "a.parquet")
    assert row["verdict"] == "OK" and row["path"].endswith("\\xff.png")
    assert "hunter2" not in find_source_told("sftp://me:hunter2@box/list.csv")


def find_source_told(address: str) -> str:
    try:
        return find_source(address).told
    except Exception as error:  # noqa: BLE001 - sftp needs a package
        return f"{error} {getattr(error, 'hint', '')}"


def test_progress_tells_the_share_the_rate_and_the_time_left(bundle: Path, archive: Path, tmp_path: Path) -> None:
    clock, said, shares = FakeClock(), list[str](), list[float]()

    def progress(stage: str, done: float) -> None:
        shares.append(done)
        clock.sleep(20.0)

    request = ScoreRequest(bundle, str(archive), tmp_path / "a.parquet", workers=1)
    found = score(request, progress, said.append, clock)
    assert shares[-1] == 1.0 and shares == sorted(shares)
    assert said == ["16 of 26 pictures (61.5%), 0.8 a second, 12 s left"]
    assert (found.pictures, found.workers, found.elapsed_s) == (26, 1, 40.0)
