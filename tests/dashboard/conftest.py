"""For all tests of the dashboard."""

from __future__ import annotations

import argon2
import pytest


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of passwords that cost next to nothing: that they are dear is their purpose, and no test's."""
    monkeypatch.setattr("edgead.dashboard.users.hasher", lambda: argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
