"""Real servers as child processes, so that tests can stop, kill and restart them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.waiting import PATIENCE_S

os.environ.setdefault("PYLON_CAMEMU", "2")  # two emulated Basler cameras; pylon reads it when it is first imported

PYTHON = "/usr/bin/python3"  # the bindings of GStreamer's RTSP server and of Aravis come with the system's Python
RTSP_PACKAGES = (
    "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly python3-gi"
)

ARAVIS_PACKAGES = "gir1.2-aravis-0.8 python3-gi"

_HERE = Path(__file__).parent


def rtsp_is_missing() -> str:
    """Why no RTSP server can run here, or ""."""
    return _check("rtsp.py", RTSP_PACKAGES)


def aravis_is_missing() -> str:
    """Why no GigE Vision camera can run here, or ""."""
    return _check("gige.py", ARAVIS_PACKAGES)


def pylon_is_missing() -> str:
    """Why there are no emulated Basler cameras here, or ""."""
    return "" if find_spec("pypylon") else "pip install 'edgead[basler]'"


def _check(script: str, packages: str) -> str:
    try:
        done = subprocess.run([PYTHON, str(_HERE / script), "--check"], capture_output=True, timeout=5 * PATIENCE_S, check=False)
    except OSError as error:
        return f"{PYTHON}: {error}"
    return "" if done.returncode == 0 else f"apt-get install {packages}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A script of this folder as a process of its own, that says "ready" when it is."""

    def __init__(self, script: str, *arguments: str, python: str = PYTHON) -> None:
        self._command = [python, str(_HERE / script), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == b"ready"

    def tell(self, line: str) -> None:
        """To its standard input."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

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
        assert self._process.stdout is not None and self._process.stdin is not None
        self._process.stdout.close()
        self._process.stdin.close()
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class StampedRtsp(Server):
    """As :class:`RtspServer`, open to all, whose pictures carry the time at which they were made (``pixel_clock``)."""

    def __init__(self, rate: int = 25) -> None:
        self.port = _free_port()
        super().__init__("rtsp_clock.py", str(self.port), str(rate))
        self.path = "/line"


class StampedMjpeg(Server):
    """The same as motion JPEG over HTTP, `rate` pictures of `size` bytes a second."""

    def __init__(self, rate: float = 25) -> None:
        self.port, self.rate, self.size = _free_port(), rate, 8192
        super().__init__("mjpeg.py", str(self.port), str(rate), python=sys.executable)
        self.path = "/video"


class RtspServer(Server):
    """A live test picture, 64 x 48 pixels, 25 frames a second, H.264, at ``url``; asks for user and password."""

    def __init__(self) -> None:
        port = _free_port()
        super().__init__("rtsp.py", str(port))
        self.url = f"rtsp://operator:s3cret@127.0.0.1:{port}/line"


class GigeCamera(Server):
    """A GigE Vision camera on the loopback interface, 25 frames a second, that loses so many of a thousand packets."""

    def __init__(self, lost_per_thousand: float = 0.0) -> None:
        super().__init__("gige.py", "EDGEAD", str(lost_per_thousand))
        self.address = "gige:127.0.0.1"  # by IP address no discovery is needed, which takes a second
        self.serial = "EDGEAD"
