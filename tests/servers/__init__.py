"""Real servers as child processes, so that tests can stop, kill and restart them."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

PYTHON = "/usr/bin/python3"  # gst-rtsp-server's bindings come with the system's Python
RTSP_PACKAGES = (
    "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly python3-gi"
)

_SCRIPT = Path(__file__).with_name("rtsp.py")


def rtsp_is_missing() -> str:
    """Why no RTSP server can run here, or ""."""
    try:
        done = subprocess.run([PYTHON, str(_SCRIPT), "--check"], capture_output=True, timeout=60, check=False)
    except OSError as error:
        return f"{PYTHON}: {error}"
    return "" if done.returncode == 0 else f"apt-get install {RTSP_PACKAGES}"


class RtspServer:
    """A live test picture, 64 x 48 pixels, 25 frames a second, H.264, at ``url``; asks for user and password."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"rtsp://operator:s3cret@127.0.0.1:{self.port}/line"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it listens."""
        self._process = subprocess.Popen(
            [PYTHON, str(_SCRIPT), str(self.port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == b"ready"

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing comes."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and gone; may be called twice."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
