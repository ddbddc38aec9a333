"""A real station (`edgead run`) that inspects pictures for as long as a test takes, and a real `edgead dashboard` that looks on.

A picture's brightest value is its score: good ones have at most 180, defects 214, 226 or 242; the threshold is 200.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from tests.dashboard.client import Client
from tests.servers.station import StationProcess
from tests.vouched import picture, write_vouched
from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).resolve().parents[2]
ROUND = [(0, False), (1, True), (2, False), (3, False), (4, True), (5, False), (6, False), (8, True), (1, False), (2, False)]
SCORES = {214.0, 226.0, 242.0}
MANY = 12_000


class Watched:
    """Station and dashboard in a folder of their own, whose name is short enough for sockets.

    Args:
        camera: further keys of the camera in station.yaml.
        options: of `edgead dashboard`.
        every_ms: how often a part comes.
        bundles: names of bundles to be made; the camera has the first.
        process: further keys of `process` in station.yaml.
        others: further cameras in station.yaml, with the same pictures.
    """

    def __init__(
        self,
        options: Sequence[str] = (),
        *,
        every_ms: int = 60,
        bundles: Sequence[str] = ("part",),
        others: Sequence[dict[str, Any]] = (),
        process: dict[str, Any] | None = None,
        **camera: Any,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="edgead-watched-"))
        pictures = self.folder / "pictures"
        pictures.mkdir()
        for i, (seed, defect) in enumerate(ROUND):
            cv2.imwrite(str(self.folder / f"{i}.png"), picture(seed, defect))
        for i in range(MANY):
            os.link(self.folder / f"{i % len(ROUND)}.png", pictures / f"{i:06d}.png")
        for name in bundles:
            write_vouched(self.folder / f"{name}.edgead", name=name)
        products = {} if "recipes" in camera else {"bundle": f"{bundles[0]}.edgead"}
        content = {
            "name": "line-1",
            "cameras": [
                {
                    "name": "top",
                    "address": str(pictures),
                    "trigger": {"source": "interval", "every_ms": every_ms},
                    "budget_ms": 5000,
                    **products,
                    **camera,
                },
                *({"address": str(pictures), "trigger": {"source": "interval", "every_ms": every_ms}, **one} for one in others),
            ],
            "storage": {"folder": "data", "pictures": {"min_free_mb": 0}},
            "supervision": {"live": "live"},
            "process": {"threads": 1, **(process or {})},
        }
        self.station = StationProcess(self.folder, content)
        self.records = self.folder / "data/top/records.db"
        self._options = list(options)
        self._dashboard: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> Client:
        """Both, until the station gives verdicts and the dashboard knows of it."""
        self.station.start()
        self.look()
        client = Client(self.url)
        until(lambda: self.camera(client)["state"] == "ready" and self.camera(client)["last"], what="a ready station")
        return client

    def look(self) -> None:
        """Start the dashboard."""
        command = [sys.executable, "-m", "edgead.cli.main", "dashboard", str(self.folder / "station.yaml"), "--json"]
        with (self.folder / "dashboard.log").open("ab") as log:
            self._dashboard = subprocess.Popen(
                [*command, "--http", "127.0.0.1:0", *self._options], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._dashboard.stdout is not None
        told = []
        for line in self._dashboard.stdout:
            told.append(line)
            if line == "}\n":
                break
        self.url = json.loads("".join(told))["url"]

    def log(self) -> str:
        """What the dashboard complained of."""
        return (self.folder / "dashboard.log").read_text()

    @property
    def dashboard(self) -> int:
        """Its process."""
        assert self._dashboard is not None
        return self._dashboard.pid

    def stop_looking(self) -> int:
        """SIGTERM to the dashboard; its exit status."""
        assert self._dashboard is not None and self._dashboard.stdout is not None
        self._dashboard.terminate()
        code = self._dashboard.wait(PATIENCE_S)
        self._dashboard.stdout.close()
        self._dashboard = None
        return code

    @staticmethod
    def camera(client: Client) -> Any:
        """What the line's page shows of the camera."""
        return client.get("/api/line")["stations"][0]["cameras"][0]

    def close(self) -> None:
        if self._dashboard is not None:
            self.stop_looking()
        self.station.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
