"""What one camera has for itself alone is refused to the next one, both places named, before anything is opened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgead.cli.main import main
from edgead.config.reading import read_station
from edgead.errors import BadInput
from edgead.runtime.outputs.mqtt import MqttOutput, MqttSettings

MODBUS = {"type": "modbus-client", "host": "10.0.0.9"}
S7 = {"type": "s7", "host": "10.0.0.9", "db_number": 40}
EIP = {"type": "ethernetip", "host": "10.0.0.9"}
OPCUA = {"type": "opcua-client", "url": "opc.tcp://10.0.0.9:4840/plc", "security": "none"}
SERVER = {"type": "modbus-server", "port": 5020}
VISION = {"type": "opcua-server", "port": 4840, "anonymous": True}
MQTT = {"type": "mqtt", "host": "broker", "topic": "plant/line1"}
GPIO = {"type": "gpio", "ok": 3}


def camera(name: str, *, plc: Any = None, output: Any = None, address: str = "sim", trigger: Any = None) -> dict[str, Any]:
    """A camera with one PLC or output."""
    found: dict[str, Any] = {"name": name, "address": address, "bundle": "b.edgead", "budget_ms": 100}
    found["trigger"] = trigger or ({"source": "plc"} if plc else {"source": "interval", "every_ms": 500})
    return {**found, **({"plc": plc} if plc else {}), **({"outputs": [output]} if output else {})}


def station(folder: Path, *cameras: dict[str, Any], **top: Any) -> Path:
    file = folder / "station.yaml"
    file.write_text(yaml.safe_dump({"name": "t", "cameras": list(cameras), **top}, sort_keys=False), "utf-8")
    return file


def refused(file: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_station(file)
    assert caught.value.hint and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (MODBUS, MODBUS, "registers 0 to 12 of unit 1 at 10.0.0.9:502"),
        (MODBUS, {**MODBUS, "to_plc_address": 12, "from_plc_address": 200}, "registers 12 to 24"),
        (MODBUS, {**MODBUS, "to_plc_address": 94, "from_plc_address": 200}, "registers 94 to 106"),  # ours over the PLC's
        (MODBUS, {**MODBUS, "to_plc_address": 50, "from_plc_address": 106}, "registers 106 to 112"),  # a block read by two
        (MODBUS, {**MODBUS, "host": "10.0.0.9."}, "10.0.0.9.:502"),
        ({**MODBUS, "host": "plc.Plant"}, {**MODBUS, "host": "PLC.plant."}, "registers"),
        ({**MODBUS, "host": "localhost"}, {**MODBUS, "host": "127.0.0.1"}, "registers"),
        ({**MODBUS, "host": "127.1"}, {**MODBUS, "host": "::1"}, "registers"),
        ({**MODBUS, "host": "::ffff:10.0.0.9"}, MODBUS, "registers"),
        ({**MODBUS, "unit": 0}, {**MODBUS, "unit": 255}, "unit 255"),
        (S7, S7, "DB40 of the PLC at 10.0.0.9:102"),
        (S7, {**S7, "slot": 0}, "DB40"),
        (EIP, EIP, "the tag Edgead_ToPlc"),
        (EIP, {**EIP, "to_plc_tag": "EDGEAD_TOPLC", "from_plc_tag": "x"}, "the tag EDGEAD_TOPLC"),
        ({**EIP, "to_plc_tag": "Program:MAIN.A"}, {**EIP, "to_plc_tag": "program:main.a", "from_plc_tag": "x"}, "program:main.a"),
        ({**EIP, "to_plc_tag": "All[0]"}, {**EIP, "to_plc_tag": "All[9]", "from_plc_tag": "x"}, "All[9]"),
        ({**EIP, "to_plc_tag": "All"}, {**EIP, "to_plc_tag": "x", "from_plc_tag": "All[9]"}, "All[9]"),
        ({**EIP, "to_plc_tag": "S[2].To"}, {**EIP, "to_plc_tag": "s[2].to", "from_plc_tag": "x"}, "s[2].to"),
        ({**EIP, "to_plc_tag": "S[2].To"}, {**EIP, "to_plc_tag": "S[02].To", "from_plc_tag": "x"}, "S[02].To"),
        (OPCUA, OPCUA, "the node ns=2;s=edgead.to_plc.ready"),
        (OPCUA, {**OPCUA, "url": "opc.tcp://10.0.0.9:4840/other"}, "the node"),
        (OPCUA, {**OPCUA, "url": "opc.tcp://10.0.0.9"}, "the node"),
        (OPCUA, {**OPCUA, "node": "nsu=urn:plc;s=edgead.{block}.{signal}"}, "nsu=urn:plc;s=edgead.to_plc.ready"),
        (
            OPCUA,
            {**OPCUA, "node": "ns=2;s=b.{block}.{signal}", "nodes": {"from_plc.trigger": "ns=02;s=edgead.from_plc.trigger"}},
            "plc.nodes.from_plc.trigger",
        ),
        (SERVER, SERVER, "port 5020 of 127.0.0.1"),
        (SERVER, {**SERVER, "bind": "0.0.0.0"}, "port 5020 of 0.0.0.0"),
        (SERVER, {**VISION, "port": 5020, "bind": "LOCALHOST"}, "port 5020"),
    ],
)  # fmt: skip
def test_two_cameras_cannot_have_one_block_of_a_plc(tmp_path: Path, first: Any, second: Any, words: str) -> None:
    file = station(tmp_path, camera("left", plc=first), camera("right", plc=second))
    told = refused(file)
    assert words in told and "(right)" in told
    assert re.search(r"line \d+: cameras\[1\]\.plc\.", told) and re.search(r"cameras\[0\]\.plc\.\w+ \(left, line \d+\)", told)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MODBUS, {**MODBUS, "to_plc_address": 13, "from_plc_address": 107}),
        (MODBUS, {**MODBUS, "host": "10.0.0.10"}),
        (MODBUS, {**MODBUS, "port": 503}),
        (MODBUS, {**MODBUS, "unit": 2}),
        (S7, {**S7, "db_number": 41}),
        (S7, {**S7, "slot": 3}),
        (EIP, {**EIP, "to_plc_tag": "A", "from_plc_tag": "B"}),
        ({**EIP, "to_plc_tag": "All[0]"}, {**EIP, "to_plc_tag": "All[10]", "from_plc_tag": "x"}),
        ({**EIP, "to_plc_tag": "S[2].To"}, {**EIP, "to_plc_tag": "S[3].To", "from_plc_tag": "x"}),
        ({**EIP, "to_plc_tag": "M[0,0]"}, {**EIP, "to_plc_tag": "M[1,0]", "from_plc_tag": "x"}),
        ({**EIP, "to_plc_tag": "A"}, {**EIP, "to_plc_tag": "Program:P.A", "from_plc_tag": "x"}),
        (OPCUA, {**OPCUA, "node": "ns=2;s=right.{block}.{signal}"}),
        (OPCUA, {**OPCUA, "node": "ns=3;s=edgead.{block}.{signal}"}),
        (OPCUA, {**OPCUA, "url": "opc.tcp://10.0.0.10:4840/plc"}),
        (SERVER, {**SERVER, "port": 5021}),
        (SERVER, {**SERVER, "bind": "10.0.0.1"}),
    ],
)
def test_two_cameras_may_share_a_plc(tmp_path: Path, first: Any, second: Any) -> None:
    assert len(read_station(station(tmp_path, camera("left", plc=first), camera("right", plc=second))).cameras) == 2


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (MQTT, MQTT, "the topic plant/line1 of the broker broker:8883"),
        (MQTT, {**MQTT, "client_id": "x"}, "the topic plant/line1"),
        (MQTT, {**MQTT, "host": "BROKER.", "tls": False}, "the topic plant/line1"),
        (MQTT, {**MQTT, "topic": "plant-line1"}, "the client id edgead-plant-line1"),
        ({**MQTT, "client_id": "x"}, {**MQTT, "topic": "other", "client_id": "x"}, "outputs[0].client_id"),
        (GPIO, {"type": "gpio", "kick": 3}, "line 3 of /dev/gpiochip0"),
        (GPIO, {**GPIO, "chip": "/dev/../dev/gpiochip0"}, "line 3"),
        (GPIO, {**GPIO, "chip": "gpiochip0"}, "line 3"),
    ],
)
def test_two_cameras_cannot_have_one_output(tmp_path: Path, first: Any, second: Any, words: str) -> None:
    told = refused(station(tmp_path, camera("left", output=first), camera("right", output=second)))
    assert words in told and "cameras[1].outputs[0]" in told and "cameras[0].outputs[0]" in told


def test_the_same_in_one_camera_a_part_and_the_supervision(tmp_path: Path) -> None:
    gpio = {"source": "gpio", "line": 3}
    told = refused(station(tmp_path, camera("left", output=GPIO, trigger=gpio)))
    assert "cameras[0].outputs[0].ok" in told and "cameras[0].trigger.line (left, line" in told
    assert "cameras[1].trigger.line" in refused(station(tmp_path, camera("left", trigger=gpio), camera("right", trigger=gpio)))
    assert "outputs[0].reject" in refused(station(tmp_path, camera("left", output={**GPIO, "reject": 3})))
    own = camera("left", plc={**MODBUS, "to_plc_address": 100})
    assert "cameras[0].plc.from_plc_address (left): registers 100 to 106" in refused(station(tmp_path, own))
    own = camera("left", plc={**SERVER, "to_plc_address": 100})
    assert "registers 100 to 106" in refused(station(tmp_path, own))
    told = refused(station(tmp_path, camera("left", plc=SERVER), supervision={"http": "0.0.0.0:5020"}))
    assert "supervision.http" in told and "cameras[0].plc.port (left, line" in told
    views = [{"name": name, "address": "sim", "bundle": "b.edgead"} for name in ("a", "b")]
    part = {"name": "both", "cameras": ["a", "b"], "trigger": {"source": "plc"}, "budget_ms": 100, "plc": MODBUS}
    assert "parts[0].plc.to_plc_address (both)" in refused(station(tmp_path, camera("c", plc=MODBUS), *views, parts=[part]))


def test_a_camera_has_one_place_and_a_folder_of_its_own(tmp_path: Path) -> None:
    taken = [("0", "usb:0"), ("usb:0?exposure_us=1", "/dev/video0"), ("gige:123", "gige:123?gain_db=1"), ("gige:", "gige:123"),
             ("gige:10.0.0.7", "basler:10.0.0.7"), ("gst:v4l2src device=/dev/video0 ! x", "0")]  # fmt: skip
    for first, second in taken:
        assert "cameras[1].address" in refused(station(tmp_path, camera("a", address=first), camera("b", address=second)))
    for first, second in (("rtsp://h/s", "rtsp://h/s"), ("sim", "sim"), ("0", "1"), ("gige:1", "gige:2"), ("gige:", "basler:2")):
        read_station(station(tmp_path, camera("a", address=first), camera("b", address=second)))
    told = refused(station(tmp_path, camera("Top"), camera("top"), storage={"folder": "data"}))
    assert "cameras[1].name" in told and "cameras[0].name (Top, line" in told
    (tmp_path / "data" / "left").mkdir(parents=True)
    (tmp_path / "data" / "right").symlink_to(tmp_path / "data" / "left")
    assert "cameras[1].name" in refused(station(tmp_path, camera("left"), camera("right"), storage={"folder": "data"}))


def test_station_check_and_run_say_it_and_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(station(tmp_path, camera("left", output=MQTT), camera("right", output=MQTT)))
    for verb in (["station", "check", file], ["run", file]):
        assert main(verb) == 2
        assert "cameras[0].outputs[0].topic (left, line" in capsys.readouterr().err


def test_the_client_id_is_the_one_that_the_output_takes() -> None:
    output = MqttOutput(MqttSettings(host="127.0.0.1", topic="plant/line1", port=1, tls=False), "top")
    assert output._client._client_id == b"edgead-plant-line1"
    output.close()


def test_blocks_beyond_the_last_register_and_patterns_without_signals_are_told_at_check(tmp_path: Path) -> None:
    assert "goes beyond register 65535" in refused(station(tmp_path, camera("a", plc={**MODBUS, "to_plc_address": 65530})))
    assert "needs {block} and {signal}" in refused(station(tmp_path, camera("a", plc={**OPCUA, "node": "ns=2;s=x"})))
