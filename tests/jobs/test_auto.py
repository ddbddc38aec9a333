"""`edgead train auto`: which methods are tried, on what they are judged, and what stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.errors import BadInput, BudgetMissed
from edgead.export import ExportOptions
from edgead.families import FAMILIES, method, plausible
from edgead.jobs.auto import HELD_OUT, AutoRequest, auto
from edgead.jobs.train import Looked, train, train_request
from edgead.trained import load_model, read_card
from edgead.training.trial import DRAWN, Asked, ask
from tests.training._parts import write_good, write_mvtec

SMALL = Looked(size=(64, 64))


def test_the_plausible_ones_are_ours_and_the_fastest_goes_first() -> None:
    names = plausible()
    assert "patchcore" in names
    seconds = [method(name)[1].auto_s for name in names]
    assert seconds == sorted(seconds) and min(seconds) > 0
    assert all(method(name)[0].name in FAMILIES for name in names)


def test_models_of_different_sizes_are_asked_about_the_same_pictures(tmp_path: Path) -> None:
    good = write_good(tmp_path / "good", 12)
    labelled = write_mvtec(tmp_path / "labelled", good=2, test=3)
    entries = [(file, file.parent.name, None) for file in sorted((labelled / "test").rglob("*.png"))]
    said = []
    for side in (64, 96):
        made = train(train_request("patchcore", good, tmp_path / str(side), Looked(size=(side, side)), heldout=HELD_OUT))
        asked = Asked.of(made.result.images.heldout_files, [(f, "good" if k == "good" else k, m) for f, k, m in entries])
        said.append(ask(made.result.detector, made.result.images.recipe, asked))
        again = ask(made.result.detector, made.result.images.recipe, asked)
        assert np.array_equal(said[-1].drawn, again.drawn)
    for one in said:
        assert (len(one.good), len(one.drawn), len(one.real_good), len(one.real)) == (4, DRAWN, 3, 3)
        assert one.real.min() > one.real_good.max()
    # the same defects are easy and hard for both, though each has its own input size
    assert np.corrcoef(said[0].drawn, said[1].drawn)[0, 1] > 0.5


def test_the_best_stays_and_what_was_left_out_says_why(tmp_path: Path) -> None:
    good = write_good(tmp_path / "good", 12)
    lines: list[str] = []
    request = AutoRequest(
        good, tmp_path / "model", SMALL, minutes=0.01, methods=("supersimplenet", "fcdd", "patchcore", "simplenet")
    )
    found = auto(request, say=lines.append)
    assert found.chosen.method == "patchcore"
    assert [one.method for one in found.tried] == ["patchcore", "supersimplenet", "fcdd", "simplenet"]
    assert "is not trained by edgead" in found.tried[1].why
    assert "only real ones can judge it" in found.tried[2].why
    assert "minutes" in found.tried[3].why and found.tried[3].judged is None
    judged = found.chosen.judged
    assert judged is not None and judged.best == 1.0 and 0.5 < judged.auroc <= 1.0
    assert (found.real, found.good, found.defects) == (False, 4, DRAWN)
    assert any(line.startswith("patchcore: trained in") for line in lines)
    # trained on all but the usual share, with a threshold from all good pictures, as by its own name
    card = read_card(tmp_path / "model")
    assert card.origin.arguments is not None and card.origin.arguments.heldout == 0.15
    assert card.crossfit is not None and card.crossfit.how == "leave-one-out"
    alone = train(train_request("patchcore", good, tmp_path / "alone", SMALL)).result
    assert load_model(tmp_path / "model")[1].threshold.value == alone.threshold.value


def test_labelled_pictures_beside_the_good_ones_choose_nothing(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "plate", good=12, test=12)
    found = auto(AutoRequest(root, tmp_path / "model", SMALL, methods=("patchcore",)))
    assert not found.real and found.chosen.judged is not None and found.chosen.judged.real_auroc is None
    assert found.made.result.metrics["image_auroc"] == 1.0  # the one that stays is measured on them
    chosen = auto(AutoRequest(root, tmp_path / "model", SMALL, labelled=root, methods=("patchcore",)))
    assert chosen.real and chosen.defects == 12
    assert chosen.made.kept is not None  # the model of before


def test_a_budget_that_nothing_keeps_writes_nothing(tmp_path: Path) -> None:
    good = write_good(tmp_path / "good", 12)
    with pytest.raises(BudgetMissed, match=r"none of the methods keeps 0\.0001 ms here: patchcore: its engine would take"):
        auto(AutoRequest(good, tmp_path / "model", SMALL, budget_ms=0.0001, methods=("patchcore",)))
    assert [file.name for file in tmp_path.iterdir()] == ["good"]


def test_a_budget_leaves_a_bundle_that_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgead.export.search.bench.FULL_ROUNDS", 2)
    monkeypatch.setattr("edgead.jobs.auto.SEARCH_MINUTES", 0.02)  # the plain engine alone
    good = write_good(tmp_path / "good", 12)
    options = ExportOptions(("onnxruntime",), ("fp32",), threads=1, frames_per_class=6)
    request = AutoRequest(good, tmp_path / "model", SMALL, budget_ms=1e5, frame=(64, 64), methods=("patchcore",), options=options)
    found = auto(request)
    assert found.exported is not None and found.exported.bundle.path == tmp_path / "model.edgead"
    manifest = Bundle.open(tmp_path / "model.edgead").manifest
    assert manifest.measured.search.budget_ms == 1e5 and manifest.measured.search.built is not None
    assert found.chosen.p99_ms == manifest.measured.search.built.p99_ms
    assert read_card(tmp_path / "model").threshold.value == found.made.result.threshold.value
    assert sorted(file.name for file in tmp_path.iterdir()) == ["good", "model", "model.edgead", "model.edgead.search"]


def test_the_verb_tells_a_table_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgead.jobs.auto.plausible", lambda: ["patchcore", "supersimplenet"])
    words = ["train", "auto", str(write_good(tmp_path / "good", 12)), "-o", str(tmp_path / "model"), "--size", "64"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "patchcore *" in out and "supersimplenet: left out: " in out
    assert "drawn defects may rank methods otherwise than real ones" in out
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["action"], told["chosen"], told["decided_by"]) == (
        "edgead.train/1",
        "auto",
        "patchcore",
        "drawn",
    )
    assert [one["method"] for one in told["tried"]] == ["patchcore", "supersimplenet"]
    assert told["model"]["out"] == str(tmp_path / "model") and told["bundle"] is None


def test_pictures_that_cannot_be_used_are_told_as_ever(tmp_path: Path) -> None:
    good = write_good(tmp_path / "good", 2)
    with pytest.raises(BadInput, match="training needs at least"):
        auto(AutoRequest(good, tmp_path / "model", SMALL, methods=("patchcore",)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["auto", "--coreset", "10"], "--coreset: for one method, and auto tries several"),
        (["auto", "--frame", "640x480"], "--frame: for an engine in time, and there is no --budget-ms"),
        (["auto", "--preset", "paper"], "--preset: for one method"),
        (["auto", "--tiles", "32"], "--tiles: for one method"),
        (["auto", "--minutes", "0"], "0 minutes are not usable"),
        (["auto", "--labelled", "nowhere"], "nowhere"),
        (["patchcore", "--labelled", "good"], "--labelled: for edgead train auto only"),
        (["patchcore", "--minutes", "3"], "--minutes: for edgead train auto only"),
    ],
)
def test_what_does_not_apply_is_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_good(tmp_path / "good", 4)
    assert main(["train", words[0], "good", "-o", "model", *words[1:]]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[0] and len(lines) <= 2
    assert not (tmp_path / "model").exists()
