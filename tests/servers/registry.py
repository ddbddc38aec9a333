"""Debian's docker-registry as a process of its own, on a loopback port, with its blobs in a folder that tests may spoil."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.waiting import until

PACKAGE = "docker-registry"
USER, PASSWORD = "edgead", "s3cret-word"
_BCRYPT = "$2y$05$abcdefghijklmnopqrstuuEpHRRKIlpAGo.iP7Bpa.htQEJMAAnRe"


def registry_is_missing() -> str:
    """Why no registry can run here, or ""."""
    return "" if shutil.which(PACKAGE) else f"apt-get install {PACKAGE}"


class Registry:
    """At ``127.0.0.1:port``; what was pushed outlives its process.

    Args:
        folder: for its files.
        login: it takes only `USER` with `PASSWORD`.
    """

    def __init__(self, folder: Path, *, login: bool = False) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        config = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.host, "secret": "of the tests"},
        }
        if login:
            (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
        (folder / "config.yml").write_text(json.dumps(config))  # YAML, too
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it listens."""
        command = [PACKAGE, "serve", str(self.folder / "config.yml")]
        environ = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
        self._process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, what="the registry")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            assert self._process is not None and self._process.poll() is None, "the registry ended"
            return False
        return True

    def kill(self) -> None:
        """SIGKILL; may be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def blob(self, digest: str) -> Path:
        """The file of a blob."""
        kind, _, name = digest.partition(":")
        return self.folder / "data/docker/registry/v2/blobs" / kind / name[:2] / name / "data"

    def __enter__(self) -> Registry:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
