"""Who may use the dashboard: a file of names, roles, hashes of passwords (argon2) and of tokens, which only its owner reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from edgead.errors import BadInput, StorageError
from edgead.optional import require
from edgead.runtime.records.wallclock import utc_now

FORMAT = "edgead.users/1"
ROLES = ("viewer", "operator", "engineer")
"""Each may do what the ones before may."""
SHORTEST = 10
LONGEST = 1000
MAX_BYTES = 4_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Token:
    """What a program shows instead of a password.

    Attributes:
        label: what it is for.
        sha256: of it.
        until: ISO 8601, UTC; "" for ever.
    """

    label: str
    sha256: str
    until: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """One person or program.

    Attributes:
        name, role: of it.
        password: argon2's hash; "": only tokens.
        tokens: of it.
    """

    name: str
    role: str
    password: str = ""
    tokens: tuple[Token, ...] = ()


def read_users(file: Path) -> dict[str, User]:
    """By name.

    Raises:
        BadInput: it is none, or others may read it.
        StorageError: it cannot be read.
    """
    from edgead.disk import open_file

    try:
        with open_file(file) as opened:
            info = os.fstat(opened.fileno())
            if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise BadInput(f"{file} may be read by others", hint=f"chmod 600 {file}")
            text = opened.read(MAX_BYTES)
    except FileNotFoundError as error:
        raise BadInput(f"there is no file {file}", hint=f"edgead users add NAME --role engineer --users {file}") from error
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror or error}", hint="run the dashboard as its owner") from error
    try:
        told = json.loads(text)
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {told['format']!r}")
        users = [_user(one) for one in told["users"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{file} is no file of users: {error}", hint="edgead users makes and changes it") from error
    return {user.name: user for user in users}


def _user(told: Any) -> User:
    tokens = tuple(Token(str(one["label"]), str(one["sha256"]), str(one["until"])) for one in told["tokens"])
    if told["role"] not in ROLES or not _NAME.fullmatch(told["name"]):
        raise ValueError(f"a user {str(told['name'])[:40]!r} with the role {str(told['role'])[:40]!r}")
    return User(told["name"], told["role"], str(told["password"]), tokens)


def write_users(file: Path, users: dict[str, User]) -> None:
    """Raises StorageError."""
    told = {
        "format": FORMAT,
        "users": [
            {
                "name": user.name,
                "role": user.role,
                "password": user.password,
                "tokens": [{"label": one.label, "sha256": one.sha256, "until": one.until} for one in user.tokens],
            }
            for user in users.values()
        ],
    }
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600 from the beginning
        try:
            with os.fdopen(handle, "w") as out:
                json.dump(told, out, indent=1)
                out.flush()
                os.fsync(out.fileno())
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror or error}", hint="choose another --users FILE") from error


def with_user(users: dict[str, User], name: str, role: str, password: str | None) -> dict[str, User]:
    """With a new user, or another role or password of one that is there. Raises BadInput, MissingExtra."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name[:80]!r} is not usable as a name", hint="letters, digits, and . _ @ - inside; at most 64")
    if role not in ROLES:
        raise BadInput(f"there is no role {role!r}", hint=", ".join(ROLES))
    if password is not None and not SHORTEST <= len(password) <= LONGEST:
        raise BadInput(f"the password has {len(password)} characters", hint=f"{SHORTEST} at least, {LONGEST} at most")
    if password is not None and not _is_text(password):
        raise BadInput("the password holds bytes that are no text", hint="give it in UTF-8")
    before = users.get(name, User(name, role))
    hashed = before.password if password is None else str(hasher().hash(password))
    return {**users, name: replace(before, role=role, password=hashed)}


def with_token(users: dict[str, User], name: str, label: str, days: int | None) -> tuple[dict[str, User], str]:
    """With a new token of a user, and the token, which is written nowhere. Raises BadInput."""
    if name not in users:
        raise BadInput(f"there is no user {name}", hint="edgead users add makes one")
    if not label.isprintable() or len(label) > 100:
        raise BadInput(f"the label {label[:60]!a} cannot be shown", hint="at most 100 letters, digits and signs")
    token = secrets.token_urlsafe(32)
    until = "" if days is None else (utc_now() + timedelta(days=days)).isoformat(timespec="seconds")
    user = users[name]
    return {**users, name: replace(user, tokens=(*user.tokens, Token(label, _digest(token), until)))}, token


class Users:
    """The file, as it is now: who is removed there is out at once.

    Args:
        file: of the users.
        now: the date, for tokens.

    Raises:
        BadInput, StorageError: it cannot be used.
        MissingExtra: argon2 is not installed.
    """

    def __init__(self, file: Path, now: Callable[[], datetime] = utc_now) -> None:
        self._file, self._now = file, now
        self._hasher = hasher()
        self._nobody = str(self._hasher.hash(secrets.token_urlsafe(16)))  # so that unknown names take as long
        self._seen: tuple[int, int, int] | None = None
        self._users: dict[str, User] = {}
        if not self.all():
            raise BadInput(f"{file} has no users", hint=f"edgead users add NAME --role engineer --users {file}")

    def all(self) -> dict[str, User]:
        """By name. Raises BadInput, StorageError: nobody may in, then."""
        try:
            info = self._file.stat()
            seen = (info.st_ino, info.st_mtime_ns, info.st_size)
        except OSError:
            seen = None
        if seen is None or seen != self._seen:
            self._users, self._seen = read_users(self._file), seen
        return self._users

    def by_password(self, name: str, password: str) -> User | None:
        """Takes as long as argon2 does, whoever that is."""
        user = self.all().get(name)
        known = user is not None and bool(user.password)
        given = password[:LONGEST].encode("utf-8", "surrogatepass")
        import argon2

        try:
            self._hasher.verify(user.password if user is not None and known else self._nobody, given)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHash):
            return None
        return user if known else None

    def by_token(self, token: str) -> User | None:
        """Whose it is, if it is not over."""
        digest, now = _digest(token), self._now()
        for user in self.all().values():
            for one in user.tokens:
                if secrets.compare_digest(one.sha256, digest):
                    return user if not one.until or now < datetime.fromisoformat(one.until) else None
        return None


def hasher() -> Any:
    """argon2id with the library's own costs. Raises MissingExtra."""
    return require("argon2", extra="dashboard", why="A file of users").PasswordHasher()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
