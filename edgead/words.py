"""Text for people: without secrets, without control characters, no longer than a screen.

Whoever prints or logs passes what it shows through here: errors, file names and what devices say are other people's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

LONGEST, MOST_LINES = 1000, 12
"""Characters and lines of one message; with its hint it fits on a screen of 80 x 24."""

SHORTEST = 3
"""Characters of a secret that is worth hiding; of fewer every number would become ``***``."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""What moves a cursor, changes colours or the direction of reading, or cannot be encoded; not tabs and line breaks."""

_secrets: dict[str, None] = {}  # of this process: whoever prints must know them, wherever they were put


def keep_secret(secret: str) -> None:
    """From now on `secret` is shown as ``***``, also as it stands in an address, in quotes or with its white space folded."""
    for form in (secret, quote(secret, safe=""), repr(secret)[1:-1], " ".join(secret.split())):
        if len(form) >= SHORTEST:
            _secrets[form] = None


def hide(text: str) -> str:
    """`text` without what was kept secret."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def plain(text: str) -> str:
    r"""`text` with each control character as ``\x1b``; line breaks and tabs stay."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def short(text: str, longest: int = LONGEST) -> str:
    """`text` in at most about so many characters and 12 lines, and how many characters are left out."""
    kept = "\n".join(text.split("\n", MOST_LINES)[:MOST_LINES])[:longest]
    return text if len(kept) == len(text) else f"{kept} ... ({len(text) - len(kept)} characters more)"


def unicode_only(data: Any) -> Any:
    r"""JSON data whose texts can be stored: names of files need not be Unicode, and become ``latin\xe9.png``."""
    if isinstance(data, Mapping):
        return {unicode_only(key): unicode_only(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [unicode_only(value) for value in data]
    return data.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if isinstance(data, str) else data


def one_line(text: str, longest: int = LONGEST) -> str:
    """Without line breaks, control characters and secrets, and short."""
    return short(plain(hide(" ".join(text.split()))), longest)


def told(error: BaseException) -> str:
    """What an error says and how to fix it, in one line."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - somebody else's exception may not even be able to say what it is
        text = ""
    hint = getattr(error, "hint", "")
    return one_line(text or type(error).__name__) + (f" -> {one_line(hint)}" if isinstance(hint, str) and hint else "")
