"""Addresses that this machine shall listen on: what can never be one is wrong in the file, what is not up yet may come."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket

from edgead.errors import BadInput, OutputError

_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_HINTS = {
    errno.EADDRNOTAVAIL: "no network interface of this machine has this address now: is its cable in, has it its address?",
    errno.EADDRINUSE: "another program listens there; another edgead may run already",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE (systemd of `edgead deploy-files`)",
}


def check_host(host: str) -> None:
    """Can this be an address or a name at all? Raises BadInput."""
    if set(host) <= set("0123456789.") or ":" in host:
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError as error:
            raise BadInput(f"{host!r} is not an IP address", hint="like 10.0.0.5, 0.0.0.0 for all of this machine") from error
    elif not _NAME.fullmatch(host):
        raise BadInput(f"{host!r} is not a host name or an IP address", hint="like 10.0.0.5, 0.0.0.0 for all of this machine")


def try_listening(host: str, port: int, what: str) -> None:
    """Could a server listen there now? `what` begins the message, e.g. "cannot listen".

    Raises:
        BadInput: never: this is not an address or a port.
        OutputError: not now, and why.
    """
    check_host(host)
    if not 0 <= port <= 65535:
        raise BadInput(f"{port} is not a port", hint="0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise refused(host, port, what, error) from error


def refused(host: str, port: int, what: str, error: OSError) -> OutputError:
    """The error for a server that cannot listen there now."""
    reason = error.strerror or str(error)
    hint = _HINTS.get(error.errno or 0, "give an address of this machine and a free port")
    return OutputError(f"{what} on {host}:{port}: {reason}", hint=hint)
