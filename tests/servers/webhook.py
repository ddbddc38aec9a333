"""An HTTP receiver as a process of its own. ``webhook.py PORT LOG [CERT KEY]`` prints "ready" and appends each request to LOG.

The path says how it behaves: /ok, /slow (answers after 60 s), /drip (a byte of the header every 50 ms), /moved (redirects),
/busy (503 twice, then 200), /denied (401), /bad (400), /broken (no HTTP).
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN: Counter[str] = Counter()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(sys.argv[2], "a") as log:  # noqa: PTH123
            log.write(json.dumps({"path": self.path, "token": self.headers.get("Authorization"), "part": body["part_id"]}) + "\n")
        path = self.path.partition("?")[0]
        SEEN[path] += 1
        if path == "/slow":
            time.sleep(60)
        if path in ("/drip", "/broken"):
            self.close_connection = True
            for byte in b"SSH-2.0-x\r\n" if path == "/broken" else b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 1200:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05 if path == "/drip" else 0)
            return
        status = {"/moved": 307, "/denied": 401, "/bad": 400, "/busy": 503 if SEEN[path] <= 2 else 200}.get(path, 204)
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "/ok")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
