"""Recipes and a shadow on a station that runs, seen and changed by a dashboard with users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.dashboard.browsing import DESKTOP, Tab, browser
from tests.dashboard.client import Client
from tests.dashboard.watched import Watched
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def line() -> Iterator[Watched]:
    watched = Watched(
        bundles=("red", "blue"),
        recipes={1: "red.edgead", 2: "blue.edgead"},
        recipe_file="recipe.txt",
        others=[{"name": "side", "budget_ms": 5000, "bundle": "red.edgead", "shadow": "blue.edgead"}],
    )
    try:
        watched.start()
        yield watched
    finally:
        watched.close()


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def tab(chrome: Browser, line: Watched) -> Iterator[Tab]:
    found = Tab(chrome, line.url, DESKTOP)
    yield found
    found.close()
    assert found.complaints == []


def test_the_recipe_is_changed_between_two_parts_and_records_say_which_judged(line: Watched) -> None:
    client = Client(line.url)
    told = client.get("/api/recipes?camera=line-1/top")
    assert told["changeable"] and told["current"] == 1
    assert [(one["number"], one["name"]) for one in told["recipes"]] == [(1, "red"), (2, "blue")]
    assert client.post("/api/recipe", {"camera": "line-1/top", "recipe": 3})[0] == 409
    assert client.post("/api/recipe", {"camera": "line-1/top", "recipe": "2"})[0] == 400
    assert client.post("/api/recipe", {"camera": "line-1/top", "recipe": 2}) == (200, {"old": 1, "new": 2})
    until(lambda: Watched.camera(client)["recipe"] == 2, what="the station to take the recipe")
    assert Watched.camera(client)["bundle"] == "blue.edgead"
    until(lambda: client.get("/api/parts?camera=line-1/top&recipe=2")["parts"])
    found = client.get("/api/parts?camera=line-1/top&limit=500")["parts"]
    recipes = [one["recipe"] for one in reversed(found)]
    assert recipes == sorted(recipes) and set(recipes) == {1, 2}, "first the one, then the other"
    until(lambda: {one["recipe"] for one in Watched.camera(client)["shifts"]} == {1, 2})
    assert client.get("/api/audit")[0]["new"] == "2"
    status, _ = client.post("/api/threshold", {"camera": "line-1/top", "threshold": 220.5, "why": ""})
    assert status == 200
    until(lambda: Watched.camera(client)["threshold"] == 220.5)
    assert Watched.camera(client)["recipe"] == 2, "the threshold of the recipe that runs was changed"


def test_a_shadow_s_verdicts_are_shown_beside_the_line_s(line: Watched) -> None:
    client = Client(line.url)
    until(lambda: client.get("/api/recipes?camera=line-1/side")["shadow"], what="the shadow's first verdict")
    told = client.get("/api/recipes?camera=line-1/side")
    assert told["shadow"]["bundle"] == "blue.edgead" and told["shadow"]["parts"] > 0
    assert sum(told["shadow"]["then"].values()) == told["shadow"]["parts"]
    assert not told["changeable"]


def test_parts_of_several_cameras_come_together_by_time(line: Watched) -> None:
    client = Client(line.url)
    found = client.get("/api/parts?camera=line-1/top&camera=line-1/side&limit=100")["parts"]
    assert {one["id"] for one in found} == {"line-1/top", "line-1/side"}
    assert [one["time"] for one in found] == sorted((one["time"] for one in found), reverse=True)
    assert {one["id"] for one in client.get("/api/parts?camera=line-1/side")["parts"]} == {"line-1/side"}


def test_a_recipe_that_is_clicked_judges_the_next_parts(line: Watched, tab: Tab) -> None:
    client = Client(line.url)
    told = client.get("/api/recipes?camera=line-1/top")
    (other,) = [one for one in told["recipes"] if one["number"] != told["current"]]
    page = tab.go("#/recipes?camera=line-1/top")
    page.locator("tr", has_text=other["bundle"]).get_by_role("button").click()
    page.locator("dialog button.main").click()
    page.locator("tr.is-current", has_text=other["bundle"]).wait_for()
    until(lambda: client.get("/api/parts?camera=line-1/top&limit=1")["parts"][0]["recipe"] == other["number"])
    assert Watched.camera(client)["bundle"] == other["bundle"]


def test_what_the_shadow_says_is_on_the_page(line: Watched, tab: Tab) -> None:
    until(lambda: Client(line.url).get("/api/recipes?camera=line-1/side")["shadow"], what="the shadow's first verdict")
    page = tab.go("#/recipes?camera=line-1/side")
    shadow = page.locator("section[aria-label='Shadow']")
    shadow.get_by_text("blue.edgead").wait_for()
    assert "red.edgead" in page.locator("dl.pairs").inner_text()
    parts = shadow.locator("dl.figures > *", has_text="Parts").first.inner_text()
    assert int("".join(letter for letter in parts if letter.isdigit())) > 0
