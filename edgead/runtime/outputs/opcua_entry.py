"""Who may enter edgead's OPC UA server, and by which certificate it is known."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgead.errors import BadInput
from edgead.runtime.outputs.opcua import asyncua
from edgead.runtime.outputs.opcua_certificates import Identity, make_identity, read_identity


class Users:
    """asyncua's user manager: one user, or anybody."""

    def __init__(self, login: tuple[str | None, str | None], anonymous: bool, refused: Callable[[str, str], None]) -> None:
        self._login, self._anonymous, self._refused = login, anonymous, refused

    def get_user(self, _server: Any, username: str | None = None, password: str | None = None, certificate: Any = None) -> Any:
        rules = asyncua("crypto.permission_rules")
        user = rules.User(role=rules.UserRole.User)
        if (self._anonymous and username is None) or self._right(username, password):
            return user
        self._refused("login", "with a wrong user or password")
        return None

    def _right(self, username: str | None, password: str | bytes | None) -> bool:
        given = password.decode(errors="replace") if isinstance(password, bytes) else password
        if not all((username, given, *self._login)):
            return False
        pairs = zip((username, given), self._login, strict=True)
        same = [hmac.compare_digest(str(a).encode(), str(b).encode()) for a, b in pairs]
        return same == [True, True]


def identity_of(certificate: Path, key: Path, password: str | None, *, uri: str, bind: str) -> Identity:
    """Our certificate and key; a self-signed pair named `uri` when neither file is there. Raises BadInput, StorageError."""
    if not certificate.exists() and not key.exists():
        logging.getLogger("edgead.opcua").warning("opcua: made a self-signed certificate, %s: clients must trust it", certificate)
        return make_identity(certificate, key, uri=uri, hosts=(bind,))
    identity = read_identity(certificate, key, password)
    problem = identity.certificate.problem()
    if problem:
        raise BadInput(problem, hint="remove it and its key to have a self-signed one made, or put a new one there")
    return identity
