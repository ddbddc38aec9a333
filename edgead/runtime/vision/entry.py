"""Who may enter edgead's OPC UA server, and by which certificate it is known."""

from __future__ import annotations

import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgead.errors import StorageError
from edgead.runtime.plc.certificates import (
    Identity,
    is_ours,
    make_identity,
    read_certificate,
    read_identity,
    renew_identity,
)
from edgead.runtime.plc.opcua import asyncua

FREE, LONGEST_BAR_S = 3, 60.0
"""So many wrong passwords cost nothing; after each further one an address waits twice as long, up to this."""
MAX_PEERS = 256
"""Addresses that are remembered."""

_log = logging.getLogger("edgead.opcua")


class Users:
    """asyncua's user manager: one user, or anybody. Who guesses passwords is slowed down, by the address that he comes from.

    Args:
        login: the user and the password.
        anonymous: may somebody enter who gives neither?
        refused: told the cause and what is refused.
        peer: the address of the client that is being served now.
        now_s: monotonic seconds.
    """

    def __init__(
        self,
        login: tuple[str | None, str | None],
        anonymous: bool,
        refused: Callable[[str, str], None],
        peer: Callable[[], str] = lambda: "?",
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login, self._anonymous, self._refused, self._peer, self._now_s = login, anonymous, refused, peer, now_s
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # by address: how often, and until when it is barred

    def get_user(self, _server: Any, username: str | None = None, password: str | None = None, certificate: Any = None) -> Any:
        rules = asyncua("crypto.permission_rules")
        user = rules.User(role=rules.UserRole.User)
        if self._anonymous and username is None:
            return user
        peer, now_s = self._peer(), self._now_s()
        count, until_s = self._wrong.get(peer, (0, 0.0))
        if now_s < until_s:  # right or wrong: else a guess would tell
            self._refused("barred", f"at {peer}: after {count} wrong passwords it must wait for {until_s - now_s:.1f} s more")
            return None
        if self._right(username, password):
            self._wrong.pop(peer, None)
            return user
        count += 1
        bar_s = min(2.0 ** (count - FREE), LONGEST_BAR_S) if count > FREE else 0.0
        self._wrong[peer] = (count, now_s + bar_s)
        self._wrong.move_to_end(peer)
        if len(self._wrong) > MAX_PEERS:
            self._wrong.popitem(last=False)
        more = f" for the {count}th time; it must wait for {bar_s:g} s" if bar_s else ""
        self._refused("login", f"at {peer} with a wrong user or password{more}")
        return None

    def _right(self, username: str | None, password: str | bytes | None) -> bool:
        given = password.decode(errors="replace") if isinstance(password, bytes) else password
        if not all((username, given, *self._login)):
            return False
        pairs = zip((username, given), self._login, strict=True)
        same = [hmac.compare_digest(str(a).encode(), str(b).encode()) for a, b in pairs]
        return same == [True, True]


def identity_of(certificate: Path, key: Path, password: str | None, *, uri: str, bind: str) -> Identity:
    """Our certificate and key; a self-signed pair named `uri` when neither file is there.

    A certificate of ours whose dates do not do is signed anew, with the same key. Anybody else's is used as it is: whether its
    dates do is for the clients to say, and the inspection does not depend on it.

    Raises:
        BadInput, StorageError: the files cannot be used, or not be made.
    """
    _clear_halves(certificate, key, uri)
    if not certificate.exists() and not key.exists():
        _log.warning("opcua: made a self-signed certificate, %s: clients must trust it", certificate)
        return make_identity(certificate, key, uri=uri, hosts=(bind,))
    identity = read_identity(certificate, key, password)
    problem = identity.certificate.problem()
    if not problem:
        return identity
    if not is_ours(identity.certificate, uri):
        _log.warning("opcua: %s: clients may refuse it; put a new one in its place", problem)
        return identity
    try:
        renewed = renew_identity(identity, hosts=(bind,))
    except StorageError as error:
        _log.warning("opcua: %s, and a new one cannot be made: %s; clients may refuse it", problem, error)
        return identity
    _log.warning("opcua: %s: edgead has made it anew, clients must trust it again", problem)
    return renewed


def _clear_halves(certificate: Path, key: Path, uri: str) -> None:
    """Remove what a power cut left of a pair that was being made: empty files, and a certificate of ours without its key."""
    for path in (certificate, key):
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()
    if certificate.exists() and not key.exists() and is_ours(read_certificate(certificate), uri):
        certificate.unlink()
