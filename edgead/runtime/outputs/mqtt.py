"""Verdicts for dashboards and databases by MQTT 3.1.1 (OASIS, 2014): QoS 1, TLS, last will. Telemetry, not a handshake.

The only file that knows paho-mqtt (2.x).
"""

from __future__ import annotations

import json
import logging
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from edgead.claims import Claim, host_of
from edgead.errors import BadInput, OutputError
from edgead.optional import require
from edgead.runtime.outputs._tls import dated, tls_context
from edgead.runtime.records.payload import encode
from edgead.runtime.threads import Supervised
from edgead.settings import DeviceSettings, Few, Limits, Port
from edgead.types import Inspection, Verdict

if TYPE_CHECKING:
    from edgead.located import Place

CONNECT_S = 3.0
RECONNECT_S = (1, 10)
"""First and longest pause before connecting again; it doubles in between."""

LINGER_S = 1.0
"""How long closing waits for the broker to confirm what is still held."""

GOODBYE_S = 1.0
"""How long a goodbye may take; then the broker hears of our end by the last will."""

STOP_S = 5.0
LOOP_S = 1.0  # how often the network thread shows that it lives; what is published wakes it
PATIENCE_S = 30.0
"""A network thread that is silent for so long (it connects within it) stands still."""

LONGEST_TOPIC = 1000
_CERTIFICATE = "check ca, and that host is a name in the broker's certificate"
_log = logging.getLogger("edgead.mqtt")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings(DeviceSettings):
    """Each verdict as JSON to TOPIC/inspection, and whether edgead is connected to TOPIC/state. Telemetry, not a handshake."""

    type: Literal["mqtt"] = "mqtt"
    host: str
    topic: str
    """Below which it publishes, e.g. factory/line1/top; another one for each camera."""
    port: Port | None = None
    """8883 with TLS, 1883 without, if not given."""
    tls: bool = True
    ca: Path | None = None
    """PEM file of who signed the broker's certificate; none: the system's list."""
    cert: Path | None = None
    key: Path | None = None
    """The client's own certificate and key, where the broker asks for them."""
    user: str | None = None
    password: str | None = None
    client_id: str | None = None
    keepalive_s: Annotated[int, Limits(least=1, most=65535)] = 10
    """A silent broker is lost after about twice that."""
    max_waiting: Few = 1000
    """Verdicts that are held while the broker is away; more are lost and counted."""
    which: Literal["all", "not_ok"] = "all"

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        port = self.port or (8883 if self.tls else 1883)
        broker = (host_of(self.host), 1883 if port == 8883 else port)  # the usual pair of one broker, with and without TLS
        where = f"the broker {self.host}:{port}"
        hint = "give each camera a topic of its own, e.g. with its name at the end"
        yield Claim((*place, "topic"), owner, "mqtt topic", (*broker, self.topic), f"the topic {self.topic} of {where}", hint)
        name = self.client_id or "edgead-" + self.topic.replace("/", "-")
        hint = "a broker throws the one out when the other comes: give each its own client_id"
        key = "client_id" if self.client_id else "topic"
        yield Claim((*place, key), owner, "mqtt client", (*broker, name), f"the client id {name} of {where}", hint)


