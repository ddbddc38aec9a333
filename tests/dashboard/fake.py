"""A dashboard's server with made-up answers: pages in states that a real line is seldom in, all at once.

``python -m tests.dashboard.fake [PORT]`` serves it and prints its address; tests on the real server are in test_browser.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import edgead
from tests.bundles import part as drawn

STATIC = Path(edgead.__file__).parent / "dashboard" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
LINE, OTHER = "press-3", "paint"
THRESHOLD = 2.0


def _time(seconds_ago: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parts(camera: str, count: int, seed: int, last: float) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        bad = rng.random() < 0.07
        score = float(rng.gamma(9, 0.12) + (rng.uniform(1.2, 5) if bad else 0))
        cause = str(rng.choice(["late: inference", "camera_timeout", "part_not_found"])) if rng.random() < 0.03 else ""
        verdict = "UNKNOWN" if cause else "NG" if score >= THRESHOLD else "OK"
        number = 41_000 + i
        found.append(
            {
                "id": camera,
                "seq": number,
                "part_id": number,
                "time": _time(last + (count - 1 - i) * 1.6),
                "verdict": verdict,
                "cause": cause,
                "score": None if cause else score,
                "statistic": None if cause else score,
                "threshold": THRESHOLD,
                "level": score,
                "recipe": 3,
                "engine": "gear/openvino-int8",
                "total_ms": 14.2,
                "picture": verdict != "OK",
                "overlay": verdict != "OK",
                "reviewed": None,
            }
        )
    for one in [one for one in found if one["verdict"] == "NG"][1:3]:
        one["reviewed"] = {"label": "false_reject", "note": "oil film", "who": "anna", "when": _time(60)}
    return found


class _Strict:
    """The headers of the real one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", CSP.encode()),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        await self._app(scope, receive, tell)


