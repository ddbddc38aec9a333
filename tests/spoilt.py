"""Bad input for the fuzz tests: values that do not belong where they are put, and data with some of them in random places."""

from __future__ import annotations

import copy
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e-320, 1e9, 1e38, 1e39, 1e308, -1e308, 2**31, 2**63, 2**64, 10**30, 10**4000,
    float("nan"), float("inf"), float("-inf"), "", " ", "a", "0", "1e9", "nan", "../x", "/etc/passwd", "/dev/zero", "~nobody/x",
    "a" * 5000, "\u0000", "\u001b[2J", "a\nb", "\ud800", "零", "rates", "none", "5 %", "5:1", "%", ":", "openvino", "area",
    "score", "2001-99-99", [], [None], [1], [1, 2], [1.5, "a"], [[[[]]]], ["a"] * 500, {}, {"a": 1}, {"value": 1.0}, {"": None},
    {"a": {"b": {"c": []}}},
)  # fmt: skip

WORDS = tuple(
    str(odd) for odd in ODD if not isinstance(odd, list | dict) and "\0" not in str(odd) and "\ud800" not in str(odd)
)  # fmt: skip
"""The same as arguments of a command line."""


def spoil(data: Any, rng: random.Random) -> Any:
    """A copy of JSON-like data with something odd in one or two random places: another value, nothing, or a key more."""
    whole = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 2))):
        inside = whole
        while inside:
            keys = sorted(inside, key=str) if isinstance(inside, dict) else list(range(len(inside)))
            key = rng.choice(keys)
            if isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.8:
                inside = inside[key]
                continue
            what = rng.random()
            if what < 0.1:
                del inside[key]
            elif what < 0.15 and isinstance(inside, dict):
                inside["unknown"] = copy.deepcopy(rng.choice(ODD))
            else:
                inside[key] = copy.deepcopy(rng.choice(ODD))
            break
    return whole