class MqttOutput:
    """Publishes each verdict to ``TOPIC/inspection`` and, retained, whether it is connected to ``TOPIC/state``.

    A verdict is held until the broker confirms it, through lost connections and restarts of the broker, so it may come twice,
    but not through a restart of edgead. When `max_waiting` are held, further ones are lost and counted. The network has a
    thread of its own: no call here waits for it but `close`.

    The state is ``online``, ``offline`` with the reason "closed", or, by the broker as the last will, with the reason "lost": at
    once when this process dies, 1.5 x `keepalive_s` after the box or the network does. It says nothing about the loop; a PLC
    that must know is told by the handshake's heartbeat.

    Args:
        settings: see there.
        station: name for the messages.

    Raises:
        BadInput: a topic or file that cannot be used, a password without a user.
        MissingExtra: paho-mqtt is not installed.
    """

    settings = MqttSettings

    def __init__(self, settings: MqttSettings, station: str) -> None:
        host, topic, tls = settings.host, settings.topic, settings.tls
        _check(settings)
        paho = require("paho.mqtt.client", extra="mqtt", why="MQTT")
        port = settings.port or (8883 if tls else 1883)
        self._name, self._topic = f"the MQTT broker at {host}:{port}", topic
        self._station, self._which = station, settings.which
        self._queue_is_full = paho.MQTT_ERR_QUEUE_SIZE
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._connected = self._refused = self._closed = False
        self._fault = "has not been reached yet"
        self._states: set[int] = set()  # message ids of state messages; the network thread's own
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=settings.client_id or "edgead-" + topic.replace("/", "-"),
            protocol=paho.MQTTv311,
        )
        client.max_queued_messages_set(settings.max_waiting)
        client.connect_timeout = CONNECT_S
        client.will_set(f"{topic}/state", self._state("offline", "lost"), qos=1, retain=True)
        if tls:
            client.tls_set_context(tls_context(settings.ca, settings.cert, settings.key))
        if settings.user is not None:
            client.username_pw_set(settings.user, settings.password)
            if not tls:
                _log.warning("%s gets user and password unencrypted: tls is off", self._name)
        client.on_connect, client.on_connect_fail = self._on_connect, self._on_connect_fail
        client.on_disconnect, client.on_publish = self._on_disconnect, self._on_publish
        client.on_socket_register_write = lambda *_: None  # else paho writes on the thread that publishes
        client.connect_async(host, port, settings.keepalive_s)
        self._client: Any = client
        self._ending_s: float | None = None  # until when a goodbye may take, of the monotonic clock
        self._pause_s = float(RECONNECT_S[0])
        self._thread = Supervised("mqtt", self._run, patience_s=PATIENCE_S)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """The broker has accepted the connection."""
        return self._connected

    def counts(self) -> dict[str, int]:
        """Verdicts "accepted", "confirmed", "waiting" and "lost", and failures by cause ("failed:connect", ...)."""
        with self._changed:
            return {**self._counts, "waiting": self._waiting()}

    def signal(self, inspection: Inspection) -> None:
        """Hand the verdict over. Raises OutputError when closed, or when so many are held that this one is lost."""
        if self._closed:
            raise OutputError("the MQTT output is closed")
        if self._which == "not_ok" and inspection.verdict is Verdict.OK:
            return
        info = self._client.publish(f"{self._topic}/inspection", encode(inspection, self._station), qos=1)
        with self._changed:
            lost = info.rc == self._queue_is_full
            self._counts["lost" if lost else "accepted"] += 1
            waiting, fault = self._waiting(), self._fault or "does not confirm"
        if lost:
            raise OutputError(
                f"a verdict is lost to MQTT: {waiting} are held already, and {self._name} {fault}", hint="check the broker"
            )

    def heartbeat(self) -> None:
        """Nothing: MQTT is telemetry."""

    def fail_safe(self) -> None:
        """Nothing: it asserts nothing."""

    def close(self) -> None:
        """Give the broker a moment to confirm what is held, say goodbye and disconnect."""
        if self._closed:
            return
        self._closed = True
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting() or not self._connected, LINGER_S)
            left = self._waiting()
            self._counts["lost"] += left
            self._counts["accepted"] -= left
        if left:
            _log.error("%s has not confirmed %d verdicts: they are lost, or were delivered unconfirmed", self._name, left)
        client = self._client
        client.on_connect = client.on_connect_fail = client.on_disconnect = client.on_publish = None
        if self._connected:
            client.publish(f"{self._topic}/state", self._state("offline", "closed"), qos=0, retain=True)
        client.disconnect()
        with self._changed:
            self._ending_s = time.monotonic() + GOODBYE_S
            self._changed.notify_all()
        if self._thread.join(STOP_S):
            self._client = None  # with its sockets
        else:  # connecting takes as long as the network likes
            _log.error("%s does not answer; its thread is left behind", self._name)

    def _waiting(self) -> int:
        return self._counts["accepted"] - self._counts["confirmed"]

    def _state(self, state: str, reason: str = "") -> bytes:
        message = {"format": "edgead.state/1", "station": self._station, "state": state, "reason": reason}
        return json.dumps(message).encode()

    def _run(self) -> None:
        """Connects, and connects again, with growing pauses; carries what is published until a goodbye is out."""
        connected = False
        while self._ending_s is None or (connected and time.monotonic() < self._ending_s):
            self._thread.turn()
            connected = connected or self._connect()
            if connected:
                connected = not self._client.loop(LOOP_S)
            if not connected:
                self._wait()

    def _connect(self) -> bool:
        try:
            self._client.reconnect()
        except OSError:
            if self._ending_s is None:
                self._on_connect_fail(self._client, None)
            return False
        if self._ending_s is not None:
            self._client.disconnect()
        return True

    def _wait(self) -> None:
        """Before the next attempt to connect."""
        with self._changed:
            pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, float(RECONNECT_S[1]))
            self._changed.wait_for(lambda: self._ending_s is not None, pause_s)

    # The network thread. paho calls `_on_publish` under its own lock: nothing here may call paho while holding ours.

    def _on_connect(self, client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self._refused = code.is_failure
        if code.is_failure:
            denied = str(code) in ("Bad user name or password", "Not authorized")
            if denied:
                self._failed("credentials", f"refuses: {code}", hint="check user, password and what the broker lets this user do")
            else:
                self._failed("refused", f"refuses: {code}", hint="look at the broker's log; client_id may have to be another")
            return
        info = client.publish(f"{self._topic}/state", self._state("online"), qos=0, retain=True)
        self._states = {info.mid}  # one of a former connection was never sent
        with self._changed:
            self._connected, self._fault = True, ""
            self._pause_s = float(RECONNECT_S[0])
        _log.info("%s is connected", self._name)

    def _on_connect_fail(self, _client: Any, _data: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this where it caught it
        cause = "certificate" if isinstance(error, ssl.SSLError) else "connect"
        hint = (
            "check ca, and that host is a name in the broker's certificate"
            if cause == "certificate"
            else "check host, port, network"
        )
        self._failed(cause, f"cannot be reached: {error}{dated(error)}", hint=hint)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if self._connected:
            hint = "check the network; a broker also throws out whoever has the client_id of another"
            self._failed("lost", f"is gone: {code}", hint=hint)
        elif not self._refused:
            self._failed(
                "refused",
                "closes the connection at once",
                hint="is TLS on at one side alone, or a client certificate missing?",
            )
        self._refused = False

    def _on_publish(self, _client: Any, _data: Any, mid: int, _code: Any, _properties: Any) -> None:
        if mid in self._states:
            self._states.discard(mid)
            return
        with self._changed:
            self._counts["confirmed"] += 1
            self._changed.notify_all()

    def _failed(self, cause: str, text: str, *, hint: str) -> None:
        text = " ".join(text.split())[:200]
        with self._changed:
            news = text != self._fault
            self._connected, self._fault = False, text
            self._counts[f"failed:{cause}"] += 1
            self._changed.notify_all()
        if news:
            _log.warning("%s", OutputError(f"{self._name} {text}", hint=hint))


def _check(settings: MqttSettings) -> None:
    host, topic = settings.host, settings.topic
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise BadInput(f"{host!r} is no host name") from error
    if not host:
        raise BadInput("the MQTT broker's host is empty")
    if not topic or set(topic) & set("+#\0") or topic[0] in "$/" or topic[-1] == "/" or len(topic.encode()) > LONGEST_TOPIC:
        raise BadInput(
            f"the MQTT topic {topic[:80]!r} cannot be published to", hint="like factory/line1/top: no + # $, no / at the ends"
        )
    if settings.password is not None and settings.user is None:
        raise BadInput("an MQTT password needs a user")
    if settings.keepalive_s < 1 or settings.max_waiting < 1:
        raise BadInput("keepalive and room for waiting verdicts must be at least 1")
    if not settings.tls and (settings.ca or settings.cert or settings.key):
        raise BadInput("certificates are given, but tls is off", hint="tls: true")