class Fake:
    """Its answers; tests change them before they look.

    Attributes:
        role: of whoever asks; "" must log in.
        cameras: by id.
        parts: by camera, oldest first.
        silent: answer /api/line no more.
        age_s: of each camera's last part.
        coming: what is to come next as events of the first camera, where it differs from its last part.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what was changed."""
        self.role, self.login, self.kiosk, self.silent = "engineer", True, False, False
        self.coming: list[dict[str, Any]] = []
        self.sent, self.age_s = 0, 2.0
        ids = [f"{LINE}/top", f"{LINE}/side", f"{OTHER}/booth"]
        self.parts = {name: _parts(name, 240, seed, last) for seed, (name, last) in enumerate(zip(ids, (2, 3, 400), strict=True))}
        self.cameras = {name: self._camera(name) for name in ids}
        top, side, booth = (self.cameras[name] for name in ids)
        self.parts[ids[0]][-1].update(verdict="NG", cause="", score=3.31, statistic=3.31, picture=True, overlay=True)
        self.parts[ids[1]][-1].update(verdict="UNKNOWN", cause="late: inference", score=None, statistic=None)
        side["notices"] = {"drift": "scores rise: the median of today is 1.4 times that of the reference; look at light and lens"}
        side["devices"]["plc"] = {"written": 41_240, "reconnects": 3}
        booth.update(
            state="faulted",
            fault="plc: 10.4.0.17:502 refuses the connection (ECONNREFUSED)",
            recipe=None,
            shifts=[],
            latency=None,
        )
        top["counters"]["OK"] = 12_408
        self.history = [
            {"when": _time(86_400), "who": "bernd", "old": 1.8, "new": 2.0, "why": "too many false rejects after the new coolant"}
        ]

    def _camera(self, name: str) -> dict[str, Any]:
        station, camera = name.split("/")
        parts = self.parts[name]
        counters = {verdict: sum(one["verdict"] == verdict for one in parts) for verdict in ("OK", "NG", "UNKNOWN")}
        return {
            "id": name,
            "station": station,
            "name": camera,
            "bundle": "gear.edgead",
            "digest": "9f2c1a" * 10 + "beef",
            "engine": "gear/openvino-int8",
            "recipe": 3,
            "state": "ready",
            "fault": "",
            "camera": "ok",
            "notices": {},
            "budget_ms": 40,
            "threshold": THRESHOLD,
            "rule": "NG at score 2 and above",
            "statistic": "score",
            "counters": counters,
            "causes": {"late: inference": 4, "camera_timeout": 2, "part_not_found": 1},
            "yield": 0.954,
            "ppm": 38_210.4,
            "shifts": [
                {"shift": "2026-11-30 early", "recipe": 3, "OK": 4102, "NG": 131, "UNKNOWN": 7},
                {"shift": "2026-11-29 late", "recipe": 2, "OK": 8306, "NG": 244, "UNKNOWN": 12},
            ],
            "latency": {"p50": 13.9, "p95": 19.2, "p99": 31.7, "misses": {"late: inference": 4}},
            "last": parts[-1],
            "devices": {"plc": {"written": 41_240, "errors": 0}, "gate": {"told": 505}},
            "queues": {"engine": 0, "pictures": 1},
            "disk": {"free_mb": 212_000, "records_waiting": 0, "records_lost": 0},
        }

    def app(self) -> Starlette:
        async def secured(request: Request) -> Response:
            return FileResponse(STATIC / "index.html")

        routes = [
            Route("/", secured),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/proof/{path:path}", lambda request: Response("<h1>Proof</h1>", media_type="text/html")),
            Route("/fake", self._told, methods=["POST"]),
            Route("/api/events", self._events),
            Route("/api/live/{path:path}", self._picture),
            Route("/api/part/{station}/{camera}/{seq:int}", self._part),
            Route("/api/part/{station}/{camera}/{seq:int}/review", self._review, methods=["POST"]),
            Route("/api/part/{station}/{camera}/{seq:int}/{what}", self._picture),
            Route("/api/{name:path}", self._answer, methods=["GET", "POST"]),
        ]
        return Starlette(routes=routes, middleware=[Middleware(_Strict)])

    async def _told(self, request: Request) -> Response:
        """Begin again, and change some of its attributes."""
        self.begin()
        for name, value in json.loads(await request.body()).items():
            setattr(self, name, value)
        return Response()

    async def _events(self, request: Request) -> Response:
        async def stream() -> AsyncIterator[bytes]:
            yield b"event: hello\ndata: {}\n\n"
            while not await request.is_disconnected():
                if self.coming:
                    self.sent += 1
                    part = {**self.parts[f"{LINE}/top"][-1], **self.coming.pop(0), "time": _time(0)}
                    yield (
                        b"event: part\ndata: %s\n\n"
                        % json.dumps({**part, "part_id": part["part_id"] + self.sent, "seq": None}).encode()
                    )
                await asyncio.sleep(0.05)

        return StreamingResponse(stream(), media_type="text/event-stream")

    def _picture(self, request: Request) -> Response:
        seq = request.path_params.get("seq", 7)
        image = drawn(seq, 320, defect=True)
        image = np.ascontiguousarray(image)
        if request.path_params.get("what") == "overlay" or request.query_params.get("overlay") == "1":
            heat = np.zeros((320, 320), np.uint8)
            cv2.circle(heat, (90 + seq % 140, 160), 46, 255, -1)
            warm = cv2.applyColorMap(cv2.GaussianBlur(heat, (0, 0), 22), cv2.COLORMAP_TURBO)
            image = cv2.addWeighted(image, 0.55, warm, 0.45, 0)
        return Response(cv2.imencode(".jpg", image)[1].tobytes(), media_type="image/jpeg", headers={"X-Part": "41239"})

    def _one(self, request: Request) -> dict[str, Any]:
        at = request.path_params
        return next(one for one in self.parts[f"{at['station']}/{at['camera']}"] if one["seq"] == at["seq"])

    async def _part(self, request: Request) -> Response:
        one = self._one(request)
        lines = [
            "score 3.31 is at or above the threshold 2",
            "rule: NG at score 2 and above",
            "waiting 0.4 ms, resize 1.1 ms, inference 11.9 ms, decision 0.8 ms",
        ]
        return JSONResponse(
            {
                **one,
                "source": "frame 41239",
                "rule": "NG at score 2 and above",
                "wait_ms": 0.4,
                "resize_ms": 1.1,
                "inference_ms": 11.9,
                "decision_ms": 0.8,
                "cause_words": "",
                "why": lines,
                "views": [],
            }
        )

    async def _review(self, request: Request) -> Response:
        told = json.loads(await request.body())
        one = self._one(request)
        one["reviewed"] = (
            {"label": told["label"], "note": told["note"], "who": "anna", "when": _time(0)} if told["label"] else None
        )
        return JSONResponse(one["reviewed"] or {})

    async def _answer(self, request: Request) -> Response:
        name, query = request.path_params["name"], request.query_params
        cameras = query.getlist("camera")
        if name == "line" and self.silent:
            return JSONResponse({"error": "silent", "hint": ""}, 500)
        ask = getattr(self, "_" + name.replace("/", "_"), None)
        if ask is None:
            return JSONResponse({"error": f"no such page: {name}", "hint": ""}, 404)
        return JSONResponse(ask(cameras, query))

    def _session(self, cameras: list[str], query: Any) -> Any:
        user = "" if self.kiosk or not self.role else "anna"
        return {
            "user": user,
            "role": self.role,
            "kiosk": self.kiosk,
            "csrf": "x",
            "login": self.login,
            "version": edgead.__version__,
        }

    def _line(self, cameras: list[str], query: Any) -> Any:
        for one in self.cameras.values():
            one["last"] = {**one["last"], "time": _time(self.age_s)}
        names = dict.fromkeys(one["station"] for one in self.cameras.values())
        return {
            "stations": [
                {"name": name, "cameras": [one for one in self.cameras.values() if one["station"] == name]} for name in names
            ]
        }

    def _parts(self, cameras: list[str], query: Any) -> Any:
        wanted, before = query.get("verdict", "").split(","), int(query.get("before", 1 << 60))
        found = [one for name in cameras for one in self.parts[name] if one["verdict"] in wanted and one["seq"] < before]
        limit = int(query.get("limit", 60))
        return {"parts": found[::-1][:limit], "more": len(found) > limit}

    def _days(self, cameras: list[str], query: Any) -> Any:
        days = [datetime.now(timezone.utc) - timedelta(days=i) for i in range(25)]
        return {
            "days": {
                f"{day:%Y-%m-%d}": {"OK": 8000, "NG": (i * 37) % 130, "UNKNOWN": i % 4}
                for i, day in enumerate(days)
                if f"{day:%Y-%m}" == query["month"]
            }
        }

    def _scores(self, cameras: list[str], query: Any) -> Any:
        edges = np.linspace(0, 8, 81)
        rng = np.random.default_rng(0)
        good, bad = rng.gamma(9, 0.12, 40_000), rng.uniform(1.4, 7.5, 900)
        told = np.concatenate([good, bad])
        count = lambda values: np.histogram(values, edges)[0].tolist()  # noqa: E731
        return {
            "edges": edges.tolist(),
            "OK": count(told[told < THRESHOLD]),
            "NG": count(told[told >= THRESHOLD]),
            "UNKNOWN": [0] * 80,
            "labelled": {"false_reject": count([2.05, 2.1, 2.2]), "missed_defect": count([1.7])},
            "threshold": THRESHOLD,
            "good_n": 412,
            "guarantee": "At most 1.2 % of good parts are rejected (95 % sure).",
            "more_good": "For 0.5 %: 180 more good pictures.",
        }

    def _replay(self, cameras: list[str], query: Any) -> Any:
        value = float(query["threshold"])
        parts = self.parts[cameras[0]]
        changed = [{**one, "would": "NG" if one["score"] >= value else "OK"} for one in parts if one["score"] is not None]
        changed = [one for one in changed if one["would"] != one["verdict"]]
        delta = 361 if value < THRESHOLD else -208 if value > THRESHOLD else 0
        return {
            "parts": 41_233,
            "from": _time(7 * 86_400),
            "to": _time(2),
            "now": {"OK": 40_728, "NG": 505, "UNKNOWN": 0},
            "then": {"OK": 40_728 - delta, "NG": 505 + delta, "UNKNOWN": 0},
            "changed_n": abs(delta) and len(changed),
            "changed": changed,
            "skipped": {"judged by another engine": 12},
        }

    def _threshold(self, cameras: list[str], query: Any) -> Any:
        return {"old": THRESHOLD, "new": THRESHOLD, "digest": "0"}

    def _threshold_history(self, cameras: list[str], query: Any) -> Any:
        return self.history

    def _recipes(self, cameras: list[str], query: Any) -> Any:
        shadow = {
            "bundle": "gear-new.edgead",
            "parts": 38_112,
            "flips": {"OK>NG": 41, "NG>OK": 63},
            "then": {"OK": 37_601, "NG": 511},
            "latency_ms": {"p50": 21.0, "p99": 44.0},
        }
        recipes = [
            {"number": n, "bundle": f"gear-{n}.edgead", "digest": "9f2c1a" * 10, "name": f"gear {n} teeth"} for n in (1, 2, 3)
        ]
        return {"current": 3, "recipes": recipes, "changeable": True, "why_not": "", "shadow": shadow}

    def _health(self, cameras: list[str], query: Any) -> Any:
        checks = [
            {"camera": name, "name": check, "ok": not (check == "drift" and name.endswith("side")), "words": "as at the start"}
            for name in self.cameras
            for check in ("golden frames", "drift", "clock")
        ]
        return {
            "stations": [],
            "checks": checks,
            "versions": {"edgead": edgead.__version__, "python": "3.11.2", "openvino": "2026.4.1"},
            "disk": {"free_mb": 212_000},
        }

    def _audit(self, cameras: list[str], query: Any) -> Any:
        rows = [
            ("threshold", f"{LINE}/top", 1.8, 2.0),
            ("review", f"{LINE}/side", None, "false_reject"),
            ("recipe", f"{LINE}/top", 2, 3),
        ]
        return [
            {"when": _time(60 * i), "who": "bernd", "role": "engineer", "what": what, "camera": camera, "old": old, "new": new}
            for i, (what, camera, old, new) in enumerate(rows)
        ]


if __name__ == "__main__":
    import uvicorn

    listener = socket.create_server(("127.0.0.1", int((sys.argv[1:] or ["0"])[0])))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(Fake().app(), log_level="error", timeout_graceful_shutdown=1)).run([listener])
