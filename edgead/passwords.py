"""Does a value of a configuration hold a password in plain sight? However its key is spelled, and inside addresses and commands.

What is written as ``${NAME}`` or ``${file:PATH}`` is none.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_ENDS = ("password", "passwd", "passwort", "passphrase", "passcode", "pwd", "pw", "secret", "token", "apikey", "authkey",
         "accesskey", "authorization", "credential", "signature", "cookie")  # fmt: skip
_WHOLE = ("pass", "sig", "sas", "bearer")
_IN_ADDRESS = ("key", "auth")
"""Keys that hold secrets, by their end or as a whole, without case, dots, dashes and plurals; in an address two more."""

_FILLED = re.compile(r"\$\{[^}]*\}")
_USER = re.compile(r"://([^\s\"']{0,2000})@(?!sha256:[0-9a-f]{64})")
_KEY = re.compile(r"(?<![\w.%-])([\w.%-]+)[\"']?\s*(?:=|:(?!//))\s*[\"']?")
_VALUE = re.compile(r"[^\s\"'&;#?]+")
_OPTION = re.compile(r"--?([A-Za-z][\w-]*)\s+[\"']?([^\s\"'-][^\s\"']*)")
_BEARER = re.compile(r"\b(?:bearer|basic)\s+([A-Za-z0-9+/_.=~-]{6,})", re.IGNORECASE)
_SCHEMES = ("bearer", "basic", "digest")
"""Of an Authorization header; what follows is looked at by itself."""


def is_plain(key: str, text: str) -> bool:
    """Does `text`, the value of `key` as it stands in the file, hold a password that is not ``${...}``?"""
    if names_secret(key) and text.strip() and not _FILLED.search(text):
        return True
    text = _FILLED.sub("\0", text)  # what is filled in counts as one character that no pattern takes for a word
    return _in_user(text) or _in_pair(text) or any("\0" not in word for word in _BEARER.findall(text))


def names_secret(key: str, *, address: bool = False) -> bool:
    """Is this the name of a password, token or the like?"""
    name = re.sub(r"[^a-z0-9]", "", unquote(key).lower())
    name = name.removesuffix("s") if not name.endswith("pass") else name
    return name.endswith(_ENDS) or name in _WHOLE or (address and name.endswith(_IN_ADDRESS))


def _in_user(text: str) -> bool:
    """``scheme://user:password@``; of ``scheme://host:8080/a@b`` the number is a port."""
    for user in _USER.findall(text):
        _, colon, password = user.partition(":")
        if colon and password and not re.match(r"\d+/|\0+(@|$)", password):
            return True
    return False


def _in_pair(text: str) -> bool:
    """``password=x`` and the like, in a query, a path, a pipeline, a header or a command; ``--password x``."""
    address = "://" in text
    for pair in _KEY.finditer(text):
        value = _VALUE.match(text, pair.end())
        if value and names_secret(pair[1], address=address) and "\0" not in value[0] and value[0].lower() not in _SCHEMES:
            return True
    return any(names_secret(key) and "\0" not in value for key, value in _OPTION.findall(text))
