"""The dashboard's addresses, and who may call each."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from edgead.dashboard import health_answers, line_answers, part_answers, recipe_answers, review_answers, threshold_answers
from edgead.dashboard.asking import Ask, Refused, Reply
from edgead.dashboard.board import Board
from edgead.dashboard.events import Events
from edgead.dashboard.guard import COOKIE, MOST_BYTES, App, Guard, TooLarge
from edgead.errors import BadInput, EdgeadError
from edgead.words import one_line

STATIC = Path(__file__).parent / "static"
Answer = Callable[[Board, Ask], Any]

BODY_S = 10.0
NOBODY = "nobody"
"""Also who has not logged in."""

_log = logging.getLogger("edgead.dashboard")

ANSWERS: list[tuple[str, str, str, Answer]] = [
    ("GET", "/api/session", NOBODY, line_answers.session),
    ("POST", "/api/login", NOBODY, line_answers.login),
    ("POST", "/api/logout", NOBODY, line_answers.logout),
    ("GET", "/api/line", "viewer", line_answers.line),
    ("GET", "/api/live/{station}/{camera}.jpg", "viewer", line_answers.live),
    ("GET", "/api/parts", "viewer", part_answers.found),
    ("GET", "/api/days", "viewer", part_answers.days),
    ("GET", "/api/part/{station}/{camera}/{seq}", "viewer", part_answers.part),
    ("GET", "/api/part/{station}/{camera}/{seq}/picture", "viewer", part_answers.picture),
    ("GET", "/api/part/{station}/{camera}/{seq}/overlay", "viewer", part_answers.overlay),
    ("POST", "/api/part/{station}/{camera}/{seq}/review", "operator", review_answers.review),
    ("GET", "/api/scores", "viewer", threshold_answers.scores),
    ("GET", "/api/replay", "viewer", threshold_answers.replayed),
    ("POST", "/api/threshold", "engineer", threshold_answers.apply),
    ("POST", "/api/threshold/undo", "engineer", threshold_answers.undo),
    ("GET", "/api/threshold/history", "viewer", threshold_answers.history),
    ("GET", "/api/recipes", "viewer", recipe_answers.recipes),
    ("POST", "/api/recipe", "operator", recipe_answers.change),
    ("GET", "/api/health", "viewer", health_answers.health),
    ("GET", "/proof/{station}/{camera}", "viewer", health_answers.proof),
    ("GET", "/api/audit", "engineer", review_answers.audit),
    ("GET", "/api/export", "viewer", review_answers.export),
]
"""Method, address, the role that it needs at least, and who answers."""


def application(board: Board, *, names: tuple[str, ...] = (), secure: bool = False, proxied: bool = False) -> App:
    """All of it.

    Args:
        board: what answers need.
        names, secure, proxied: see :class:`edgead.dashboard.guard.Guard`.
    """

    @asynccontextmanager
    async def living(_: Starlette) -> AsyncIterator[None]:
        await board.hub.start()
        try:
            yield
        finally:
            await board.hub.stop()

    routes: list[BaseRoute] = [
        Route(path, _endpoint(board, answer, role, secure=secure), methods=[method]) for method, path, role, answer in ANSWERS
    ]
    routes += [
        Route("/api/events", Events(board)),
        Route("/", _index, methods=["GET"]),
        Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
    ]
    app = Starlette(routes=routes, lifespan=living, exception_handlers={404: _missing, 405: _missing})
    return Guard(app, board.doors, names=names, secure=secure, proxied=proxied)


def _endpoint(board: Board, answer: Answer, role: str, *, secure: bool) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        who = request.state.who
        if role != NOBODY and not who.may(role):
            if not who.role:
                return _no(401, "log in first")
            return _no(403, f"this needs the role {role}, {who.name or 'who has not logged in'} is {who.role}")
        try:
            query = {name: request.query_params.getlist(name) for name in request.query_params}
            ask = Ask(who, request.state.client, request.path_params, query, await _body(request))
            told = await run_in_threadpool(answer, board, ask)
            return _response(told if isinstance(told, Reply) else Reply(told), secure=secure)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001 - each has its answer; what is a bug is logged with its trace
            return _failed(board, error)

    return endpoint


async def _body(request: Request) -> dict[str, Any]:
    if request.method != "POST":
        return {}
    try:
        text = await asyncio.wait_for(request.body(), BODY_S)
    except asyncio.TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_S:g} s") from None
    try:
        found = json.loads(text or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is no JSON") from error
    if not isinstance(found, dict):
        raise Refused(400, "the body is no JSON object")
    return found


def _failed(board: Board, error: Exception) -> Response:
    if isinstance(error, Refused):
        return _no(error.status, board.shown(str(error)), board.shown(error.hint))
    if isinstance(error, TooLarge):
        return _no(413, f"a request is {MOST_BYTES} bytes at most")
    if isinstance(error, EdgeadError):
        return _no(400 if isinstance(error, BadInput) else 409, board.shown(str(error)), board.shown(error.hint))
    _log.error("internal error", exc_info=error)
    return _no(500, "internal error; the dashboard's log has its trace")


def _no(status: int, words: str, hint: str = "") -> Response:
    content = json.dumps({"error": one_line(words), "hint": one_line(hint)})
    return Response(content, status, media_type="application/json")


def _response(reply: Reply, *, secure: bool) -> Response:
    body = reply.body
    response: Response
    if isinstance(body, Path):  # made for this answer, and gone with it
        return FileResponse(body, media_type=reply.kind, filename=reply.name, background=BackgroundTask(body.unlink, True))
    if not isinstance(body, bytes):
        body = body if isinstance(body, str) else json.dumps(body, allow_nan=False)
    response = Response(body, media_type=reply.kind)
    if reply.part is not None:
        response.headers["X-Part"] = str(reply.part)
    if reply.cookie is not None:
        if reply.cookie:
            response.set_cookie(COOKIE, reply.cookie, httponly=True, samesite="strict", secure=secure, path="/")
        else:
            response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=secure)
    return response


async def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _missing(request: Request, error: Exception) -> Response:
    status = int(getattr(error, "status_code", 404))
    return _no(status, "there is nothing here" if status == 404 else "not by this method")
