"""Comparing latencies fairly: everybody's turn in each round."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgead.engines.timing import FEWEST, LatencyStats, interleaved


def calls(order: list[str]) -> dict[str, Callable[[], object]]:
    return {name: lambda name=name: order.append(name) for name in "ab"}  # type: ignore[misc]


def test_all_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []
    found = interleaved(calls(order), rounds=4)
    assert order == ["a", "b"] * 5
    assert {name: stats.n for name, stats in found.items()} == {"a": 4, "b": 4}


def test_the_first_call_of_a_burst_is_not_counted() -> None:
    order: list[str] = []
    found = interleaved(calls(order), rounds=2, burst=3)
    assert "".join(order) == "aaaabbbb" * 3
    assert found["a"].n == 6


def test_bursts_may_differ() -> None:
    order: list[str] = []
    found = interleaved(calls(order), rounds=2, burst={"a": 1, "b": 3})
    assert "".join(order) == "abbbb" * 3
    assert (found["a"].n, found["b"].n) == (2, 6)


def test_slow_ones_get_few_rounds() -> None:
    order: list[str] = []
    assert interleaved(calls(order), rounds=50, max_s=0.0)["a"].n == FEWEST


def test_percentiles_of_known_times() -> None:
    stats = LatencyStats.of([float(ms) for ms in range(101)])
    assert (stats.n, stats.mean_ms, stats.p50_ms, stats.p95_ms, stats.p99_ms, stats.max_ms) == (101, 50, 50, 95, 99, 100)
    assert LatencyStats.of([7.0]) == LatencyStats(1, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0)


def test_what_fails_is_not_hidden() -> None:
    def broken() -> object:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        interleaved({"broken": broken})
