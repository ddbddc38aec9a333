"""Many boxes in one table: what each runs and says, and those that do not answer as rows of their own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.config.inventory import read_inventory
from edgead.jobs.fleet import status
from edgead.line.service import Station
from edgead.testing import FakeClock
from tests.servers.files import Served, file_server
from tests.vouched import picture, write_vouched
from tests.waiting import PATIENCE_S, until

TEXT = """# HELP edgead_info Version
edgead_info{version="9.9"} 1
edgead_ready{camera="top"} 1
edgead_ready{camera="side"} 0
edgead_bundle_info{camera="top",role="main",engine="openvino-int8",sha256="DIGEST"} 1
edgead_bundle_info{camera="top",role="fallback",engine="small",sha256="OTHER"} 1
edgead_verdicts_total{camera="top",verdict="OK"} 12
edgead_verdicts_total{camera="top",verdict="NG"} 3
edgead_recent_verdict_seconds{camera="top",percentile="50"} 0.011
edgead_recent_verdict_seconds{camera="top",percentile="99"} 0.0324
edgead_deadline_misses_total{camera="top",stage="inference"} 2
edgead_deadline_misses_total{camera="top",stage="queue"} 1
edgead_notice{camera="top",what="light"} 1
edgead_notice{camera="top",what="recipe"} 1
""".replace("DIGEST", "a" * 64).replace("OTHER", "b" * 64)


def inventory(folder: Path, text: str) -> Path:
    file = folder / "boxes.yaml"
    file.write_text(text)
    return file


@contextmanager
def boxes(**texts: str) -> Iterator[dict[str, str]]:
    """Addresses of boxes whose /metrics say this."""
    with file_server({f"/{name}/metrics": Served(text.encode()) for name, text in texts.items()}) as url:
        yield {name: f"{url}/{name}" for name in texts}


def asked(folder: Path, text: str, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, Any, str]:
    code = main(["fleet", "status", str(inventory(folder, text)), *more])
    shown = capsys.readouterr()
    return code, json.loads(shown.out) if "--json" in more and shown.out else shown.out, " ".join(shown.err.split())


def test_what_boxes_say_and_who_is_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = TEXT.replace("a" * 64, "c" * 64)
    with boxes(old=TEXT, new=new) as urls:
        text = f"""
sha256: {"c" * 64}
boxes:
  - {{name: old, metrics: "{urls["old"]}"}}
  - {{name: new, metrics: "{urls["new"]}/"}}
  - {{name: own, metrics: "{urls["old"]}", sha256: {{top: {"A" * 64}}}}}
"""
        code, found, _ = asked(tmp_path, text, capsys, "--json")
        table = asked(tmp_path, text, capsys)[1]
    assert code == 0 and found["schema"] == "edgead.fleet/1" and found["action"] == "status"
    assert found["behind"] == ["old/top"] and found["unready"] == ["old/side", "new/side", "own/side"] and found["silent"] == []
    assert [box["edgead"] for box in found["boxes"]] == ["9.9"] * 3
    assert found["boxes"][0]["cameras"][0] == {
        "camera": "top",
        "ready": True,
        "sha256": "a" * 64,
        "engine": "openvino-int8",
        "wanted": "c" * 64,
        "behind": True,
        "verdicts": {"OK": 12, "NG": 3, "UNKNOWN": 0},
        "p50_ms": 11.0,
        "p99_ms": pytest.approx(32.4),
        "late": 3,
        "drift": ["light"],
        "notices": ["recipe"],
    }
    side = found["boxes"][0]["cameras"][1]
    assert (side["sha256"], side["behind"], side["p99_ms"]) == (None, None, None)  # it does not tell
    assert "aaaaaaaaaaaa (wanted cccccccccccc)" in table and "drift: light, recipe" in table and "NOT READY" in table
    assert "3 boxes; 1 behind: old/top; 3 not ready:" in table


def test_boxes_that_do_not_answer_are_rows_that_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe, socket.create_server(("127.0.0.1", 0)) as mute:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
        files = {
            "/good/metrics": Served(TEXT.encode()),
            "/bare/metrics": Served(b"{}", status=404),
            "/other/metrics": Served(b"go_goroutines 7\n"),
            "/moved/metrics": Served(b"", status=302),
            "/garbage/metrics": Served(bytes(range(256))),
            "/cut/metrics": Served(TEXT.encode(), cut_after=100),
            "/broken/metrics": Served(b'edgead_info{version="1" 7 7 7 {{{\n'),
        }
        with file_server(files) as url:
            rows = "".join(
                f'  - {{name: {name.split("/")[1]}, metrics: "{url}{name.removesuffix("/metrics")}"}}\n' for name in files
            )
            text = f"""boxes:
{rows}  - {{name: dark, metrics: "http://127.0.0.1:{closed}"}}
  - {{name: mute, metrics: "http://127.0.0.1:{mute.getsockname()[1]}"}}
  - {{name: nowhere, metrics: "http://no-such-box.invalid:9108"}}
