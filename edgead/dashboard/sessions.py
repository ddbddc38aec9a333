"""Who is logged in, for how long; and how often somebody may try."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections import deque
from dataclasses import dataclass

from edgead.clock import Clock
from edgead.dashboard.users import ROLES, User, Users
from edgead.errors import EdgeadError
from edgead.words import one_line

IDLE_S = 8 * 3600.0
"""A session that nobody used for so long is over."""
WHOLE_S = 24 * 3600.0
"""No session lasts longer."""
MOST_SESSIONS = 10_000
TRIES = 10
"""Wrong passwords in `WINDOW_S` seconds, of one address; twice as many of one name from anywhere."""
WINDOW_S = 300.0
WAIT_S = 5.0
"""For others' passwords to be looked at."""

_log = logging.getLogger("edgead.dashboard")


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks.

    Attributes:
        name: "" for somebody who has not logged in.
        role: "" may nothing.
        csrf: what changes must carry.
        key: of the session; "" for none.
    """

    name: str
    role: str
    csrf: str
    key: str = ""

    def may(self, role: str) -> bool:
        """Has at least this role?"""
        return self.role in ROLES and ROLES.index(self.role) >= ROLES.index(role)


@dataclass(slots=True)
class _Session:
    user: str
    csrf: str
    begun_ns: int
    used_ns: int


class Doors:
    """Lets people in.

    Args:
        users: None: everybody who reaches the address is an engineer.
        kiosk: who has not logged in may look.
        clock: how long sessions last.
    """

    def __init__(self, users: Users | None, clock: Clock, *, kiosk: bool = False) -> None:
        self._users, self._clock, self._kiosk = users, clock, kiosk
        self._sessions: dict[str, _Session] = {}
        self._tries: dict[str, deque[int]] = {}
        self._lock = threading.Lock()
        self._hashing = threading.Semaphore(2)
        self._csrf = secrets.token_urlsafe(32)

    @property
    def login(self) -> bool:
        """Are there users?"""
        return self._users is not None

    @property
    def kiosk(self) -> bool:
        return self._kiosk

    def who(self, cookie: str, *, used: bool = True) -> Who:
        """Whose cookie is this? `used`: somebody asks for something, so the session goes on."""
        if self._users is None:
            return Who("local", "engineer", self._csrf)
        key = _key(cookie)
        with self._lock:
            session = self._sessions.get(key)
            now_ns = self._clock.now_ns()
            if session is not None and _over(session, now_ns):
                del self._sessions[key]
                session = None
            if session is not None and used:
                session.used_ns = now_ns
        if session is not None and (user := self._known(session.user)) is not None:
            return Who(user.name, user.role, session.csrf, key)
        return Who("", "viewer" if self._kiosk else "", self._csrf)

    def enter(self, name: str, password: str, token: str, address: str) -> str | None:
        """A cookie for a new session; None: wrong. Raises TooOften."""
        if self._users is None:
            return None
        counted = (f"from {address}", f"as {name}") if not token else (f"from {address}",)
        self._count(counted)  # before it is looked at: many at once are as many tries
        if not self._hashing.acquire(timeout=WAIT_S):
            raise TooOften
        try:
            user = self._users.by_token(token) if token else self._users.by_password(name, password)
        finally:
            self._hashing.release()
        if user is None:
            _log.warning("a wrong %s, %s", "token" if token else "password", one_line(", ".join(counted)))
            return None
        with self._lock:
            now_ns = self._clock.now_ns()
            for one in counted:
                self._tries.pop(one, None)
            for old in [key for key, session in self._sessions.items() if _over(session, now_ns)]:
                del self._sessions[old]
            if len(self._sessions) >= MOST_SESSIONS:
                del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].used_ns)]
            cookie = secrets.token_urlsafe(32)
            self._sessions[_key(cookie)] = _Session(user.name, secrets.token_urlsafe(32), now_ns, now_ns)
            return cookie

    def leave(self, who: Who) -> None:
        """Log out."""
        with self._lock:
            self._sessions.pop(who.key, None)

    def _known(self, name: str) -> User | None:
        assert self._users is not None
        try:
            return self._users.all().get(name)
        except EdgeadError:  # nobody may in, until the file can be read again
            return None

    def _count(self, counted: tuple[str, ...]) -> None:
        """One more try. Raises TooOften."""
        with self._lock:
            since_ns = self._clock.now_ns() - round(WINDOW_S * 1e9)
            for who in list(self._tries):
                tries = self._tries[who]
                while tries and tries[0] < since_ns:
                    tries.popleft()
                if not tries:
                    del self._tries[who]
            for who, most in zip(counted, (TRIES, 2 * TRIES), strict=False):
                if len(self._tries.get(who, ())) >= most:
                    raise TooOften
            for who in counted:
                self._tries.setdefault(who, deque()).append(self._clock.now_ns())


class TooOften(Exception):
    """Somebody guesses."""


def _over(session: _Session, now_ns: int) -> bool:
    return now_ns - session.used_ns > IDLE_S * 1e9 or now_ns - session.begun_ns > WHOLE_S * 1e9


def _key(cookie: str) -> str:
    """What a session is kept under: the memory of this process holds no cookie."""
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()
