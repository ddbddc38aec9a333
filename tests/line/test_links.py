"""From station.yaml to the adapters of PLCs and outputs, and to the maps for the PLC's programmer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgead.clock import MonotonicClock
from edgead.config.camera import CameraConfig
from edgead.config.reading import read_station
from edgead.errors import BadInput
from edgead.line.links import open_link, open_output
from edgead.registry import names, resolve
from edgead.runtime.outputs.mqtt import MqttOutput
from edgead.runtime.outputs.webhook import WebhookOutput
from edgead.runtime.plc.ethernetip import EtherNetIpLink
from edgead.runtime.plc.modbus import ModbusClientLink
from edgead.runtime.plc.s7 import S7Link
from edgead.runtime.plc.signals import SIGNALS
from edgead.runtime.plc.tags import s7_address

DEPLOY = Path(__file__).resolve().parents[2] / "edgead/deploy/plc"


def camera(folder: Path, lines: str) -> CameraConfig:
    file = folder / "station.yaml"
    file.write_text(f"name: line\ncameras:\n  - {{name: top, address: sim, bundle: b.edgead, {lines}}}\n")
    return read_station(file).cameras[0]


@pytest.mark.parametrize(
    ("plc", "kind"),
    [
        ("{type: s7, host: 10.0.0.9, rack: 0, slot: 2, db_number: 40}", S7Link),
        ("{type: ethernetip, host: 10.0.0.9, slot: 3, to_plc_tag: 'Program:Main.ToPlc'}", EtherNetIpLink),
        ("{type: modbus-client, host: 10.0.0.9}", ModbusClientLink),
    ],
)
def test_each_plc_of_the_file_becomes_its_link(tmp_path: Path, plc: str, kind: type) -> None:
    config = camera(tmp_path, f"plc: {plc}").plc
    assert config is not None
    link = open_link(config)
    assert type(link) is kind and resolve("link", config.type) is kind
    link.close()


def test_mqtt_and_webhook_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAD_TEST_SECRET", "s3cret")
    mqtt = "{type: mqtt, host: 127.0.0.1, port: 9, topic: a/b, tls: false, user: u, password: '${EDGEAD_TEST_SECRET}'}"
    hook = "{type: webhook, url: 'http://127.0.0.1:9/x', headers: {Authorization: 'Bearer ${EDGEAD_TEST_SECRET}'}, ca: hook.pem}"
    outputs = camera(tmp_path, f"outputs: [{mqtt}, {hook}]").outputs
    assert outputs[1].ca == tmp_path / "hook.pem"  # type: ignore[union-attr]
    made = [open_output(config, MonotonicClock(), "top") for config in outputs]
    assert [type(each) for each in made] == [MqttOutput, WebhookOutput]
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("outputs: [{type: mqtt, host: h, topic: t, user: u, password: s3cret}]", "a password stands in the file"),
        (
            "outputs: [{type: webhook, url: 'https://h', headers: {Authorization: Bearer s3cret}}]",
            "a password stands in the file",
        ),
        ("outputs: [{type: webhook, url: 'https://h', headers: {'X-Api-Key': s3cret}}]", "a password stands in the file"),
        ("plc: {type: s7, host: h, db_number: 0}", "db_number"),
        ("plc: {type: s7, host: h, rak: 0}", "unknown key"),
        ("plc: {type: profinet, host: h}", "'profinet' is not known"),
        ("outputs: [{type: mqtt, host: h}]", "topic: is missing"),
    ],
)
def test_mistakes_are_named_without_secrets(tmp_path: Path, lines: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        camera(tmp_path, lines)
    assert "s3cret" not in str(caught.value) and "line 3" in str(caught.value)


def test_every_name_of_the_registry_is_there() -> None:
    for kind in ("link", "output"):
        for name in names(kind):
            assert callable(resolve(kind, name))


def test_the_maps_name_every_signal_once() -> None:
    s7, source, tags = ((DEPLOY / name).read_text() for name in ("s7.md", "s7.db", "ethernetip.md"))
    for signal in SIGNALS:
        assert f"| `{signal.name}` | {s7_address(signal)} |" in s7
        assert f" {signal.name} : " in source and f"| `{signal.name}` | `Edgead_" in tags
    addresses = [s7_address(signal) for signal in SIGNALS]
    assert len(set(addresses)) == len(addresses)
    assert json.loads((DEPLOY / "inspection.schema.json").read_text())["properties"]["verdict"]["enum"] == ["OK", "NG", "UNKNOWN"]
