"""Verdicts as HTTP requests: a POST with JSON for each part that is not OK, or for all. Standard library only."""

from __future__ import annotations

import http.client
import logging
import re
import socket
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from edgead import __version__
from edgead.errors import BadInput, OutputError
from edgead.runtime.outputs._tls import dated, is_about_dates, tls_context
from edgead.runtime.records.payload import encode
from edgead.runtime.threads import Supervised
from edgead.runtime.worker import Worker
from edgead.settings import DeviceSettings, Few, Positive
from edgead.types import Inspection, Verdict

FIRST_PAUSE_S = 0.2
"""Between two attempts; it doubles."""

LINGER_S = 2.0
"""How long closing goes on delivering what waits."""

_TOO_EARLY = (408, 425, 429)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HINTS = {
    "certificate": "check ca, and that the address has a name of the server's certificate",
    "timeout": "check the network and the server; a slow one needs a larger timeout_ms",
    "connect": "check the address, the network and that the server runs",
    "credentials": "check headers, e.g. Authorization",
    "refused": "look at the server's own log",
}
_log = logging.getLogger("edgead.webhook")


@dataclass(frozen=True, slots=True)
class _Letter:
    body: bytes
    until_s: float


@dataclass(frozen=True, slots=True)
class _Fault:
    cause: str
    text: str
    again: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings(DeviceSettings):
    """An HTTP POST with JSON for each verdict, from a queue of its own."""

    type: Literal["webhook"] = "webhook"
    url: str
    """https://, or http:// inside a machine network."""
    headers: dict[str, str] = field(default_factory=dict)
    """Such as Authorization: Bearer ${HOOK_TOKEN}."""
    ca: Path | None = None
    """PEM file of who signed the receiver's certificate; none: the system's list."""
    which: Literal["all", "not_ok"] = "not_ok"
    timeout_ms: Positive = 3000.0
    attempts: Few = 4
    deadline_ms: Positive = 15_000.0
    """After so long a verdict is given up."""
    max_waiting: Few = 200
    """Verdicts that may wait; more lose the oldest."""


