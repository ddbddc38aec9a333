"""Eclipse Mosquitto as a process of its own, with TLS and a password, and certificates made by openssl."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PACKAGES = "mosquitto openssl"
USER, PASSWORD = "edgead", "s3cret"


def mosquitto_is_missing() -> str:
    """Why no MQTT broker can run here, or ""."""
    return "" if shutil.which("mosquitto") and shutil.which("openssl") else f"apt-get install {PACKAGES}"


def make_certificate(folder: Path, name: str, days: int = 2) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key; it expired yesterday when `days` is -1."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    request, names = folder / f"{name}.csr", folder / f"{name}.ext"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    for command in (
        f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {key} -out {request}",
        f"x509 -req -in {request} -signkey {key} -days {days} -extfile {names} -out {cert}",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    return cert, key


class Broker:
    """At ``127.0.0.1:port``; keeps sessions and what they wait for on the disk, so that they survive SIGKILL.

    Args:
        folder: for its files.
        days: that its certificate is valid.
        clients: PEM file of the only client certificate that it takes; None: it asks for none.
    """

    def __init__(self, folder: Path, days: int = 2, clients: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.ca, key = make_certificate(folder, "broker", days)
        passwords = folder / "passwords"
        subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), USER, PASSWORD], check=True, capture_output=True)
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"user root\nlistener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
            f"certfile {self.ca}\nkeyfile {key}\nlog_dest none\n"
            f"persistence true\npersistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n"
        )
        if clients is not None:
            with self._config.open("a") as config:
                config.write(f"cafile {clients}\nrequire_certificate true\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it listens."""
        self._process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stderr=subprocess.DEVNULL)
        for _ in range(1000):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.005)
        raise AssertionError("mosquitto does not listen")

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; may be called twice."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
