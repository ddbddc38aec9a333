"""A TCP connection through a network that stalls, and then delivers what it held up: all at once, or a little at a time."""

from __future__ import annotations

import selectors
import socket
import threading
import time

TICK_S = 0.005


class StallingRelay:
    """Passes on what `target` (a port of this machine) and its clients say to each other.

    While it is held, what comes from the target is kept, as much as there is: the target never notices.

    Attributes:
        port: where it listens.
        bytes_per_s: how fast it passes on what comes from the target; None: at once.
        passed: bytes that it has passed on.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.bytes_per_s: float | None = None
        self.passed = 0
        self._held = self._closing = False
        self._pairs: list[tuple[socket.socket, socket.socket, bytearray]] = []
        self._thread = threading.Thread(target=self._run, name="test-relay")
        self._thread.start()

    def hold(self) -> None:
        self._held = True

    def go_on(self) -> None:
        self._held = False

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        for client, target, _ in self._pairs:
            client.close()
            target.close()
        self._server.close()

    def __enter__(self) -> StallingRelay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            passed_at = time.monotonic()
            while not self._closing:
                for key, _ in selector.select(TICK_S):
                    if key.fileobj is self._server:
                        self._accept(selector)
                    else:
                        self._receive(selector, key)
                now = time.monotonic()
                if not self._held:
                    self._pass(now - passed_at)
                passed_at = now

    def _accept(self, selector: selectors.BaseSelector) -> None:
        client = self._server.accept()[0]
        pair = client, socket.create_connection(("127.0.0.1", self._target)), bytearray()
        self._pairs.append(pair)
        selector.register(client, selectors.EVENT_READ, pair)
        selector.register(pair[1], selectors.EVENT_READ, pair)

    def _receive(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        client, target, kept = key.data
        mine = key.fileobj
        assert isinstance(mine, socket.socket)
        try:
            data = mine.recv(1 << 16)
            if data and mine is client:
                target.sendall(data)
        except OSError:
            data = b""
        if mine is target:
            kept += data
        if not data:
            selector.unregister(mine)  # both are closed at the end

    def _pass(self, for_s: float) -> None:
        for client, _, kept in self._pairs:
            count = len(kept) if self.bytes_per_s is None else min(len(kept), round(self.bytes_per_s * for_s))
            try:
                client.sendall(kept[:count])
            except OSError:
                count = len(kept)
            del kept[:count]
            self.passed += count
