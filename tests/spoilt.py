"""Bad input for the fuzz tests: values that do not belong where they are put, and files with one of them in a random place."""

from __future__ import annotations

import copy
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e-320, 1e9, 1e38, 1e39, 1e308, -1e308, 2**31, 2**63, 2**64, 10**30, 10**4000,
    float("nan"), float("inf"), float("-inf"), "", " ", "a", "0", "1e9", "nan", "../x", "/etc/passwd", "/dev/zero", "a" * 5000,
    "\u0000", "\u001b[2J", "a\nb", "\ud800", "零", "rates", "none", "5 %", "5:1", "%", ":", "openvino", "area", "score",
    [], [None], [1], [1, 2], [1.5, "a"], [[[[]]]], ["a"] * 500, {}, {"a": 1}, {"value": 1.0}, {"": None}, {"a": {"b": {"c": []}}},
)  # fmt: skip


def spoil(data: Any, rng: random.Random, times: int = 1) -> Any:
    """A copy of JSON-like data with something odd at `times` random places: another value, nothing, or a key more."""
    whole = copy.deepcopy(data)
    for _ in range(times):
        inside = whole
        while True:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.8:
                inside = inside[key]
                continue
            what = rng.random()
            if what < 0.1:
                del inside[key]
            elif what < 0.15 and isinstance(inside, dict):
                inside["unknown"] = rng.choice(ODD)
            else:
                inside[key] = copy.deepcopy(rng.choice(ODD))
            break
    return whole
