"""What people see of a line that runs: a real station, the real dashboard, a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.dashboard.browsing import DESKTOP, Tab, browser, chromium
from tests.dashboard.line import CAMERA, ID, PASSWORDS, Shown, add_users, running
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.bundles import Tiny

PLATE = f"[data-camera='{ID}'] .plate"
ABOVE_ALL = 1000.0  # no part of this line has such a score
AMONG = 60.0  # between the scores of this line's scratches


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def shown(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    chromium()
    for module in ("starlette", "uvicorn", "argon2"):
        pytest.importorskip(module, reason=f"no {module} here: pip install 'edgead[dashboard]'")
    folder = tmp_path_factory.mktemp("line")
    shutil.copytree(tiny.bundle(), folder / "tiny.edgead")
    add_users(folder / "users.json")
    with running(folder, folder / "tiny.edgead", "--users", str(folder / "users.json"), "--kiosk") as found:
        yield found


class Person(Tab):
    """Somebody with a browser; "" has not logged in."""

    def __init__(self, browser: Browser, shown: Shown, role: str) -> None:
        super().__init__(browser, shown.address, DESKTOP)
        if role:
            self.ask("login", {"name": role, "password": PASSWORDS[role]})

    def ask(self, name: str, change: dict[str, Any] | None = None) -> Any:
        """The API's answer: to a question, or to a change."""
        if change is None:
            return self.page.request.get(f"{self._address}/api/{name}").json()
        headers = {"X-CSRF": self.ask("session")["csrf"], "Origin": self._address}
        answer = self.page.request.post(f"{self._address}/api/{name}", data=change, headers=headers)
        assert answer.ok, answer.text()
        return answer.json()


@pytest.fixture
def enter(chrome: Browser, shown: Shown) -> Iterator[Any]:
    """Opens a browser for somebody of that role."""
    people: list[Person] = []

    def come(role: str = "") -> Person:
        people.append(Person(chrome, shown, role))
        return people[-1]

    yield come
    for person in people:
        person.close()
    assert [person.complaints for person in people if person.complaints] == []


def test_who_has_not_logged_in_looks_on_and_a_wrong_password_is_told(enter: Any) -> None:
    page = enter().go("#/threshold")
    page.locator(PLATE).wait_for()
    assert page.locator("nav").count() == 0
    page.get_by_role("link", name="Log in").click()
    form = page.locator("form.login")
    form.get_by_label("Name").fill("operator")
    form.get_by_label("Password").fill("not this one")
    form.get_by_role("button", name="Log in").click()
    form.get_by_role("alert").wait_for()
    form.get_by_label("Password").fill(PASSWORDS["operator"])
    form.get_by_role("button", name="Log in").click()
    page.locator("nav", has_text="Review").wait_for()


def test_the_line_is_shown_as_it_runs(enter: Any) -> None:
    page = enter("viewer").go("#/line")
    page.locator(f"{PLATE}[data-kind=NG]", has_text="NG").wait_for()
    seen = page.locator(PLATE).get_attribute("data-part")
    page.locator(f"{PLATE}[data-kind=OK]:not([data-part='{seen}'])", has_text="OK").wait_for()
    page.locator(".live img").wait_for()
    page.locator(".live figcaption .mark").wait_for()
    page.locator(".strip[aria-label^='Scores of the last']:not([aria-label*='last 0'])").wait_for()
    assert page.locator(".contact").get_attribute("data-stale") == "false"


def test_an_ng_part_comes_up_in_the_review_and_is_relabelled_for_all(enter: Any) -> None:
    operator = enter("operator")
    page = operator.go("#/review")
    page.locator(".thumb").first.wait_for()
    before = page.locator(".thumb").first.get_attribute("data-seq")
    page.locator(".fresh button").click()
    newest = page.locator(f".thumb:not([data-seq='{before}'])").first
    newest.wait_for()
    assert newest.get_attribute("data-verdict") == "NG"
    seq = newest.get_attribute("data-seq")
    newest.click()
    dialog = page.locator("dialog")
    dialog.locator(".look-at img.over").wait_for()
    dialog.get_by_label("Note").fill("<img src=x onerror=alert(1)> oil")
    dialog.get_by_role("button", name="False reject").click()
    dialog.locator(".reviewed", has_text="<img src=x onerror=alert(1)> oil").wait_for()
    page.keyboard.press("Escape")

    viewer = enter("viewer").go(f"#/review?reviewed=yes&part={ID}/{seq}")
    viewer.locator("dialog .reviewed", has_text="False reject").wait_for()
    assert viewer.locator("dialog textarea").count() == 0
    viewer.locator(f".thumb[data-seq='{seq}']").wait_for(state="attached")