"""
            code, found, err = asked(tmp_path, text, capsys, "--json", "--timeout-s", "1")
            table = asked(tmp_path, text, capsys, "--timeout-s", "1")[1]
    assert code == 0, err
    faults = {box["box"]: box["fault"] for box in found["boxes"]}
    assert faults.pop("good") == "" and set(found["silent"]) == set(faults)
    assert faults["dark"] == "Connection refused" and faults["mute"] == "no answer in time"
    assert faults["bare"].startswith("it answers 404: pip install 'edgead[metrics]' there")
    assert "is not edgead" in faults["other"] and faults["moved"].startswith("it answers 302")
    assert all(faults.values()) and all("\n" not in fault for fault in faults.values())
    assert "no answer" in table and "9 silent: bare, other" in table


def test_a_box_that_drips_or_tells_without_end_costs_its_own_row(tmp_path: Path) -> None:
    clock = FakeClock()

    def seconds() -> float:
        clock.sleep(1.0)  # each look at the clock is a second later
        return clock.now_ns() / 1e9

    with boxes(slow=TEXT * 3000, endless="# " + "x" * (9 << 20)) as urls:
        rows = "".join(f'  - {{name: {name}, metrics: "{url}"}}\n' for name, url in urls.items())
        slow = status(read_inventory(inventory(tmp_path, f"boxes:\n{rows}")), timeout_s=4.0, clock=seconds)
        found = status(read_inventory(inventory(tmp_path, f"boxes:\n{rows}")), timeout_s=60.0)
    assert slow.boxes[0].fault == "no answer in time"
    assert "it tells more than 8 MiB" in found.boxes[1].fault


def test_numbers_that_are_none_and_control_characters_reach_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = TEXT.replace(" 12\n", " NaN\n").replace(" 0.0324", " +Inf").replace('what="recipe"', 'what="\x1b[31m[red]evil"')
    with boxes(wild=wild) as urls:
        text = f'boxes: [{{name: wild, metrics: "{urls["wild"]}"}}]'
        code, found, _ = asked(tmp_path, text, capsys, "--json")
        table = asked(tmp_path, text, capsys)[1]
    (top, _) = found["boxes"][0]["cameras"]
    assert code == 0 and (top["verdicts"]["OK"], top["p99_ms"]) == (0, None)
    assert "\x1b" not in table and "[red]evil" in table


@pytest.mark.parametrize(
    "text, told",
    [
        ("boxes: []", "boxes is empty"),
        ("boxes: [{name: a}]", "a box needs metrics, records or both"),
        ("boxes: [{name: a, metrics: 'ftp://x'}]", "metrics"),
        ("boxes: [{name: a, metrics: 'http://me:pw@x:1'}]", "a password stands in the file"),
        ("boxes: [{name: a, records: x}, {name: a, records: y}]", "two boxes are called a"),
        ("boxes: [{name: a, records: x, shaa256: y}]", "did you mean sha256?"),
        ("boxes: [{name: a, records: x, sha256: 12}]", "sha256"),
        ("boxes: [{name: a, records: x}]\nsha256:", "sha256 is empty"),
        ("nothing: 1", "unknown key"),
        ("[", "line 1"),
    ],
)
def test_a_mistake_in_the_inventory_is_named(text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = asked(tmp_path, text, capsys)
    assert code == 2 and told in err and "boxes.yaml" in err and "pw@" not in err


def test_an_inventory_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "status", str(tmp_path / "no.yaml")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_running_station_tells_its_bundle_its_verdicts_and_its_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_vouched(tmp_path / "bolt.edgead")
    (tmp_path / "pictures").mkdir()
    for i, defect in enumerate((False, True)):
        cv2.imwrite(str(tmp_path / f"pictures/{i}.png"), picture(5 + i, defect))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "station.yaml").write_text(
        f"name: line\ncameras: [{{name: top, address: '{tmp_path}/pictures', bundle: bolt.edgead,"
        " trigger: {source: interval, every_ms: 50}, budget_ms: 20000}]\n"
        f"storage: {{folder: data, pictures: null}}\nsupervision: {{http: '127.0.0.1:{port}'}}\n"
    )
    digest = Bundle.open(bundle).digest
    here = f"{{name: here, metrics: 'http://127.0.0.1:{port}', records: data}}"
    text = f"sha256: {digest}\nboxes: [{here}, {{name: gone, records: nowhere}}]"
    with Station.from_file(tmp_path / "station.yaml") as station:
        runner = threading.Thread(target=station.run, name="test-run")
        runner.start()
        try:
            until(lambda: station.lanes[0].station.stats.verdicts["NG"] == 1, what="both pictures")
            until(lambda: station.lanes[0].store is not None and station.lanes[0].store.written >= 2, what="their records")
            code, found, _ = asked(tmp_path, text, capsys, "--json")
        finally:
            station.stop()
            runner.join(PATIENCE_S)
    assert code == 0 and not runner.is_alive()
    here, gone = found["boxes"]
    (top,) = here["cameras"]
    assert (top["sha256"], top["behind"], top["engine"]) == (digest, False, "onnxruntime-fp32")
    assert top["verdicts"]["OK"] == top["verdicts"]["NG"] == 1 and top["p99_ms"] > 0
    (kept,) = here["records"]
    assert (kept["camera"], kept["sha256"], kept["fault"]) == ("top", digest, "") and kept["verdicts"]["NG"] == 1 and kept["last"]
    assert gone["answers"] is None and "does not exist" in gone["records"][0]["fault"]
