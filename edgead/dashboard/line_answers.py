"""Answers about who asks and about the line as it is now."""

from __future__ import annotations

from typing import Any

from edgead import __version__
from edgead.dashboard.asking import Ask, Refused, Reply
from edgead.dashboard.board import Board
from edgead.dashboard.sessions import TooOften


def session(board: Board, ask: Ask) -> dict[str, Any]:
    """Who asks, and what changes must carry."""
    return {
        "user": ask.who.name,
        "role": ask.who.role,
        "kiosk": board.doors.kiosk,
        "csrf": ask.who.csrf,
        "login": board.doors.login,
        "version": __version__,
    }


def login(board: Board, ask: Ask) -> Reply:
    """By name and password, or by a token."""
    if not board.doors.login:
        raise Refused(409, "nobody needs to log in: no users are configured", "edgead dashboard --users FILE")
    name, password, token = ask.given("name", 100), ask.given("password", 1000), ask.given("token", 200)
    if not token and not (name and password):
        raise Refused(400, "name and password are missing, or a token")
    try:
        cookie = board.doors.enter(name, password, token, ask.client)
    except TooOften:
        raise Refused(429, "too many wrong passwords; wait five minutes") from None
    if cookie is None:
        raise Refused(401, "this token is not valid (any more)" if token else "name or password is wrong")
    who = board.doors.who(cookie)
    return Reply(session(board, Ask(who, ask.client, {}, {}, {})), cookie=cookie)


def logout(board: Board, ask: Ask) -> Reply:
    """The session is over."""
    board.doors.leave(ask.who)
    return Reply(session(board, Ask(board.doors.who(""), ask.client, {}, {}, {})), cookie="")


def line(board: Board, ask: Ask) -> dict[str, Any]:
    """All cameras by station."""
    stations: dict[str, list[dict[str, Any]]] = {}
    for place in board.hub.places.values():
        stations.setdefault(place.station, []).append(board.hub.camera(place))
    return {"stations": [{"name": name, "cameras": cameras} for name, cameras in stations.items()]}


def live(board: Board, ask: Ask) -> Reply:
    """The newest picture."""
    place = board.in_path(ask)
    found = board.hub.picture(place, ask.text("overlay") == "1")
    if found is None:
        raise Refused(404, "no picture yet" if place.live is not None else "supervision.live is not set in its station.yaml")
    picture, part = found
    return Reply(picture, "image/jpeg", part=part)
