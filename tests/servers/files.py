"""A web server of files that can break off, change, drip and lie, for tests of fetching."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Served:
    """What a server gives under one path.

    Attributes:
        content: the file.
        etag: its mark; empty: none.
        ranges: parts of it are given.
        cut_after: the connection ends after so many bytes of the answer; None: never.
        status: in place of 200.
        length: told in the head; False: not told.
        silent: an answer never comes.
        asked: the Range of each request, "" without.
    """

    content: bytes = b""
    etag: str = '"one"'
    ranges: bool = True
    cut_after: int | None = None
    status: int = 200
    length: bool = True
    silent: bool = False
    asked: list[str] = field(default_factory=list)


@contextmanager
def file_server(files: dict[str, Served]) -> Iterator[str]:
    """Serves `files` by path; gives the address that they are below."""
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served = files.get(self.path, Served(status=404))
            served.asked.append(self.headers.get("Range", ""))
            if served.silent:
                ended.wait()
                return
            start, status = 0, served.status
            if served.ranges and "Range" in self.headers and self.headers.get("If-Range") == served.etag:
                start, status = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")), 206
            rest = served.content[start:]
            self.send_response(status)
            if served.length:
                self.send_header("Content-Length", str(len(rest)))
            if served.etag:
                self.send_header("ETag", served.etag)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
            self.end_headers()
            with suppress(ConnectionError):  # who asked has seen enough
                self.wfile.write(rest if served.cut_after is None else rest[: served.cut_after])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
