"""The camera's picture in a browser of this machine, with what is to be mended and a button. Nobody else can reach it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from edgead.capture.session import Session
from edgead.dashboard.guard import HEADERS
from edgead.dashboard.serving import Address, Server
from edgead.errors import BadInput, OutputError
from edgead.jobs.plain import plain_of
from edgead.runtime.threads import Supervised

SIDE_PX = 1024
"""Of the picture in the browser, at most."""
QUALITY = 80
END_S = 10.0
FILES = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript"), "/page.css": ("page.css", "text/css")}
STATIC = Path(__file__).parent / "static"


def application(session: Session) -> Any:
    """The page, the picture, the state, and the button."""

    async def file(request: Request) -> Response:
        name, kind = FILES[request.url.path]
        return FileResponse(STATIC / name, media_type=kind)

    async def state(_: Request) -> Response:
        return JSONResponse(plain_of(asdict(session.state)) | {"by_hand": session.wanted.by_hand})

    async def picture(_: Request) -> Response:
        image = session.picture
        if image is None:
            return PlainTextResponse("no picture yet", 404)
        scale = min(1.0, SIDE_PX / max(image.shape[:2]))
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        return Response(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes(), media_type="image/jpeg")

    async def take(_: Request) -> Response:
        session.take()
        return JSONResponse({})

    routes = [Route(path, file) for path in FILES]
    routes += [Route("/state", state), Route("/picture.jpg", picture), Route("/take", take, methods=["POST"])]
    return _Own(Starlette(routes=routes))


class _Own:
    """Only this machine's browser, on our own page: no other site may press the button, or lead a name of its own here."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = {**HEADERS, "cache-control": "no-store"}
                kept = [one for one in message.get("headers", ()) if one[0].decode("latin-1").lower() not in more]
                message["headers"] = [*kept, *((name.encode(), value.encode()) for name, value in more.items())]
            await send(message)

        request = Request(scope)
        if not (_loops(request.headers.get("host", "")) and _ours(request)):
            await PlainTextResponse("only this machine's own browser, on this page", 403)(scope, receive, headed)
            return
        await self._app(scope, receive, headed)


def _loops(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in ("localhost", "::1") or (name.startswith("127.") and set(name) <= set("0123456789."))


def _ours(request: Request) -> bool:
    """A change comes from our page: no form of another site sends this header, and no browser lets its scripts do so."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{request.headers.get('host')}":
        return False
    return request.method in ("GET", "HEAD") or request.headers.get("x-edgead") == "capture"


def address_of(text: str) -> Address:
    """Where it may listen. Raises BadInput: others could reach it."""
    address = Address.of(text)
    if not address.loopback:
        raise BadInput(
            f"{text}: the preview has no users and no TLS, so only this machine may see it",
            hint="127.0.0.1:8090; from elsewhere: ssh -L 8090:127.0.0.1:8090 THIS_MACHINE",
        )
    return address


@contextmanager
def shown(session: Session, address: Address) -> Iterator[str]:
    """Serve it while the block runs; gives its URL. Raises OutputError: it cannot listen there."""
    with address.listen() as listener:
        server = Server(application(session), address, listener)
        thread = Supervised("preview", server.serve_until_told, restart=False, kind=OutputError)
        thread.start()
        try:
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join(END_S)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
