"""An HTTP camera (motion JPEG) whose pictures carry the time at which they were made: ``mjpeg.py PORT FPS`` prints "ready".

A number on standard input: from now on the pictures are of this one grey, and carry no time.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent))
import pixel_clock

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=part\r\n\r\n"
SIZE = 8192
"""Bytes of each part, filled up after the picture: so a relay's bytes are pictures."""


def picture(grey: int | None) -> npt.NDArray[np.uint8]:
    if grey is not None:
        return np.full((16, 16), grey, np.uint8)
    blocks, below = (np.frombuffer(row, np.uint8) for row in pixel_clock.rows(pixel_clock.now()))
    height = pixel_clock.HEIGHT
    return np.stack([blocks] * (height // 2) + [below] * (height // 2))


def part() -> bytes:
    image = picture(greys[-1] if greys else None)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    head = b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %4d\r\n\r\n"
    room = SIZE - len(head % 0) - 2
    return head % room + jpeg.ljust(room, b"\0") + b"\r\n"


def serve(client: socket.socket, interval_s: float) -> None:
    due = time.monotonic()
    with contextlib.suppress(OSError):
        client.recv(4096)
        client.sendall(HEAD)
        while True:
            client.sendall(part())
            due = max(due + interval_s, time.monotonic())
            time.sleep(due - time.monotonic() if due > time.monotonic() else 0)


def listen() -> None:
    greys.extend(int(line) for line in sys.stdin)


greys: list[int] = []

if __name__ == "__main__":
    threading.Thread(target=listen, daemon=True).start()
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print("ready", flush=True)
    while True:
        arguments = server.accept()[0], 1 / float(sys.argv[2])
        threading.Thread(target=serve, args=arguments, daemon=True).start()
