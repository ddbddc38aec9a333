"""A headless browser for tests of the pages, and a server in a thread for it to look at."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VENDOR = Path(__file__).parent / "vendor"
TABLET, DESKTOP = (1024, 768), (1920, 1080)


def chromium() -> str:
    """Debian's browser; without it (or its client) these tests are skipped, and say so."""
    pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install 'edgead[test]'")
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium here: apt-get install chromium")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """One browser; a module's tests share it."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


class Tab:
    """A page of its own, without what another one has stored, and whatever it complained of.

    Attributes:
        page: playwright's.
        complaints: errors of scripts and what the security policy refused. (That a server refuses something is no complaint.)
    """

    def __init__(self, browser: Browser, address: str, size: tuple[int, int] = TABLET, **context: Any) -> None:
        self._context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, **{"color_scheme": "light", "locale": "en-GB", **context}
        )
        self._context.set_default_timeout(PATIENCE_S * 1000)
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)
        self._address = address.rstrip("/")

    def _heard(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def go(self, to: str) -> Page:
        """Open a page by its hash, or by a path."""
        self.page.goto(f"{self._address}/{to}")
        return self.page

    def close(self) -> None:
        self._context.close()


@contextmanager
def program(*command: str) -> Iterator[str]:
    """A server as a process of its own; the address that it prints first."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process.stdout.readline().split()[-1].rstrip("/")
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def axe(page: Page, *rules: str) -> list[str]:
    """What axe-core finds serious or critical, one line each; by all its rules, or by these."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate((VENDOR / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate(
        "rules => axe.run(document, {resultTypes: ['violations'], ...(rules.length ? {runOnly: rules} : {})})", list(rules)
    )
    return [
        f"{one['id']}: {one['help']}: " + "; ".join(f"{node['target']} {node['failureSummary']}" for node in one["nodes"][:3])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
