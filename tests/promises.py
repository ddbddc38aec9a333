"""docs/promises.md: each promise of the README with the tests that hold it. `python -m tests.promises` writes the page.

A test says which promise it holds by ``@pytest.mark.promise("...")`` with words that stand in the README; tests/test_promises.py
fails when a promise has no test, when the words are not in the README any more, and when the page is not up to date.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/promises.md"

GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "1. Same answer": (
        "The engine that runs decides as the trained model did, though it computes with other kernels and often in 8 "
        "bits. Export compares both on real pictures and writes no engine that differs by more than its limits; the "
        "frames it compared go along in the bundle, and `edgead verify` repeats the comparison on the box. What is "
        "compared is the whole way: recipe, engine, decision rule, threshold. Read [guard](guard.md) for INT8 and "
        "[engines](engines.md) for what a box must show.",
        (
            "No agreement, no engine",
            "layers to blame go back to float",
            "an engine that was never measured does not run before `edgead verify` has measured it on the device",
            "repeats on the device, recipe and threshold included",
            "A changed byte is refused by name.",
            "So is a file that nobody listed.",
            "or by a signature (`edgead sign`, `--trusted`)",
        ),
    ),
    "2. One verdict per part, on time": (
        "For each trigger the PLC gets one of OK, NG, UNKNOWN, by its deadline, whatever hangs, dies or lies. UNKNOWN "
        "has a cause ([causes](causes.md)) and never counts as OK: the PLC treats it as a reject or stops. Read "
        "[station](station.md) for how a verdict comes about and [faults](faults.md) for what the line sees when "
        "something breaks.",
        (
            "OK, NG or UNKNOWN(cause). Late, broken or not finite is UNKNOWN, never OK.",
            "Every trigger gets exactly one verdict by its deadline",
            "one handshake (ready, busy, trigger, acknowledge, results held until taken, heartbeats both ways)",
            "Several cameras, one verdict for each part",
            "Recipes** change while the line runs",
            "a new one is taken between two parts",
            "survive `kill -9`",
            "systemd readiness and watchdog",
        ),
    ),
    "3. Budget in, engine out": (
        "Milliseconds go in; the most accurate engine that keeps them on this box, at p99 and with all that belongs to "
        "a part, comes out, or a plain no ([budget](budget.md)).",
        ("the most accurate engine that keeps 40 ms at p99, or says plainly that there is none",),
    ),
    "And what else the README says": (
        "",
        (
            "The line box needs neither torch nor onnx",
            "Mistakes in it are named by key and line.",
            "a guaranteed false-reject rate from good pictures alone",
            "Parts that move and turn** are found in the picture and brought to their place",
            "tell camera faults from product defects",
            "pictures are kept under byte and age quotas",
            "No pickle.",
        ),
    ),
}
"""Title -> what is meant by it, and the words of the README that are held by tests."""

PROMISES = tuple(promise for _, promises in GROUPS.values() for promise in promises)


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
    held = held_by()
    lines = [
        "# The three promises, and the tests that hold them",
        "",
        "The tables are made by `python -m tests.promises` from the marks `@pytest.mark.promise` in the tests; a test fails when",
        "they are out of date, or when a promise has no test. All run with `make test`; `pytest -m promise` runs these.",
    ]
    for title, (meant, promises) in GROUPS.items():
        lines += [
            "",
            f"## {title}",
            "",
            *([textwrap.fill(meant, 150), ""] if meant else []),
            "| the README says | held by |",
            "|---|---|",
        ]
        lines += [
            f"| {promise.replace('**', '')} | {'<br>'.join(f'`{test}`' for test in held[promise])} |" for promise in promises
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
