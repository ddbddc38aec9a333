"""docs/promises.md: each promise of the README with the tests that hold it. `python -m tests.promises` writes the page.

A test says which promise it holds by ``@pytest.mark.promise("...")`` with words that stand in the README; tests/test_promises.py
fails when a promise has no test, when the words are not in the README any more, and when the page is not up to date.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/promises.md"

PROMISES = (
    "No agreement, no engine",
    "OK, NG or UNKNOWN(cause). Late, broken or not finite is UNKNOWN, never OK.",
    "the most accurate engine that keeps 40 ms at p99, or says plainly that there is none",
    "The line box needs neither torch nor onnx",
    "layers to blame go back to float",
    "an engine that was never measured does not run before `edgead verify` has measured it on the device",
    "Mistakes in it are named by key and line.",
    "Every trigger gets exactly one verdict by its deadline",
    "one handshake (ready, busy, trigger, acknowledge, results held until taken, heartbeats both ways)",
    "a guaranteed false-reject rate from good pictures alone",
    "Parts that move and turn** are found in the picture and brought to their place",
    "Recipes** change while the line runs",
    "a new one is taken between two parts",
    "tell camera faults from product defects",
    "Several cameras, one verdict for each part",
    "survive `kill -9`",
    "pictures are kept under byte and age quotas",
    "systemd readiness and watchdog",
    "No pickle.",
    "repeats on the device, recipe and threshold included",
    "A changed byte is refused by name.",
    "So is a file that nobody listed.",
    "or by a signature (`edgead sign`, `--trusted`)",
)


def flat(text: str) -> str:
    """On one line, as a promise may be broken over several."""
    return " ".join(text.split())


def held_by() -> dict[str, list[str]]:
    """Promise -> the tests that hold it, as pytest names them."""
    found: dict[str, list[str]] = {promise: [] for promise in PROMISES}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, promise in _marked(ast.parse(file.read_text("utf-8"))):
            found.setdefault(promise, []).append(f"{file.relative_to(ROOT).as_posix()}::{name}")
    return found


def _marked(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.promise":
                yield node.name, ast.literal_eval(mark.args[0])


def page() -> str:
    """The page's text."""
    rows = "\n".join(f"| {promise} | {'<br>'.join(f'`{test}`' for test in tests)} |" for promise, tests in held_by().items())
    return f"""# The README's promises, and the tests that hold them

Made by `python -m tests.promises` from the marks `@pytest.mark.promise` in the tests; a test fails when it is out of date.
Each runs with `make test`; `python -m pytest -m promise` runs these alone.

| promise | held by |
|---|---|
{rows}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
