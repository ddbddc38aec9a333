"""The preview in the browser of this machine: what it shows, its button, and who may not press it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.capture.preview import address_of, shown
from edgead.capture.session import Session, Wanted
from edgead.errors import BadInput, OutputError
from tests.waiting import until


class Browser:
    """Asks the preview."""

    def __init__(self, url: str) -> None:
        self.host = url.removeprefix("http://").rstrip("/")

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def state(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.ask("/state")[2])
        return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Browser, Path]]:
    session = Session(Wanted("sim:fps=20,defect_rate=0,width=1600,height=1200", tmp_path / "good", by_hand=True))
    with shown(session, address_of("127.0.0.1:0")) as url:
        thread = threading.Thread(target=session.run, name="capture")
        thread.start()
        yield Browser(url), tmp_path / "good"
        session.stop()
        thread.join()


def test_the_page_shows_picture_and_state_and_its_button_takes_one(running: tuple[Browser, Path]) -> None:
    browser, good = running
    until(lambda: browser.state()["picture"] != 0)
    status, headers, page = browser.ask("/")
    assert status == 200 and b"page.js" in page and b"<script>" not in page
    assert "script-src 'self'" in headers["content-security-policy"] and "unsafe" not in headers["content-security-policy"]
    assert all(browser.ask(path)[0] == 200 for path in ("/page.js", "/page.css"))
    status, headers, jpeg = browser.ask("/picture.jpg")
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "image/jpeg", "no-store")
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape[:2] == (768, 1024)
    assert browser.state()["there"] == 0
    assert browser.ask("/take", "POST", X_Edgead="capture")[0] == 200
    until(lambda: browser.state()["there"] == 1)
    assert [path.name for path in good.iterdir()] == ["0000.png"]


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        ("/take", "POST", {}),
        ("/take", "POST", {"X_Edgead": "capture", "Origin": "http://evil.example"}),
        ("/take", "POST", {"X_Edgead": "capture", "Origin": "null"}),
        ("/picture.jpg", "GET", {"Host": "evil.example"}),
        ("/picture.jpg", "GET", {"Host": "127.evil.example"}),
        ("/state", "GET", {"Host": "[::1"}),
        ("/state", "GET", {"Origin": "http://evil.example"}),
    ],
)
def test_other_sites_get_nothing(running: tuple[Browser, Path], path: str, method: str, headers: dict[str, str]) -> None:
    browser, good = running
    status, found, body = browser.ask(path, method, **headers)
    assert status == 403 and b"only this machine" in body and "content-security-policy" in found
    assert browser.ask("/take", "GET")[0] == 405
    assert browser.ask("/../../etc/passwd")[0] == 404
    assert not list(good.iterdir())


@pytest.mark.parametrize("where", ["0.0.0.0:80", "10.0.0.5:80", "[::]:80", "nonsense", "127.0.0.1:99999"])
def test_only_this_machine_may_see_it(where: str) -> None:
    with pytest.raises(BadInput):
        address_of(where)


def test_a_port_that_is_taken_is_one_line(running: tuple[Browser, Path], tmp_path: Path) -> None:
    other = Session(Wanted("sim", tmp_path / "other"))
    with pytest.raises(OutputError, match="cannot listen"), shown(other, address_of(running[0].host)):
        pass
