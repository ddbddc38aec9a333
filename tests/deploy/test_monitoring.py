"""Alert rules and dashboard: promtool takes them, their tests pass, and every metric that they name is one that edgead serves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.station import Station
from edgead.runtime.products.drift import KINDS as DRIFT
from edgead.runtime.records.overlay import HeatScale
from edgead.runtime.records.pictures import PictureFolder
from edgead.runtime.records.store import RecordStore
from edgead.runtime.supervision.metrics import Metrics
from edgead.testing import FakeCamera, FakeClock, FakeEngine

FOLDER = Path(__file__).resolve().parents[2] / "edgead/deploy"
RULES = FOLDER / "prometheus/edgead.rules.yml"
DASHBOARD = FOLDER / "grafana/edgead.json"
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of all series that a station with records, pictures and a box that tells of itself serves."""
    folder = tmp_path_factory.mktemp("served")
    throttle = folder / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    zone = folder / "sys/class/thermal/thermal_zone0"
    for file, text in ((throttle, "1"), (zone / "type", "cpu"), (zone / "temp", "40000")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    station = Station(
        FakeCamera([np.zeros((64, 64, 3), np.uint8)]), FakeEngine([1.0]), PreprocessRecipe(64, 64), 1.0, clock=FakeClock()
    )
    store, pictures = RecordStore(folder / "records"), PictureFolder(folder / "pictures", HeatScale(0.0, 1.0))
    with station:
        metrics = Metrics({"a": station}, stores={"a": store}, folders={"a": pictures}, sysfs=folder / "sys")
        text = metrics.render()[1].decode()
        station.run()
    store.close()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    return {name for name, kind in kinds.items() if kind != "histogram"} | {
        f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")
    }


def queries(value: Any) -> Iterator[str]:
    """All that stands under "expr", however deep, and the queries of variables."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key in ("expr", "definition") and isinstance(inner, str):
            yield inner
        else:
            yield from queries(inner)


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=lambda file: file.name)
def test_every_metric_that_is_asked_for_is_served(file: Path, served: set[str]) -> None:
    found = list(queries(yaml.safe_load(file.read_text("utf-8"))))
    named = {name for query in found for name in re.findall(r"\bedgead_\w+", query)}
    assert len(found) >= 12 and len(named) >= 8
    assert named - served == set()


def test_alerts_on_notices_name_notices_that_there_are() -> None:
    text = RULES.read_text("utf-8")
    (drift, refused) = re.findall(r'edgead_notice\{what=~"([^"]+)"\}', text)
    assert set(drift.split("|")) == set(DRIFT)
    book = (FOLDER.parent / "runtime/products/recipes.py").read_text("utf-8")
    applied = (FOLDER.parent / "runtime/products/applied.py").read_text("utf-8")
    assert all(f'"{name}"' in book + applied for name in refused.split("|"))


@promtool
def test_promtool_takes_rules_and_example_and_their_tests_pass() -> None:
    for arguments in (
        ("check", "rules", "edgead.rules.yml"),
        ("check", "config", "prometheus.example.yml"),
        ("test", "rules", "edgead.rules.test.yml"),
    ):
        done = subprocess.run(["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_every_alert_has_a_test_and_says_what_to_do() -> None:
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    tested = {
        one["alertname"]
        for case in yaml.safe_load((RULES.parent / "edgead.rules.test.yml").read_text("utf-8"))["tests"]
        for one in case["alert_rule_test"]
        if "exp_alerts" in one
    }
    assert {rule["alert"] for rule in group["rules"]} == tested
    assert all(rule["annotations"]["action"] and rule["labels"]["severity"] in ("page", "ticket") for rule in group["rules"])


@promtool
def test_promtool_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 12
    rules = [{"record": f"edgead:{i}", "expr": query} for i, query in enumerate(queries(panels))]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout, done.stdout + done.stderr
