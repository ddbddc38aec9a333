"""Verdicts over MQTT to a real Mosquitto with TLS and passwords, that is stopped, killed and restarted."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest

from edgead.errors import BadInput, OutputError
from edgead.runtime.outputs.mqtt import MqttOutput, MqttSettings
from edgead.runtime.records.payload import InspectionPayload
from edgead.types import Frame, Inspection, StageTimes, Trigger, Verdict
from tests.servers.mosquitto import PASSWORD, USER, Broker, make_certificate, mosquitto_is_missing
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.skipif(bool(mosquitto_is_missing()), reason=mosquitto_is_missing())

TOPIC = "plant/line1/top"


def inspection(part_id: int, verdict: Verdict = Verdict.NG) -> Inspection:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), "rtsp://user:hunter2@cam/1", part_id, 5, source="a.png")
    cause = "late" if verdict is Verdict.UNKNOWN else ""
    return Inspection(part_id, verdict, cause, float("nan"), 2.0, None, StageTimes(), frame, Trigger(part_id, 4, 70 + part_id))


class Listener:
    """A subscriber whose session survives the broker's death: what it saw, by topic."""

    def __init__(self, broker: Broker) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
        self._client.tls_set(str(broker.ca))
        self._client.username_pw_set(USER, PASSWORD)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = lambda client, data, message: self.seen.append((message.topic, json.loads(message.payload)))
        ready = threading.Event()
        self._client.on_connect = lambda client, data, flags, code, more: client.subscribe(f"{TOPIC}/#", qos=1)
        self._client.on_subscribe = lambda *arguments: ready.set()
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert ready.wait(PATIENCE_S)

    def parts(self) -> list[int]:
        """Each part once: QoS 1 may deliver twice."""
        return sorted({message["part_id"] for topic, message in self.seen if topic == f"{TOPIC}/inspection"})

    def states(self) -> list[str]:
        return [" ".join((m["state"], m["reason"])).strip() for topic, m in self.seen if topic == f"{TOPIC}/state"]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    listener = Listener(broker)
    yield listener
    listener.close()


Make = Callable[..., MqttOutput]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[MqttOutput] = []

    def output(broker: Broker, **options: Any) -> MqttOutput:
        known: dict[str, Any] = {"host": "127.0.0.1", "port": broker.port, "ca": broker.ca, "user": USER, "password": PASSWORD}
        made.append(MqttOutput(MqttSettings(topic=TOPIC, **{**known, **options}), "top"))
        return made[-1]

    yield output
    for each in made:
        each.close()


def test_each_verdict_arrives_as_the_schema_says_and_the_state_is_kept(broker: Broker, listener: Listener, make: Make) -> None:
    output = make(broker)
    for part_id, verdict in enumerate(Verdict, start=1):
        output.signal(inspection(part_id, verdict))
    until(lambda: output.counts().get("confirmed") == 3 and len(listener.parts()) == 3)
    messages = [InspectionPayload.model_validate(message) for topic, message in listener.seen if topic.endswith("/inspection")]
    assert not any(m.model_extra or m.times.model_extra for m in messages)
    assert [(m.part_id, m.verdict, m.cause, m.score, m.line_part_id, m.station) for m in messages] == [
        (1, "OK", "", None, 71, "top"),
        (2, "NG", "", None, 72, "top"),
        (3, "UNKNOWN", "late", None, 73, "top"),
    ]
    assert "hunter2" not in json.dumps(listener.seen)
    output.close()
    until(lambda: listener.states()[-1:] == ["offline closed"])
    assert "online" in listener.states()
    assert output.counts() == {"accepted": 3, "confirmed": 3, "waiting": 0, "lost": 0}
    output.close()
    with pytest.raises(OutputError, match="closed"):
        output.signal(inspection(4))


def test_only_bad_parts_when_asked(broker: Broker, listener: Listener, make: Make) -> None:
    output = make(broker, which="not_ok")
    for part_id, verdict in enumerate(Verdict, start=1):
        output.signal(inspection(part_id, verdict))
    until(lambda: listener.parts() == [2, 3])


def test_a_process_that_is_killed_is_offline_by_its_last_will(broker: Broker, listener: Listener) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom edgead.runtime.outputs.mqtt import MqttOutput, MqttSettings\n"
        f"MqttOutput(MqttSettings(host='127.0.0.1', topic='{TOPIC}', port={broker.port}, ca=Path('{broker.ca}'),\n"
        f"                        user='{USER}', password=sys.argv[1]), 'top')\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, PASSWORD])
    until(lambda: listener.states()[-1:] == ["online"])
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: listener.states()[-1:] == ["offline lost"])


def test_a_broker_that_is_killed_and_started_again_gets_every_verdict(broker: Broker, listener: Listener, make: Make) -> None:
    output = make(broker)
    for part_id in range(1, 11):
        output.signal(inspection(part_id))
    until(lambda: output.counts().get("confirmed") == 10)
    broker.kill()
    for part_id in range(11, 31):
        output.signal(inspection(part_id))
    until(lambda: output.counts().get("failed:lost"))
    assert output.counts()["waiting"] == 20
    broker.start()
    until(lambda: listener.parts() == list(range(1, 31)))
    until(lambda: output.counts()["confirmed"] == 30)  # the broker tells the listener first
    assert output.counts().get("lost", 0) == 0


