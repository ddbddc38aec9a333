"""The tables of docs/which-model.md: what they say of runs, and that only their place on the page changes."""

from typing import Any

import pytest

from benchmarks.sizes import regret, summarise, tables
from benchmarks.which_model import accuracy, fill


def run(side: int, real: float, seed: int = 0, ms: float = 5.0, chosen: bool = False) -> dict[str, Any]:
    return {
        "set": "plates", "side": side, "seed": seed, "width": side, "height": side, "real": real, "real_error": 0.02, "ms": ms,
        "drawn": real, "drawn_error": 0.03, "chosen_for_ms": [30.0] if chosen else [],
    }  # fmt: skip


def test_the_rule_is_held_against_the_usual_size_and_the_best_one_in_the_budget() -> None:
    runs = [run(256, 0.7), run(384, 0.8, chosen=True), run(512, 0.85), run(768, 0.99, ms=90.0)]
    (row,) = regret(runs)
    assert (row["taken"], row["taken_sides"], row["usual"]) == (0.8, [384], 0.7)
    assert (row["hindsight"], row["hindsight_side"]) == (0.85, 512)  # 768 px is over the budget, whatever it finds


def test_one_seed_has_the_interval_of_its_pictures_and_more_have_that_of_the_seeds() -> None:
    assert summarise([run(256, 0.7)])[0]["real"] == {"half": 0.0392, "mean": 0.7}
    assert summarise([run(256, 0.7), run(256, 0.9, seed=1)])[0]["real"] == {"mean": 0.8, "half": 1.2706}


def test_a_page_gets_its_tables_and_keeps_its_words() -> None:
    runs = [run(256, 0.7, chosen=True)]
    sizes, _ = tables({"summary": summarise(runs), "regret": regret(runs)})
    page = fill("before\n<!-- begin sizes -->\nold\n<!-- end sizes -->\nafter\n", "sizes", sizes)
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
    assert "| plates | 256 x 256 | 0.700 ± 0.039 | 0.700 ± 0.059 | 5.0 | 1 of 1 |" in page
    with pytest.raises(ValueError, match="no place"):
        fill(page, "rule", sizes)


def test_accuracy_is_that_of_the_default_settings() -> None:
    rows = [
        {"set": "elpv", "model": "patchcore", "choice": "before", "image_auroc": {"mean": 0.9}},
        {"set": "elpv", "model": "patchcore", "choice": "after", "image_auroc": {"mean": 0.95, "half": 0.01}},
    ]
    assert accuracy(rows)[2:] == ["| elpv | patchcore | 0.950 ± 0.010 |  |  |  |  |"]