def test_a_viewer_can_try_a_threshold_and_not_apply_it(enter: Any) -> None:
    page = enter("viewer").go("#/threshold")
    page.get_by_role("spinbutton", name="Threshold").fill(str(ABOVE_ALL))
    page.get_by_role("spinbutton", name="Threshold").press("Tab")
    page.locator(".verdict-line", has_text="NG would have been 0").wait_for()
    page.locator(".needs", has_text="Only an engineer").wait_for()
    assert page.get_by_role("button", name="Apply").count() == 0
    assert page.locator(".thumbs .thumb").count() > 0


def test_an_applied_threshold_judges_the_next_parts_and_is_undone(enter: Any) -> None:
    engineer = enter("engineer")

    def newest(judged_by: float | None = None) -> list[dict[str, Any]]:
        found = engineer.ask(f"parts?camera={ID}&limit=20")["parts"]
        return [part for part in found if judged_by in (None, part["threshold"])]

    def is_between(part: dict[str, Any]) -> bool:
        return bool(part["verdict"] == "NG" and part["score"] < AMONG)

    until(lambda: any(is_between(part) for part in newest()), what="a part that the new threshold would let pass")
    in_force = newest()[0]["threshold"]
    page = engineer.go("#/threshold")
    page.get_by_role("spinbutton", name="Threshold").fill(str(AMONG))
    page.get_by_role("spinbutton", name="Threshold").press("Tab")
    page.locator(".replay:not(.changing) .verdict-line", has_text="NG would have been").wait_for()
    page.get_by_role("button", name="Apply").click()
    dialog = page.locator("dialog")
    assert "becomes 60" in dialog.inner_text()
    assert "NG would have been" in dialog.inner_text()
    dialog.get_by_label("Why?").fill("to see what happens")
    dialog.get_by_role("button", name="Apply").click()
    page.locator(".told", has_text="is now 60").wait_for()
    page.locator("td", has_text="to see what happens").first.wait_for()

    until(lambda: {part["verdict"] for part in newest(AMONG)} == {"OK", "NG"}, what="parts that were judged by it")
    until(lambda: any(in_force < part["score"] < AMONG for part in newest(AMONG)), what="one that would have been NG")
    assert all((part["verdict"] == "NG") == (part["score"] >= AMONG) for part in newest(AMONG))

    page.get_by_role("button", name="Undo").click()
    page.locator("dialog").get_by_role("button", name="Undo").click()
    page.locator(".told", has_text="Threshold 60 is now").wait_for()
    page.get_by_role("link", name="People").click()
    page.locator("section[aria-label='Who changed what'] td", has_text="engineer").first.wait_for()


def test_recipes_and_health_and_the_proof_are_there(enter: Any) -> None:
    engineer = enter("engineer")
    page = engineer.go("#/recipes")
    page.locator(".is-current", has_text="runs now").wait_for()
    page.get_by_role("link", name="Health").click()
    page.locator("section[aria-label='Self-checks'] table").wait_for()
    page.goto(engineer.page.url.split("#")[0] + f"proof/{ID}")
    assert CAMERA in page.locator("body").inner_text()


def test_a_session_that_is_over_leads_to_the_login(enter: Any) -> None:
    operator = enter("operator")
    page = operator.go("#/people")
    page.locator(".you", has_text="operator").wait_for()
    operator.ask("logout", {})
    page.locator("a", has_text="Log in").first.wait_for()  # what a screen without a login may see: --kiosk
    page.locator(PLATE).wait_for()


def test_a_station_that_is_gone_is_shown_as_gone(enter: Any, shown: Shown) -> None:
    page = enter("viewer").go("#/line")
    page.locator(f"{PLATE}[data-kind=OK]").wait_for()
    shown.station.stop()
    gone = page.locator(f"{PLATE}[data-kind=gone]")
    gone.wait_for()
    assert "NO STATION" in gone.inner_text()
