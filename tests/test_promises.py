"""What the README promises is held by tests, and docs/promises.md says by which."""

from __future__ import annotations

import pytest

from tests import promises


@pytest.mark.parametrize(("promise", "tests"), promises.held_by().items(), ids=lambda value: str(value)[:30])
def test_a_promise_stands_in_the_readme_and_has_a_test(promise: str, tests: list[str]) -> None:
    assert promise in promises.flat((promises.ROOT / "README.md").read_text("utf-8"))
    assert tests, f"no test is marked with {promise!r}"


def test_the_page_is_up_to_date() -> None:
    assert promises.PAGE.read_text("utf-8") == promises.page(), "run: python -m tests.promises"
