"""Verdicts to a real HTTP receiver that is slow, broken, gone, stopped and killed."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from edgead.errors import BadInput, OutputError
from edgead.runtime.outputs.webhook import WebhookOutput, WebhookSettings
from edgead.types import Inspection, StageTimes, Verdict
from tests.servers import Server
from tests.servers.mosquitto import make_certificate
from tests.waiting import JsonLines, until

TOKEN = "Bearer t0ken"


def inspection(part_id: int, verdict: Verdict = Verdict.NG) -> Inspection:
    return Inspection(part_id, verdict, "", 3.0, 2.0, None, StageTimes(), None)


class Receiver(Server):
    """tests/servers/webhook.py at ``base``."""

    def __init__(self, folder: Path, *certificate: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        log = folder / "requests.jsonl"
        self._lines = JsonLines(log)
        super().__init__("webhook.py", str(port), str(log), *certificate)
        self.base = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"

    def requests(self) -> list[dict[str, Any]]:
        return self._lines.read()

    def parts(self) -> list[int]:
        return [request["part"] for request in self.requests()]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    receiver = Receiver(tmp_path)
    receiver.start()
    yield receiver
    receiver.kill()


Make = Callable[..., WebhookOutput]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[WebhookOutput] = []

    def output(url: str, **options: Any) -> WebhookOutput:
        made.append(WebhookOutput(WebhookSettings(url=url, **options), "top"))
        return made[-1]

    yield output
    for each in made:
        each.close()


def test_bad_parts_are_posted_with_the_headers(receiver: Receiver, make: Make) -> None:
    output = make(f"{receiver.base}/ok?key=q", headers={"Authorization": TOKEN})
    for part_id, verdict in enumerate(Verdict, start=1):
        output.signal(inspection(part_id, verdict))
    until(lambda: output.counts().get("delivered") == 2)
    assert receiver.requests() == [{"path": "/ok?key=q", "token": TOKEN, "part": part} for part in (2, 3)]
    output.close()
    output.close()
    with pytest.raises(OutputError, match="closed"):
        output.signal(inspection(4))


def test_all_parts_when_asked_and_closing_delivers_what_waits(receiver: Receiver, make: Make) -> None:
    output = make(f"{receiver.base}/ok", which="all")
    for part_id in range(1, 21):
        output.signal(inspection(part_id, Verdict.OK))
    output.close()
    assert receiver.parts() == list(range(1, 21))
    assert output.counts() == {"accepted": 20, "delivered": 20, "waiting": 0}


def test_a_busy_receiver_is_tried_again(receiver: Receiver, make: Make) -> None:
    output = make(f"{receiver.base}/busy")
    output.signal(inspection(1))
    until(lambda: output.counts().get("delivered") == 1)
    assert receiver.parts() == [1, 1, 1] and output.counts()["failed:refused"] == 2


@pytest.mark.parametrize(
    ("path", "cause"), [("/moved", "redirect"), ("/denied", "credentials"), ("/bad", "refused")], ids=["307", "401", "400"]
)
def test_a_refusal_is_final_and_a_redirect_is_not_followed(receiver: Receiver, make: Make, path: str, cause: str) -> None:
    output = make(receiver.base + path)
    output.signal(inspection(1))
    until(lambda: output.counts().get("lost") == 1)
    assert [request["path"] for request in receiver.requests()] == [path] and output.counts()[f"failed:{cause}"] == 1


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_a_slow_receiver_costs_its_own_queue_alone(receiver: Receiver, make: Make, path: str) -> None:
    output = make(receiver.base + path, timeout_ms=300, attempts=2, max_waiting=2)
    output.signal(inspection(1))
    until(lambda: receiver.parts() == [1])
    output.signal(inspection(2))
    output.signal(inspection(3))
    with pytest.raises(OutputError, match="too many wait"):
        output.signal(inspection(4))
    until(lambda: output.counts().get("failed:timeout", 0) >= 2)
    output.close()
    counts = output.counts()
    assert counts["lost"] == counts["accepted"] == 4 and "delivered" not in counts


def test_an_answer_that_is_no_http_is_a_fault(receiver: Receiver, make: Make) -> None:
    output = make(f"{receiver.base}/broken", attempts=1)
    output.signal(inspection(1))
    until(lambda: output.counts().get("failed:connect") == 1)


def test_a_receiver_that_is_stopped_or_killed_and_comes_back_gets_every_verdict(receiver: Receiver, make: Make) -> None:
    output = make(f"{receiver.base}/ok", timeout_ms=500, attempts=100, deadline_ms=60_000)
    receiver.pause()
    for part_id in range(1, 6):
        output.signal(inspection(part_id))
    until(lambda: output.counts().get("failed:timeout"))
    receiver.resume()
    until(lambda: output.counts().get("delivered") == 5)
    receiver.kill()
    for part_id in range(6, 11):
        output.signal(inspection(part_id))
    until(lambda: output.counts().get("failed:connect"))
    receiver.start()
    until(lambda: output.counts().get("delivered") == 10)
    assert sorted(set(receiver.parts())) == list(range(1, 11))


def test_nobody_there_is_given_up_after_the_deadline(make: Make) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        output = make(f"http://127.0.0.1:{probe.getsockname()[1]}/", deadline_ms=100, attempts=1000)
        output.signal(inspection(1))
        output.signal(inspection(2))
        until(lambda: output.counts().get("lost") == 2)
    assert output.counts()["failed:connect"] >= 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="apt-get install openssl")
@pytest.mark.parametrize("days", [2, -1], ids=["valid", "expired"])
def test_https_is_verified(tmp_path: Path, make: Make, days: int, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = make_certificate(tmp_path, "hook", days)
    receiver = Receiver(tmp_path, str(cert), str(key))
    receiver.start()
    trusting, strict = make(f"{receiver.base}/ok", ca=cert), make(f"{receiver.base}/ok")
    for output in (trusting, strict):
        output.signal(inspection(1))
    until(lambda: strict.counts().get("failed:certificate") == 1)
    what = "delivered" if days > 0 else "failed:certificate"
    until(lambda: trusting.counts().get(what))
    assert (f"certificate has expired (this computer's clock says {date.today():%Y-}" in caplog.text) == (days < 0)
    assert receiver.parts() == ([1] if days > 0 else [])
    receiver.kill()


def test_neither_path_nor_headers_are_logged(receiver: Receiver, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        output = make(f"{receiver.base}/denied?hook=s3cret", headers={"Authorization": TOKEN})
        output.signal(inspection(1))
        until(lambda: output.counts().get("lost") == 1)
    assert "it wants other credentials" in caplog.text and "unencrypted" in caplog.text
    assert "s3cret" not in caplog.text and "t0ken" not in caplog.text and "denied" not in caplog.text


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("", {}),
        ("ftp://h/s3cret", {}),
        ("https:///s3cret", {}),
        ("https://user:s3cret@h/", {}),
        ("https://h:99999/s3cret", {}),
        ("https://h/s3cret\r\nX: y", {}),
        ("https://h/", {"headers": {"Authorization": "s3cret\r\nX: y"}}),
        ("https://h/", {"headers": {"a b": "s3cret"}}),
        ("https://h/", {"headers": {"Host": "s3cret"}}),
        ("https://h/", {"attempts": 0}),
        ("https://h/", {"ca": Path("/no/such.pem")}),
    ],
)
def test_what_cannot_be_used_is_bad_input_and_shows_no_secret(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        WebhookOutput(WebhookSettings(url=url, **options), "top")
    assert caught.value.hint or "at least 1" in str(caught.value)
    assert "s3cret" not in str(caught.value)
