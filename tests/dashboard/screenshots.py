"""Pictures of all pages, to be looked at: ``python -m tests.dashboard.screenshots FOLDER [--docs]``.

On a real line and, for states that are seldom, on made-up answers; at the size of a tablet and of a desktop, by day and by night.
``--docs`` also writes the three of docs/dashboard.md. Needs chromium and, for the bundle, what the tests need.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from tests.bundles import Tiny
from tests.dashboard.browsing import DESKTOP, TABLET, Tab, browser, program
from tests.dashboard.line import ID, running
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PARTS = 40  # that were judged before the pages are looked at
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZES = {"tablet": TABLET, "desktop": DESKTOP}
REAL = {
    "line": ("#/line", "[data-kind=NG]"),
    "review": ("#/review", ".thumb img"),
    "part": ("#/review", ".thumb"),
    "threshold": ("#/threshold", ".now-then"),
    "recipes": ("#/recipes", ".is-current"),
    "health": ("#/health", ".panel table"),
    "people": ("#/people", ".roles"),
}
MADE_UP = {
    "made-up-line": ("#/line", ".strip canvas"),
    "made-up-big-screen": ("#/line?kiosk=1", ".plate"),
    "made-up-threshold": ("#/threshold", ".now-then"),
    "made-up-recipes": ("#/recipes", ".flips"),
}
DOCS = {"made-up-line": "dashboard-line", "part": "dashboard-part", "made-up-threshold": "dashboard-threshold"}


def prepared(page: Page, name: str, there: str) -> None:
    """Bring a page into the state that is to be seen."""
    page.locator(there).first.wait_for()
    if name == "part":
        page.locator(".thumb").first.click()
        page.locator("dialog .over").wait_for()
    if name == "made-up-threshold":
        page.get_by_role("slider", name="Threshold").press("PageDown")
        page.locator(".verdict-line", has_text="866").wait_for()
    page.wait_for_timeout(700)  # pictures and fonts; what is looked at has no condition to wait for


def shoot(chrome: Browser, address: str, pages: dict[str, tuple[str, str]], folder: Path) -> None:
    for theme in ("light", "dark"):
        for size, pixels in SIZES.items():
            tab = Tab(chrome, address, pixels, color_scheme=theme)
            for name, (to, there) in pages.items():
                tab.page.goto("about:blank")
                prepared(tab.go(to), name, there)
                tab.page.screenshot(path=folder / f"{name}-{size}-{theme}.png")
            tab.close()


def write_docs(folder: Path) -> None:
    """Three of them, small."""
    for name, target in DOCS.items():
        picture = cv2.imread(str(folder / f"{name}-desktop-light.png"))
        assert picture is not None
        small = cv2.resize(picture, (1280, 720), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(IMAGES / f"{target}.webp"), small, [cv2.IMWRITE_WEBP_QUALITY, 78])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser() as chrome:
        work = Path(scratch)
        made = os.environ.get("EDGEAD_TEST_TINY")
        shutil.copytree(Tiny(Path(made) if made else work / "tiny").bundle(), work / "part.edgead")
        with running(work, work / "part.edgead", size=320) as shown:
            first = Tab(chrome, shown.address)
            plate = first.go("#/line").locator(f"[data-camera='{ID}'] .plate")
            until(lambda: int(plate.get_attribute("data-part") or 0) >= PARTS, what="parts")
            first.close()
            shoot(chrome, shown.address, REAL, asked.folder)
        with program("-m", "tests.dashboard.fake") as address:
            shoot(chrome, address, MADE_UP, asked.folder)
    if asked.docs:
        write_docs(asked.folder)


if __name__ == "__main__":
    main()
