"""A trained model's folder: what is written reads back, what is damaged is named, and what is not known here is not damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.calibration.findings import Finding
from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.manifest import Arguments, Data, Origin, Threshold
from edgead.preprocess import PreprocessRecipe
from edgead.trained import CrossFitted, ModelCard, OddPicture, load_model, read_card
from edgead.typed import loads, plain, read
from tests.bundles import Tiny
from tests.test_bundle import FREE, NAMES, RECIPES, thresholds
from tests.vouched import write_vouched

NUMBERS = st.floats(-1e9, 1e9, width=32)
FILES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ODD = st.builds(OddPicture, FILES, NUMBERS, st.booleans(), st.booleans(), st.none() | NUMBERS, st.none() | NUMBERS)
DATA = st.builds(Data, st.none() | FILES, st.none() | st.integers(0, 99), st.none() | NAMES)
ARGUMENTS = st.builds(
    Arguments, st.none() | st.floats(0, 1), st.none() | st.integers(0, 2**40), st.none() | st.booleans(),
    st.none() | st.lists(FILES, max_size=2).map(tuple), st.none() | FREE, st.none() | st.lists(DATA, max_size=2).map(tuple),
    st.none() | NAMES, st.none() | NAMES, st.dictionaries(NAMES.map("_".__add__), NUMBERS, max_size=2),
)  # fmt: skip
ORIGINS = st.builds(
    Origin, NAMES, NAMES, NAMES, st.none() | NAMES, st.none() | NAMES, st.none() | st.dictionaries(FILES, NAMES, max_size=2),
    st.none() | st.lists(FILES, max_size=2).map(tuple), st.none() | ARGUMENTS, st.none(),
    st.none() | DATA,
)  # fmt: skip
CARDS = st.builds(
    ModelCard,
    family=NAMES,
    config=FREE,
    image_size=st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
    name=NAMES,
    preprocess=RECIPES,
    threshold=thresholds(),
    origin=ORIGINS,
    metrics=st.dictionaries(NAMES, st.none() | NUMBERS, max_size=3),
    labelled_root=st.none() | FILES,
    findings=st.lists(st.builds(Finding, NAMES, NAMES, NAMES, NAMES), max_size=2).map(tuple),
    oddest=st.lists(ODD, max_size=2).map(tuple),
    crossfit=st.none()
    | st.builds(CrossFitted, NAMES, st.integers(0, 9), st.lists(NUMBERS).map(tuple), st.lists(FILES).map(tuple), st.just(())),
    rest=st.dictionaries(NAMES.map("_".__add__), FREE, max_size=2),
)


@given(CARDS)
def test_any_card_reads_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, card: ModelCard) -> None:
    folder = tmp_path_factory.getbasetemp() / "card"
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_text(json.dumps(card.to_json()), "utf-8")
    assert read_card(folder) == card


def everything() -> dict[str, object]:
    """A card in which every field says something."""
    origin = Origin(
        "edgead train", "1", "2026", "edgead-flow", "a file", {"a": "0"}, ("said",),
        Arguments(0.1, 3, False, ("a.png",), {"width": 64}), None, Data("/pictures", 9, "0"),
    )  # fmt: skip
    return ModelCard(
        family="patchcore", config={"k": 1}, image_size=(64, 64), name="part", preprocess=PreprocessRecipe(64, 64),
        threshold=Threshold(1.0, "by hand"), origin=origin, metrics={"image_auroc": 0.9}, labelled_root="/labelled",
        findings=(Finding("warning", "few", "", "few pictures"),), oddest=(OddPicture("a.png", 2.0, True, False, 1.0, None),),
        crossfit=CrossFitted("5 folds", 1, (1.0,), ("a.png",), ("a.png",)),
    ).to_json()  # fmt: skip


def places(value: object, place: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Every place in JSON that has a type of its own."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        if key not in ("without", "k", "width") or place == ("preprocess",):  # None is right there; anything is
            yield (*place, key)
            yield from places(one, (*place, key))


@pytest.mark.parametrize("place", list(places(everything())), ids=lambda place: ".".join(map(str, place)))
def test_every_damaged_field_is_told_in_one_line(tmp_path: Path, place: tuple[object, ...]) -> None:
    card: Any = everything()
    inside = card
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = {"damaged": [True]} if not isinstance(inside[place[-1]], dict) else ["damaged"]
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(BadInput) as caught:
        read_card(tmp_path)
    named = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).lstrip(".")
    assert "is not the card of a trained model: " in str(caught.value) and named in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.hint == "train or import it again"


def test_an_unknown_family_names_the_package_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({**everything(), "family": "flow"}))
    with pytest.raises(BadInput, match=r"family 'flow', which this edgead .* does not know") as caught:
        load_model(tmp_path)
    assert caught.value.hint.startswith("pip install edgead-flow, or train one that is known here: ")


def test_a_bundle_of_an_unknown_family_opens_and_names_the_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its engines need nothing of it."""
    bundle = write_vouched(tmp_path / "part.edgead", family="flow", origin=Origin("edgead train", package="edgead-flow"))
    assert main(["inspect", str(bundle)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "flow (a family that is not known here: its engines run, to export it again pip install edgead-flow)" in told
    assert main(["inspect", str(write_vouched(tmp_path / "other.edgead"))]) == 0
    assert "not known here" not in capsys.readouterr().out


def test_a_card_of_before_opens(tmp_path: Path) -> None:
    """The first ones said of their pictures and threshold only this."""
    card = {"edgead_model": 1, "family": "patchcore", "config": {}, "image_size": [64, 64], "name": "part",
            "preprocess": {"width": 64, "height": 64, "roi": None, "resize": "box"}, "threshold": {"value": 1.0, "method": "m"},
            "origin": {"tool": "edgead train", "metrics of mine": [1]},
            "metrics": {"pro": float("nan")}, "of a newer one": {"a": 1}}  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(card))
    read = read_card(tmp_path)
    assert (read.crossfit, read.oddest, read.labelled_root, read.metrics) == (None, (), None, {"pro": None})
    assert (read.rest, read.origin.rest) == ({"of a newer one": {"a": 1}}, {"metrics of mine": [1]})  # and are written back
    assert read.to_json()["of a newer one"] == {"a": 1}


def test_a_family_of_another_edgead_is_told_as_unknown(tiny: Tiny, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.model("patchcore"), tmp_path / "model"))
    file = folder / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "family": "flow"}))
    with pytest.raises(BadInput, match=r"family 'flow', which this edgead .* does not know") as caught:
        load_model(folder)
    assert "known here: " in caught.value.hint and "patchcore" in caught.value.hint
    file.write_text(json.dumps({**json.loads(file.read_text()), "family": ["flow"]}))
    with pytest.raises(BadInput, match="family is a list of 1, expected a text"):
        load_model(folder)


