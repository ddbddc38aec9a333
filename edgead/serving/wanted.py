"""What `edgead serve` shall serve, and where: names, versions and addresses, as they stand on the command line."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.errors import BadInput
from edgead.runtime.listening import check_host

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_NAMED = re.compile(r"([^=]*)=(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Named:
    """A bundle and what clients call it.

    Attributes:
        name: of the model.
        version: of it; "" where it has none.
        path: of the bundle.
    """

    name: str
    version: str
    path: Path

    @property
    def key(self) -> str:
        """Name and version in one: ``part`` or ``part:2``."""
        return f"{self.name}:{self.version}" if self.version else self.name

    @classmethod
    def parse(cls, text: str) -> Named:
        """``part.edgead``, ``part=bundles/a.edgead`` or ``part:2=bundles/b.edgead``. Raises BadInput."""
        given = None if Path(text).exists() or text.startswith((".", "/")) else _NAMED.fullmatch(text)
        if given is None:
            path = Path(text)
            name, version = re.sub(r"[^A-Za-z0-9_.-]", "_", path.resolve().stem).lstrip(".-")[:100], ""
        else:
            path = Path(given[2])
            name, colon, version = given[1].partition(":")
            if colon and not version:
                raise BadInput(f"{text!r} names no version", hint=f"{name or 'part'}:2={path}, or {name or 'part'}={path}")
        for what, word in (("name", name), ("version", version or "1")):
            if not _NAME.fullmatch(word):
                raise BadInput(
                    f"{word[:80]!r} cannot be the {what} of a served model",
                    hint="letters, digits, _ . and - : part=FOLDER.edgead, part:2=FOLDER.edgead",
                )
        return cls(name, version, path)


def check_names(wanted: Sequence[Named]) -> None:
    """No two bundles may answer to the same name and version. Raises BadInput."""
    seen: dict[str, Named] = {}
    for one in wanted:
        if (other := seen.setdefault(one.key, one)) is not one:
            raise BadInput(
                f"{other.path} and {one.path} would both be called {one.key}",
                hint=f"give them names, NAME={one.path}, or versions, {one.name}:2={one.path}",
            )
    versioned = {one.name for one in wanted if one.version}
    if clash := [one for one in wanted if not one.version and one.name in versioned]:
        raise BadInput(f"{clash[0].path} has no version, and another bundle of the name {clash[0].name} has one",
                       hint=f"{clash[0].name}:1={clash[0].path}")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    Attributes:
        host: name or address of this machine.
        port: 0 takes a free one.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """``127.0.0.1:8000``, ``[::1]:8000``, ``localhost:8000``. Raises BadInput."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            colon = ""
        if not (colon and host and re.fullmatch(r"[0-9]{1,5}", port) and int(port) <= 65535):
            raise BadInput(f"{text[:80]!r} is not an address to listen on", hint="HOST:PORT, like 127.0.0.1:8000 or [::1]:8000")
        check_host(host)
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Can only programs of this machine reach it?"""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def at(self, port: int) -> str:
        """As it is written, with the port that was taken."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
