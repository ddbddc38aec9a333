"""A browser without a screen: what it asks a dashboard, and what it is answered."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from tests.waiting import PATIENCE_S


class Client:
    """Talks to one dashboard; keeps its cookie.

    Args:
        url: of its first page.
    """

    def __init__(self, url: str) -> None:
        self.host, self.scheme = urlsplit(url).netloc, urlsplit(url).scheme
        self.cookie = ""
        self.headers: dict[str, str] = {}
        """Of the last answer, by lower-case names."""

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body."""
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_S)
        if self.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a test's own certificate
            connection = http.client.HTTPSConnection(self.host, timeout=PATIENCE_S, context=context)
        try:
            connection.request(method, path, body, {**({"Cookie": self.cookie} if self.cookie else {}), **(headers or {})})
            answer = connection.getresponse()
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
            if "set-cookie" in self.headers:
                self.cookie = self.headers["set-cookie"].partition(";")[0]
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The JSON of an answer that must be 200."""
        status, body = self.ask(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def post(self, path: str, content: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON, with what a page sends."""
        csrf = json.loads(self.ask("/api/session")[1])["csrf"]
        told = {"Content-Type": "application/json", "X-CSRF": csrf, "Origin": f"{self.scheme}://{self.host}", **(headers or {})}
        status, body = self.ask(path, "POST", json.dumps(content).encode(), told)
        return status, json.loads(body)

    def stream(self) -> Stream:
        """What happens from now on."""
        return Stream(self)


class Stream:
    """Server-sent events, read when a test asks for them."""

    def __init__(self, client: Client) -> None:
        host, _, port = client.host.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self._file = self._socket.makefile("rb")
        cookie = f"Cookie: {client.cookie}\r\n" if client.cookie else ""
        self._socket.sendall(f"GET /api/events HTTP/1.1\r\nHost: {client.host}\r\n{cookie}\r\n".encode())
        self.status = int(self._file.readline().split()[1])

    def next(self, kind: str) -> Any:
        """The data of the next event of a kind; other events are passed over."""
        while line := self._file.readline():
            if line.strip() == f"event: {kind}".encode():
                return json.loads(self._file.readline().removeprefix(b"data: "))
        raise AssertionError("the stream is over")

    def ended(self) -> bool:
        """Reads to the end of the stream."""
        while self._file.readline():
            pass
        return True

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
