"""Camera addresses without their secrets: what may appear in logs, records and messages."""

from __future__ import annotations

import re

_USER = re.compile(r"^([a-z][a-z0-9+.-]*://)[^\s]*@", re.IGNORECASE)
_KEY = re.compile(r"\b((?:pass(?:word|wd)?|pwd|token|key|secret|auth|user(?:name)?)=)[^&/?#;]*", re.IGNORECASE)


def redact(address: str) -> str:
    """`address` with user, password and secret query values replaced by ``***``.

    Everything between ``://`` and the last ``@`` goes: passwords with ``@`` or ``/`` in them are common, and hiding a part of
    a path is better than showing a part of a password.
    """
    if "://" not in address:
        return address
    return _KEY.sub(r"\1***", _USER.sub(r"\1***@", address))
