"""Health: what is checked of each camera, and the proof that its engine answers as the trained model did."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from edgead import __version__
from edgead.dashboard.asking import Ask, Reply
from edgead.dashboard.board import Board
from edgead.dashboard.hub import LATE_S
from edgead.dashboard.line_answers import line
from edgead.dashboard.places import Place
from edgead.dashboard.proof import page
from edgead.dashboard.running import running

LITTLE_MB = 500.0
"""Where pictures are not kept, so that no other limit is given."""


def health(board: Board, ask: Ask) -> dict[str, Any]:
    """All stations, what is checked, versions and disks."""
    told = line(board, ask)
    checks = [one for place in board.hub.places.values() for one in _checks(board, place)]
    return {"stations": told["stations"], "checks": checks, "versions": _versions(board), "disk": _disks(board)}


def proof(board: Board, ask: Ask) -> Reply:
    """A page to print."""
    place = board.in_path(ask)
    now = running(board.hub, place)
    bundle, record = now.open()
    return Reply(page(place, bundle, record, board.hub.state(place), board.now()), "text/html; charset=utf-8")


def _checks(board: Board, place: Place) -> list[dict[str, Any]]:
    camera, state = board.hub.camera(place), board.hub.state(place)

    def check(name: str, ok: bool, words: str) -> dict[str, Any]:
        return {"camera": place.id, "name": name, "ok": ok, "words": words}

    found = [check("station", camera["state"] == "ready", camera["fault"] or camera["state"])]
    if not state:
        return found
    found.append(check("camera", camera["camera"] == "ok", camera["camera"]))
    notices = dict(camera["notices"])
    config = place.camera
    for name, there in (("self-check", config is not None and config.selfcheck), ("drift", config is not None and config.drift)):
        if there and name not in notices:
            found.append(check(name, True, "nothing noticed"))
    found += [check(name, False, words) for name, words in notices.items()]
    latency, budget = camera["latency"], camera["budget_ms"]
    if latency is not None:
        misses = sum(latency["misses"].values())
        lately = board.hub.late_lately(place)
        words = f"p99 {latency['p99']:.1f} ms" + (f" of {budget:g} ms" if budget else "") + f", {misses} late"
        words += f", none of them in the last {LATE_S / 60:g} min" if misses and not lately else ""
        found.append(check("latency", not lately and (not budget or latency["p99"] <= budget), words))
    disk = camera["disk"]
    if disk["free_mb"] is not None:
        words = f"{disk['free_mb']:,.0f} MB free, {disk['records_waiting']} records wait, {disk['records_lost']} lost"
        found.append(check("disk", disk["free_mb"] > LITTLE_MB and not disk["records_lost"], words))
    found += [check(f"thread {name}", False, place.shown(f"died of {cause}")) for name, cause in state.get("threads", {}).items()]
    return found


def _versions(board: Board) -> dict[str, str]:
    found = {"edgead": __version__, "python": platform.python_version(), "system": platform.platform()}
    for package in ("openvino", "onnxruntime", "numpy", "opencv-python-headless", "starlette", "uvicorn"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    for place in board.hub.places.values():
        state = board.hub.state(place)
        if state:
            found[f"station {place.station}"] = str(state.get("version", ""))
    return found


def _disks(board: Board) -> dict[str, dict[str, Any]]:
    """By station: where its records are, and the room there."""
    found: dict[str, dict[str, Any]] = {}
    for place in board.hub.places.values():
        if place.data is None or place.station in found:
            continue
        try:
            there = os.statvfs(place.data)
        except OSError:
            found[place.station] = {"folder": place.data.name, "free_mb": None, "total_mb": None}
            continue
        free, total = (round(blocks * there.f_frsize / 1e6) for blocks in (there.f_bavail, there.f_blocks))
        found[place.station] = {"folder": place.data.name, "free_mb": free, "total_mb": total}
    return found
