"""Metrics are those that the station counts, and the box's, as far as it tells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgead.errors import CameraTimeout, EngineError
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.examiner import Answerer
from edgead.runtime.loop.station import Station
from edgead.runtime.records.overlay import HeatScale
from edgead.runtime.records.pictures import PictureFolder
from edgead.runtime.records.store import RecordStore
from edgead.runtime.supervision.boxstate import Reading, read_box, read_process
from edgead.runtime.supervision.metrics import Metrics
from edgead.testing import FakeCamera, FakeClock, FakeEngine
from edgead.types import Image

FRAME: Image = np.full((64, 64, 3), 10, np.uint8)


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Name and label values in alphabetical order -> value."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.values()))
            assert key not in found, f"{key} stands there twice"
            found[key] = sample.value
    return found


def test_who_answers_stands_there_also_after_a_change() -> None:
    first, second = (Answerer(FakeEngine([1.0]), PreprocessRecipe(64, 64), 100.0, name, name * 64) for name in ("a", "b"))
    station = Station(
        FakeCamera([FRAME]),
        first.engine,
        first.recipe,
        100.0,
        clock=FakeClock(),
        engine_name="a",
        bundle="a" * 64,
        fallback=second,
    )
    with station:
        metrics = Metrics({"line": station})
        before = {key for key in samples(metrics.render()[1]) if key[0] == "edgead_bundle_info"}
        station.change(second)
        after = {key for key in samples(metrics.render()[1]) if key[0] == "edgead_bundle_info"}
        station.run()
    main, fallback = (("edgead_bundle_info", *sorted((n, n * 64, "line", r))) for n, r in (("a", "main"), ("b", "fallback")))
    assert before == {main, fallback}
    assert after == {("edgead_bundle_info", *sorted(("b", "b" * 64, "line", "main")))}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")
def test_promtool_finds_nothing_to_say_of_it(tmp_path: Path) -> None:
    clock = FakeClock()
    station = Station(
        CountingCamera([FRAME] * 3), FakeEngine([1.0, 500.0, EngineError("x")]), PreprocessRecipe(64, 64), 100.0, clock=clock
    )
    store = RecordStore(tmp_path / "records")
    with station.on_record(store.write):
        station.run()
    store.close()
    body = Metrics({"line": station}, stores={"line": store}).render()[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


class CountingCamera(FakeCamera):
    def counters(self) -> dict[str, int]:
        return {"incomplete": 3}


def test_what_devices_count_themselves_stands_there() -> None:
    station = Station(CountingCamera([FRAME]), FakeEngine([1.0]), PreprocessRecipe(64, 64), 100.0, clock=FakeClock())
    with station:
        station.run()
    assert samples(Metrics({"line": station}).render()[1])["edgead_device_events_total", "camera", "incomplete", "line"] == 3


def test_what_a_station_did_stands_there(tmp_path: Path) -> None:
    script = [FRAME, FRAME, CameraTimeout("silence"), FRAME, FRAME]
    clock = FakeClock()
    engine = FakeEngine([1.0, 500.0, EngineError("gone"), 1.0], clock=clock, takes_s=0.25)
    station = Station(FakeCamera(script, clock=clock), engine, PreprocessRecipe(64, 64), 100.0, clock=clock)
    store = RecordStore(tmp_path / "records")
    pictures = PictureFolder(tmp_path / "pictures", HeatScale(0.0, 100.0), on_saved=store.attach)
    station.on_record(store.write).on_inspection(pictures.save)
    with station:
        station.run()
    store.close()
    metrics = Metrics({"line": station}, stores={"line": store}, folders={"line": pictures}, sysfs=tmp_path)
    kind, body = metrics.render()
    assert kind.startswith("text/plain")
    found = samples(body)
    assert found["edgead_verdicts_total", "OK", "line"] == 2
    assert found["edgead_verdicts_total", "NG", "line"] == 1
    assert found["edgead_causes_total", "camera_timeout", "line"] == 1
    assert found["edgead_causes_total", "engine_error", "line"] == 1
    assert found["edgead_frames_total", "line"] == 4
    assert found["edgead_stage_seconds_count", "line", "total"] == 4
    assert found["edgead_stage_seconds_bucket", "+Inf", "line", "total"] == 4
    assert found["edgead_stage_seconds_bucket", "0.2", "inference", "line"] == 0
    assert found["edgead_stage_seconds_bucket", "0.5", "inference", "line"] == 4
    assert found["edgead_stage_seconds_sum", "inference", "line"] == 1.0
    assert found["edgead_ready", "line"] == 0  # it has stopped
    assert found["edgead_recent_verdict_seconds", "50", "line"] == 0.25
    assert found["edgead_bundle_info", "", "", "line", "main"] == 1  # an engine of tests, from no bundle
    assert found["edgead_open_parts", "line"] == 0
    assert found["edgead_records_written_total", "line"] == 5
    assert found["edgead_records_lost_total", "line"] == found["edgead_pictures_lost_total", "line"] == 0
    assert found["edgead_pictures_saved_total", "line"] == 2  # NG and the engine's fault; there is no picture of silence
    assert found["edgead_pictures_bytes", "line"] == sum(f.stat().st_size for f in (tmp_path / "pictures").iterdir())
    assert found[("edgead_process_memory_bytes",)] > 1e6
    assert found[("edgead_process_threads",)] >= 1
    assert not any(key[0].startswith("edgead_box") for key in found)


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_box_tells_of_heat_and_throttling(tmp_path: Path) -> None:
    zones, chip, cpu = "class__thermal__", "class__hwmon__hwmon2__", "devices__system__cpu__cpu0__"
    write(
        tmp_path,
        **{f"{zones}thermal_zone0__type": "tj-thermal\n", f"{zones}thermal_zone0__temp": "61500\n"},
        **{f"{zones}thermal_zone1__type": "tj-thermal\n", f"{zones}thermal_zone1__temp": "garbage\n"},
        **{f"{zones}thermal_zone2__type": "off\n"},
        **{f"{zones}cooling_device0__type": "pwm-fan", f"{zones}cooling_device0__cur_state": "1"},
        **{f"{zones}cooling_device0__max_state": "4"},
        **{f"{chip}name": "coretemp", f"{chip}temp1_input": "48000", f"{chip}temp1_label": "Package id 0"},
        **{f"{chip}oc1_event_cnt": "3", f"{cpu}thermal_throttle__core_throttle_count": "17"},
        **{f"{cpu}cpufreq__scaling_cur_freq": "1500000", f"{cpu}cpufreq__scaling_max_freq": "2200000"},
    )
    assert read_box(tmp_path) == [
        Reading("cooling", "pwm-fan", "cooling_device0", 0.25),
        Reading("frequency", "cpu0", "cpu0", 1.5e9),
        Reading("frequency_limit", "cpu0", "cpu0", 2.2e9),
        Reading("temperature", "coretemp Package id 0", "hwmon2/temp1", 48.0),
        Reading("temperature", "tj-thermal", "thermal_zone0", 61.5),
        Reading("throttled", "core", "cpu0/core", 17.0),
        Reading("throttled", "coretemp oc1", "hwmon2/oc1_event_cnt", 3.0),
    ]
    found = samples(Metrics({}, sysfs=tmp_path).render()[1])
    assert found["edgead_box_temperature_celsius", "thermal_zone0", "tj-thermal"] == 61.5
    assert found["edgead_box_throttle_events_total", "core", "cpu0/core"] == 17


def test_this_process_has_memory_and_threads_and_elsewhere_nothing_is_told(tmp_path: Path) -> None:
    assert read_process()["Threads"] >= 1
    assert read_process(tmp_path) == {}
    assert read_box(tmp_path) == []