def test_a_broker_that_stands_still_loses_only_what_has_no_room(broker: Broker, listener: Listener, make: Make) -> None:
    output = make(broker, max_waiting=20)
    until(lambda: output.connected)
    broker.pause()
    for part_id in range(1, 21):
        output.signal(inspection(part_id))
    for part_id in (21, 22):
        with pytest.raises(OutputError, match="20 are held already"):
            output.signal(inspection(part_id))
    assert output.counts() == {"accepted": 20, "waiting": 20, "lost": 2}
    broker.resume()
    until(lambda: listener.parts() == list(range(1, 21)))
    until(lambda: output.counts()["waiting"] == 0)


def test_closing_against_a_broker_that_stands_still_counts_what_was_not_confirmed(broker: Broker, make: Make) -> None:
    output = make(broker)
    until(lambda: output.connected)
    broker.pause()
    output.signal(inspection(1))
    output.close()
    assert output.counts() == {"accepted": 0, "waiting": 0, "lost": 1}
    broker.resume()


@pytest.mark.parametrize(
    ("options", "cause", "text"),
    [
        ({"password": "wrong"}, "credentials", "refuses: Not authorized"),
        ({"ca": None}, "certificate", "certificate verify failed"),
        ({"tls": False, "ca": None}, "refused", "closes the connection"),
    ],
    ids=["wrong password", "unknown authority", "no tls"],
)
def test_what_is_wrong_is_counted_and_told_once_without_secrets(
    broker: Broker, make: Make, caplog: pytest.LogCaptureFixture, options: dict[str, Any], cause: str, text: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        output = make(broker, max_waiting=1, **options)
        output.signal(inspection(1))
        until(lambda: any(key.startswith(f"failed:{cause}") for key in output.counts()))
        with pytest.raises(OutputError, match=text):
            output.signal(inspection(2))
        output.close()
    assert not output.connected and output.counts()["lost"] == 2
    assert PASSWORD not in caplog.text and "wrong" not in caplog.text.replace("wrong version", "")


def test_an_expired_certificate_is_refused(tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(tmp_path, days=-1)
    broker.start()
    output = make(broker)
    until(lambda: "certificate has expired (_ssl.c" in caplog.text and ") (this computer's clock says 20" in caplog.text)
    assert output.counts()["failed:certificate"] >= 1
    output.close()
    broker.kill()


def test_a_broker_that_asks_for_a_client_certificate(tmp_path: Path, make: Make) -> None:
    cert, key = make_certificate(tmp_path, "station")
    broker = Broker(tmp_path, clients=cert)
    broker.start()
    known, stranger = make(broker, cert=cert, key=key), make(broker, client_id="stranger")
    until(lambda: known.connected)
    until(lambda: any(key.startswith("failed:") for key in stranger.counts()))
    assert not stranger.connected
    for output in (known, stranger):
        output.close()
    broker.kill()


def test_a_certificate_for_another_name_is_refused(broker: Broker, make: Make) -> None:
    output = make(broker, host="localhost")
    until(lambda: output.counts().get("failed:certificate"))
    output.close()


def test_nobody_there_is_counted(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        output = MqttOutput(MqttSettings(host="127.0.0.1", topic=TOPIC, port=probe.getsockname()[1]), "top")
        output.signal(inspection(1))
        until(lambda: output.counts().get("failed:connect"))
        output.close()
    assert output.counts()["lost"] == 1


@pytest.mark.parametrize("topic", ["", "a/#", "a/+/b", "$SYS/a", "/a", "a/", "x" * 1001])
def test_topics_that_cannot_be_published_to_are_bad_input(topic: str) -> None:
    with pytest.raises(BadInput, match="topic"):
        MqttOutput(MqttSettings(host="127.0.0.1", topic=topic), "top")


def test_options_that_make_no_sense_are_bad_input(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, "own")
    other = make_certificate(tmp_path, "other")[1]
    (tmp_path / "empty.pem").write_text("")
    for options in (
        {"password": "x"},
        {"tls": False, "ca": cert},
        {"tls": True, "ca": tmp_path / "none.pem"},
        {"tls": True, "ca": tmp_path / "empty.pem"},
        {"tls": True, "key": key},
        {"tls": True, "cert": cert, "key": other},
        {"max_waiting": 0},
        {"keepalive_s": 0},
    ):
        with pytest.raises(BadInput):
            MqttOutput(MqttSettings(host="127.0.0.1", topic=TOPIC, **options), "top")  # type: ignore[arg-type]
    for host in ("", "a..b"):
        with pytest.raises(BadInput):
            MqttOutput(MqttSettings(host=host, topic=TOPIC), "top")