class WebhookOutput:
    """Posts verdicts one after the other from a thread of its own, so `signal` never waits for the receiver.

    Each attempt takes `timeout_ms` at most (name resolution aside), and each verdict is given up after `deadline_ms` or
    `attempts`, or at once when the receiver refuses it (4xx). 2xx is taken; 408, 425, 429, 5xx, timeouts and lost connections are
    tried again, so a verdict may come twice: `station`, `part_id` and `captured_ns` tell. Redirects are never followed, and
    proxies not used. Neither path nor headers appear in a message or log: both may hold secrets.

    Args:
        settings: see there.
        station: name for the messages.

    Raises:
        BadInput: an address, header or number that cannot be used.
    """

    settings = WebhookSettings

    def __init__(self, settings: WebhookSettings, station: str) -> None:
        self._host, self._port, self._secure, self._path = _address(settings.url)
        if not (settings.timeout_ms > 0 and settings.deadline_ms > 0 and settings.attempts >= 1 and settings.max_waiting >= 1):
            raise BadInput("a webhook needs times above 0 ms, and room and attempts of at least 1")
        own = {"Content-Type": "application/json", "User-Agent": f"edgead/{__version__}"}
        self._headers = _checked({**own, **settings.headers})
        self._context = tls_context(settings.ca) if self._secure else None
        self._name = f"the webhook at {'https' if self._secure else 'http'}://{self._host}:{self._port}"
        if settings.headers and not self._secure:
            _log.warning("%s gets its headers unencrypted: the address is http", self._name)
        self._station, self._which, self._attempts = station, settings.which, settings.attempts
        self._timeout_s, self._deadline_s = settings.timeout_ms / 1000, settings.deadline_ms / 1000
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._fault = ""
        self._closing = threading.Event()
        self._closing_until_s = float("inf")
        self._worker: Worker[_Letter] = Worker("webhook", self._deliver, capacity=settings.max_waiting, on_error=self._broken)

    def counts(self) -> dict[str, int]:
        """Verdicts "accepted", "delivered", "waiting" and "lost", and failed attempts by cause: "failed:timeout", ..."""
        with self._lock:
            return {**self._counts, "waiting": self._worker.depth}

    def signal(self, inspection: Inspection) -> None:
        """Hand the verdict over. Raises OutputError when closed, or when so many wait that the oldest is lost."""
        if self._closing.is_set():
            raise OutputError("the webhook is closed")
        if self._which == "not_ok" and inspection.verdict is Verdict.OK:
            return
        self._count("accepted")
        if not self._worker.put(_Letter(encode(inspection, self._station), time.monotonic() + self._deadline_s)):
            self._count("lost")
            raise OutputError(f"a verdict is lost: too many wait for {self._name}, which {self._fault or 'is too slow'}")

    def heartbeat(self) -> None:
        """Nothing: nobody watches."""

    def fail_safe(self) -> None:
        """Nothing: it asserts nothing."""

    def close(self) -> None:
        """Go on delivering for a moment, then give up what still waits."""
        if self._closing.is_set():
            return
        self._closing_until_s = time.monotonic() + LINGER_S
        self._closing.set()
        if not self._worker.close(LINGER_S + self._timeout_s):
            _log.error("%s does not answer; its thread is left behind", self._name)

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    # The worker's thread

    def _deliver(self, letter: _Letter) -> None:
        pause_s = FIRST_PAUSE_S
        for _ in range(self._attempts):
            left_s = min(letter.until_s, self._closing_until_s) - time.monotonic()
            if left_s <= 0:
                break
            fault = self._post(letter.body, min(self._timeout_s, left_s))
            if fault is None:
                self._count("delivered")
                self._fault = ""
                return
            self._note(fault)
            if not fault.again or self._closing.wait(min(pause_s, left_s)):
                break
            pause_s *= 2
        self._count("lost")

    def _post(self, body: bytes, timeout_s: float) -> _Fault | None:
        if self._context is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout_s, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        done = threading.Event()

        def guard() -> None:  # the socket's timeout alone starts again with each byte
            if not done.wait(timeout_s):
                cut.append(True)
                _cut(connection)

        cut: list[bool] = []
        guarding = Supervised("webhook guard", guard, restart=False)
        guarding.start()
        try:
            connection.request("POST", self._path, body, self._headers)
            return _judged(connection.getresponse().status)
        except ssl.SSLCertVerificationError as error:
            text = f"has no valid certificate: {error.verify_message}{dated(error)}"
            return _Fault("certificate", text, again=is_about_dates(error))  # our own clock may be the wrong one, for now
        except TimeoutError:
            return _Fault("timeout", "does not answer in time")
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            if cut:
                return _Fault("timeout", "does not answer in time")
            return _Fault("connect", f"cannot be reached: {getattr(error, 'strerror', None) or type(error).__name__}")
        finally:
            done.set()
            guarding.join()
            connection.close()

    def _note(self, fault: _Fault) -> None:
        self._count(f"failed:{fault.cause}")
        if fault.text != self._fault:
            _log.warning("%s", OutputError(f"{self._name} {fault.text}", hint=_HINTS.get(fault.cause, "")))
        self._fault = fault.text

    def _broken(self, error: BaseException) -> None:
        self._count("lost")
        _log.error("%s: %s", self._name, type(error).__name__)


def _judged(status: int) -> _Fault | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return _Fault("redirect", f"answers {status}: redirects are not followed, give the final address", again=False)
    if status in (401, 403):
        return _Fault("credentials", f"answers {status}: it wants other credentials", again=False)
    again = status in _TOO_EARLY or status >= 500
    return _Fault("refused", f"answers {status}", again=again)


def _cut(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        try:
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
        except OSError:  # it is gone already
            return


def _address(url: str) -> tuple[str, int, bool, str]:
    """Host, port, whether it is https, and path with query; no message shows the path or what stands before an @."""
    hint = "like https://mes.example.com/inspections"
    if re.search(r"[\x00-\x20\x7f]", url) or not url.isascii():
        raise BadInput("the webhook's address holds spaces or characters that must be escaped", hint=hint)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput("the webhook's address has no valid port or host", hint=hint) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput("the webhook's address must begin with https:// or http:// and a host", hint=hint)
    if parts.username is not None or parts.password is not None:
        raise BadInput("the webhook's address holds a user or password", hint="headers: {Authorization: 'Bearer ${TOKEN}'}")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.hostname, port or (443 if secure else 80), secure, path


def _checked(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            raise BadInput("a webhook header has a name that is none", hint="letters, digits and -")
        if re.search(r"[^\x20-\x7e]", value) or name.lower() in ("host", "content-length", "transfer-encoding"):
            raise BadInput(f"the webhook header {name} cannot be sent", hint="printable ASCII, no Host, no lengths")
    return headers