@pytest.mark.parametrize(("key", "value"), [("created_at", None), ("tool", 3), ("source", ["x"])])
def test_an_origin_of_the_wrong_kind_is_told_before_anything_is_built(
    tiny: Tiny, tmp_path: Path, key: str, value: object
) -> None:
    """Not ten seconds later, as a fault of a manifest that the user has never seen."""
    folder = Path(shutil.copytree(tiny.model("patchcore"), tmp_path / "model"))
    file = folder / "model.json"
    card = json.loads(file.read_text())
    file.write_text(json.dumps({**card, "origin": {**card["origin"], key: value}}))
    with pytest.raises(BadInput, match=rf"model\.json .*origin\.{key} is "):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "says"), [("layers", "config: 'layers' is missing"), (None, r"config: efficientnet_lite0 has no layer .nowhere.")]
)
def test_what_is_wrong_with_a_config_is_named(tiny: Tiny, tmp_path: Path, key: str | None, says: str) -> None:
    folder = Path(shutil.copytree(tiny.model("patchcore"), tmp_path / "model"))
    file = folder / "model.json"
    card = json.loads(file.read_text())
    if key is None:
        card["config"]["layers"] = ["nowhere"]
    else:
        del card["config"][key]
    file.write_text(json.dumps(card))
    with pytest.raises(BadInput, match=rf"is damaged: model\.json: {says}"):
        load_model(folder)


def test_a_threshold_from_very_many_pictures_reads_back() -> None:
    many = 30_000
    files = tuple(f"line 1/camera_2_{i:07d}.png" for i in range(many))
    told = CrossFitted("5 folds", 4500, tuple(i / 2 for i in range(many)), files, ())
    assert read(CrossFitted, loads(json.dumps(plain(told), indent=2).encode())) == told
