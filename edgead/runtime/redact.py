"""Camera addresses without their secrets: what may appear in logs, records and messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PINNED = r"@(?!sha256:[0-9a-f]{64})"
"""What ends a user in an address; in ``oci://registry/bolt:7@sha256:...`` there is none."""
_USER = re.compile(rf"^([a-z][a-z0-9+.-]*://)[^\s]*{_PINNED}", re.IGNORECASE)
_USER_INSIDE = re.compile(rf"(://)[^\s/]*{_PINNED}")
_PROPERTY = re.compile(r"\b([\w-]*(?:pw|password|user-id|token)\s*=\s*)(?:\"[^\"]*\"|\S+)", re.IGNORECASE)
_KEY = re.compile(r"\b((?:pass(?:word|wd)?|pwd|token|key|secret|sig(?:nature)?|auth|user(?:name)?)=)[^&/?#;]*", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S*", re.IGNORECASE)


def redact(address: str) -> str:
    """`address` with user, password and secret query values replaced by ``***``.

    Everything between ``://`` and the last ``@`` goes: passwords with ``@`` or ``/`` in them are common, and hiding a part of
    a path is better than showing a part of a password. In a GStreamer pipeline (``gst:``) also the properties that hold secrets.
    """
    if address.lower().startswith("gst:"):
        return _KEY.sub(r"\1***", _PROPERTY.sub(r"\1***", _USER_INSIDE.sub(r"\1***@", address)))
    if "://" not in address:
        return address
    return _KEY.sub(r"\1***", _USER.sub(r"\1***@", address))


def redact_text(text: str) -> str:
    """Any text, with the secrets of each address and pipeline in it replaced; an address ends at white space, never before."""
    if "=" in text:
        text = _PROPERTY.sub(r"\1***", text)
    if "://" not in text:
        return text
    return _ADDRESS.sub(lambda found: redact(found[0]), text)


def redact_all(value: Any) -> Any:
    """Plain values (as for JSON) with `redact_text` applied to every text in them."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_all(item) for item in value]
    return value
