"""Where a bundle lies in a registry: ``oci://registry:5000/line/bolt:7`` or ``oci://registry:5000/line/bolt@sha256:...``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from edgead.errors import BadInput

SCHEME = "oci://"
DEFAULT_TAG = "latest"
_FORM = "write oci://registry:5000/line/bolt:7, or oci://registry:5000/line/bolt@sha256:64 hexadecimal digits"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:]{2,45}\])(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_ADDRESS = re.compile(
    rf"oci://(?P<registry>{_HOST})/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?")
_LONGEST = 512


@dataclass(frozen=True, slots=True)
class OciAddress:
    """A place in a registry.

    Attributes:
        registry: host, and port where one is given.
        repository: such as ``line/bolt``.
        tag: "" when none is given.
        digest: ``sha256:...`` of the OCI manifest; "" when none is given.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> OciAddress:
        """Raises BadInput: it is no such address."""
        if "@" in text.removeprefix(SCHEME).partition("/")[0]:
            raise BadInput(
                "a registry's address holds no user and no password",
                hint="docker login, or EDGEAD_REGISTRY_USER and EDGEAD_REGISTRY_PASSWORD in the environment",
            )
        found = _ADDRESS.fullmatch(text) if len(text) <= _LONGEST else None
        if found is None:
            raise BadInput(f"{text[:120]!r} is not the address of a bundle in a registry", hint=_FORM)
        return cls(found["registry"], found["repository"], found["tag"] or "", found["digest"] or "")

    @property
    def reference(self) -> str:
        """What is asked for: the digest, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    @property
    def name(self) -> str:
        """The last part of the repository."""
        return self.repository.rpartition("/")[2]

    @property
    def is_loopback(self) -> bool:
        """Is it of this machine, so that nobody listens on the way?"""
        return _LOOPBACK.fullmatch(self.registry) is not None

    def at(self, digest: str) -> OciAddress:
        """The same place, pinned."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        tag, digest = f":{self.tag}" if self.tag else "", f"@{self.digest}" if self.digest else ""
        return f"{SCHEME}{self.registry}/{self.repository}{tag}{digest}"
