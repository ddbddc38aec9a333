"""The pages on made-up answers: readable for everybody, whatever the line does. On a real line: test_browser.py."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.dashboard.browsing import TABLET, Tab, axe, browser, chromium, program
from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOP = "press-3/top"
PLATES = "[data-camera] .plate"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    chromium()
    pytest.importorskip("starlette", reason="no starlette here: pip install 'edgead[dashboard]'")
    with program("-m", "tests.dashboard.fake") as found:
        yield found


@pytest.fixture
def fake(address: str) -> Callable[..., None]:
    """Begins the made-up line again, with some of its attributes changed."""

    def begin(**changes: Any) -> None:
        urllib.request.urlopen(
            urllib.request.Request(f"{address}/fake", json.dumps(changes).encode(), method="POST"), timeout=PATIENCE_S
        ).close()

    begin()
    return begin


@pytest.fixture
def tab(chrome: Browser, address: str) -> Iterator[Tab]:
    found = Tab(chrome, address)
    yield found
    found.close()
    assert found.complaints == []


@pytest.mark.parametrize(
    ("to", "there"),
    [
        ("#/line", ".strip canvas"),
        ("#/line?kiosk=1", ".plate"),
        ("#/review", ".thumb"),
        ("#/review?part=press-3/top/41239", ".part-words textarea"),
        ("#/threshold", ".now-then"),
        ("#/recipes", ".flips"),
        ("#/health", ".is-bad"),
        ("#/people", ".page-people table"),
        ("#/login", ".login input"),
    ],
)
def test_no_page_has_a_serious_finding_by_day_or_by_night(tab: Tab, fake: Callable[..., None], to: str, there: str) -> None:
    if to == "#/login":
        fake(role="")
    page = tab.go(to)
    page.locator(there).first.wait_for()
    assert axe(page) == []
    # By night only the colours differ.
    page.emulate_media(color_scheme="dark")
    page.locator("html[data-theme=dark]").wait_for()
    assert axe(page, "color-contrast", "link-in-text-block") == []


def test_a_box_that_falls_silent_never_looks_fine(tab: Tab, fake: Callable[..., None]) -> None:
    tab.page.clock.install()
    page = tab.go("#/line")
    plates = page.locator(PLATES)
    page.locator(f"{PLATES}[data-kind=NG]").wait_for()
    fake(silent=True)
    page.clock.fast_forward(20_000)
    page.locator(f"{PLATES}[data-kind=gone]").nth(2).wait_for()
    assert [words.splitlines()[0] for words in plates.all_inner_texts()] == ["NO DATA"] * 3
    assert "No news for" in page.locator(".contact").inner_text()


def test_an_old_verdict_is_history_and_a_fault_is_no_verdict(tab: Tab, fake: Callable[..., None]) -> None:
    fake(age_s=7200)
    page = tab.go("#/line")
    quiet = page.locator(f"[data-camera='{TOP}'] .plate[data-kind=quiet]")
    quiet.wait_for()
    assert "No part for 2 h" in quiet.inner_text()
    assert "FAULT" in page.locator("[data-camera='paint/booth'] .plate[data-kind=gone]").inner_text()


def test_a_screen_reader_hears_what_changes_and_not_each_part(tab: Tab, fake: Callable[..., None]) -> None:
    page = tab.go("#/line")
    spoken = page.locator("[data-spoken]")
    page.locator("[data-spoken]:has-text('top: NG.')").wait_for(state="attached")
    first = spoken.inner_text()
    assert "booth: FAULT." in first
    last = int(page.locator(f"[data-camera='{TOP}'] .plate").get_attribute("data-part") or 0)
    fake(coming=[{"verdict": "OK"}, {"verdict": "NG"}, {"verdict": "OK"}])
    page.locator(f"[data-camera='{TOP}'] .plate[data-kind=OK][data-part='{last + 3}']").wait_for()
    assert spoken.inner_text() == first


def test_german_is_german_and_stays_after_a_reload(tab: Tab, fake: Callable[..., None]) -> None:
    page = tab.go("#/line")
    page.locator(".top select").select_option("de")
    page.locator("html[lang=de]").wait_for(state="attached")
    page.locator(".plate", has_text="UNKLAR").wait_for()
    page.reload()
    page.locator("nav", has_text="Schwelle").wait_for()


def test_the_line_of_the_threshold_moves_by_keys_and_says_what_it_would_have_meant(tab: Tab, fake: Callable[..., None]) -> None:
    page = tab.go("#/threshold")
    handle = page.get_by_role("slider", name="Threshold")
    handle.press("ArrowLeft")
    page.locator(".verdict-line", has_text="505 NG would have been 866").wait_for()
    assert float(handle.get_attribute("aria-valuenow") or "nan") < 2
    handle.press("PageUp")
    page.locator(".verdict-line", has_text="505 NG would have been 297").wait_for()


def test_the_grid_is_walked_by_arrows_and_a_part_opens_and_closes_by_keys(tab: Tab, fake: Callable[..., None]) -> None:
    page = tab.go("#/review")
    first, second = page.locator(".thumb").nth(0), page.locator(".thumb").nth(1)
    first.focus()
    page.keyboard.press("ArrowRight")
    assert second.evaluate("button => button === document.activeElement")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    dialog.locator(".look-at img").first.wait_for()
    page.keyboard.press("h")
    dialog.locator(".over[style*='opacity: 0;']").wait_for(state="attached")
    page.keyboard.press("2")
    dialog.locator(".reviewed", has_text="False reject").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert second.evaluate("button => button === document.activeElement")
    second.locator(".tag", has_text="False reject").wait_for()


@pytest.mark.parametrize(
    ("size", "path"), [(TABLET, "#/line"), (TABLET, "#/review"), (TABLET, "#/threshold"), ((3840, 2160), "#/line?kiosk=1")]
)
def test_nothing_sticks_out_to_the_right(
    chrome: Browser, fake: Callable[..., None], address: str, size: tuple[int, int], path: str
) -> None:
    tab = Tab(chrome, address, size)
    page = tab.go(path)
    page.locator(".plate, .thumb, .now-then").first.wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= size[0]
    tab.close()
