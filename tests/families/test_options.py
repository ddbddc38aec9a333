"""Options say all of themselves: what the command line takes, what model.json keeps, what is refused and how."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgead import families, registry
from edgead.cli._family import family_options, given_to
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput, EdgeadError, MissingExtra
from edgead.families.contract import Family
from edgead.families.options import EVERY_TRAININGS, Options, to_json
from edgead.families.options import option as field
from edgead.manifest import Arguments


def lines(model: str, *arguments: str) -> Any:
    """What a verb gets of a command line: the values, or the error and its hint."""
    got: list[Any] = []

    @verb("Try.\n")
    @argument("model")
    @family_options
    @option("--size")
    def command(model: str, size: str | None, **given: Any) -> int:
        try:
            got.append(given_to(model, given))
        except EdgeadError as error:
            got.append(f"{error}; {error.hint}")
        return 0

    command.main([model, *arguments], standalone_mode=False)
    return got[0]


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["patchcore", "--coreset", "1"], {"coreset": 1}),
        (["patchcore", "--coreset", "1.0"], {"coreset": 1.0}),
        (["patchcore", "--coreset", "5%"], {"coreset": 0.05}),
        (["patchcore", "--layers", "blocks.4,blocks.10"], {"layers": ("blocks.4", "blocks.10")}),
        (["simplenet", "--steps", "7", "--max-rows", "50"], {"steps": 7, "max_rows": 50}),
        (["efficientad", "--no-bf16", "--lr", "1e-3"], {"bf16": False, "lr": 0.001}),
        (["efficientad", "--start", "random", "--steps", "70"], {"start": "random", "steps": 70}),
    ],
)
def test_the_command_line_takes_them_and_the_card_gives_them_back(arguments: list[str], values: dict[str, Any]) -> None:
    found = lines(*arguments)
    assert found == values
    assert [type(one) for one in found.values()] == [type(one) for one in values.values()]
    kind = families.find(arguments[0]).options_type()
    assert kind.from_json(arguments[0], to_json(found)) == values


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["patchcore", "--coreset", "much"], "--coreset: 'much' is neither a share such as 0.01 nor a number of rows"),
        (
            ["patchcore", "--coreset", "2.5"],
            "a coreset of 2.5 is not usable; give a share such as 0.01, or a whole number",
        ),
        (["patchcore", "--coreset", "0"], "a coreset of 0 is not usable"),
        (["patchcore", "--coreset", "nan"], "a coreset of nan is not usable"),
        (["patchcore", "--steps", "7"], "patchcore has no option steps; its options: backbone, coreset"),
        (["simplenet", "--steps", "0"], "0 training steps are not usable; give --steps 1 or more"),
        (["simplenet", "--steps", "1_000"], "--steps: '1_000' is not a whole number"),
        (["simplenet", "--noise", "inf"], "noise inf is not usable; give --noise 0 or more"),
        (["efficientad", "--pdn", "large"], "pdn large is not usable; give --pdn small or medium"),
        (["efficientad", "--start", "random"], "0 steps with start 'random' cannot train"),
        (["efficientad", "--outside", "/dev/null"], "--outside /dev/null is not a folder"),
        (["efficientad", "--teacher", "/nowhere"], "--teacher /nowhere does not exist; give a file, or leave --teacher out"),
        (["pear"], "unknown model 'pear'; those that can be trained: patchcore, simplenet"),
        (["graph"], "an ONNX graph is not trained by edgead"),
    ],
)
def test_what_is_not_usable_is_one_line_and_how_to_mend_it(arguments: list[str], said: str) -> None:
    assert said in lines(*arguments)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("steps", "many", 'origin.arguments.steps is "many", expected a whole number'),
        ("steps", True, "origin.arguments.steps is true, expected a whole number"),
        ("steps", -3, "-3 training steps are not usable"),
        ("weights", 5, "origin.arguments.weights is 5, expected a path"),
        ("layers", ["a", 1], "origin.arguments.layers is a list of 2, expected a list of texts"),
        ("backbone", None, "origin.arguments.backbone is null, expected a text"),
        ("noise", "0.5", 'origin.arguments.noise is "0.5", expected a number'),
        ("seed", 1, "simplenet has no option seed"),
    ],
)
def test_a_damaged_card_trains_nothing_and_says_where(name: str, value: Any, said: str) -> None:
    with pytest.raises(BadInput) as told:
        families.find("simplenet").options_type().from_json("simplenet", {name: value})
    assert said in str(told.value)


def test_a_number_may_be_whole_in_json_and_a_path_a_text() -> None:
    kind = families.find("simplenet").options_type()
    found = kind.from_json("simplenet", {"noise": 1, "weights": "/a/b.pth", "layers": ["x"]})
    assert found == {"noise": 1.0, "weights": Path("/a/b.pth"), "layers": ("x",)}
    assert to_json(found) == {"noise": 1.0, "weights": "/a/b.pth", "layers": ["x"]}


def test_the_table_and_the_options_need_no_torch() -> None:
    code = "import sys; from edgead.families import FAMILIES; [f.options_type().known() for f in FAMILIES.values() if f.fit]"
    import subprocess

    done = subprocess.run([sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


# families of other packages


@dataclass(frozen=True, slots=True)
class Mine(Options):
    size: int = field(3, "of something")


@dataclass(frozen=True, slots=True)
class Seeded(Options):
    seed: int = field(3, "of something")


def _entry(name: str, options: type[Options] = Mine) -> Family:
    return Family(name, name.title(), "", "", "tests:Net", options=f"{__name__}:{options.__name__}", fit="tests.absent:fit")


MINE, SEEDED, PATCHCORE, NOTHING = _entry("mine"), _entry("seeded", Seeded), _entry("patchcore"), 5


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    points = {"mine": "MINE", "seeded": "SEEDED", "patchcore": "PATCHCORE", "nothing": "NOTHING", "wrong": "MINE"}
    made = [EntryPoint(name, f"{__name__}:{attribute}", "edgead.families") for name, attribute in points.items()]
    made.append(EntryPoint("broken", "tests.absent:FAMILY", "edgead.families"))
    monkeypatch.setattr(registry, "points", lambda group: EntryPoints(made))
    yield


@pytest.mark.usefixtures("others")
def test_other_packages_families_are_listed_and_ours_cannot_be_taken_over() -> None:
    assert families.names()[-5:] == ["mine", "seeded", "nothing", "wrong", "broken"]
    assert families.trained()[:3] == ["patchcore", "simplenet", "efficientad"]
    assert families.find("patchcore") is families.FAMILIES["patchcore"]
    assert families.find("mine").package


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "family 'broken' cannot be loaded from tests.absent:FAMILY: ModuleNotFoundError"),
        ("nothing", "is no edgead.families.contract.Family of this name"),
        ("wrong", "is no edgead.families.contract.Family of this name"),
    ],
)
def test_what_is_wrong_with_a_package_is_told_when_its_family_is_asked_for(name: str, said: str) -> None:
    with pytest.raises(MissingExtra, match=said):
        families.find(name)
    assert lines("simplenet", "--steps", "5") == {"steps": 5}  # and it costs nobody else anything


@pytest.mark.usefixtures("others")
def test_names_that_are_taken_are_told() -> None:
    assert "mine has an option --size, which the verb has itself" in lines("mine")
    assert "Seeded has an option seed, which every training has" in lines("seeded")
    with pytest.raises(MissingExtra, match=r"tests.absent:fit of the family 'mine' cannot be loaded"):
        families.find("mine").bound({})


def test_the_help_shows_each_option_once_under_the_families_that_have_it() -> None:
    @verb("Try.\n")
    @family_options
    def command(**given: Any) -> int:
        return 0

    said = CliRunner().invoke(click.Group(commands={"try": command}), ["try", "--help"]).output
    assert said.count("--steps N") == 1
    for one in ("simplenet: training steps (default 800)", "efficientad: joint training steps after the start (default 0)"):
        assert one in " ".join(said.split())
    having = [n for n in families.trained() if "max_rows" in {one.name for one in families.find(n).options_type().known()}]
    assert having[:2] == ["patchcore", "simplenet"]
    assert f"{', '.join(having[:-1])} and {having[-1]}, rarely needed:\n" in said


def test_names_that_every_training_has_are_taken() -> None:
    assert frozenset(one.name for one in dataclasses.fields(Arguments)) | {"device"} == EVERY_TRAININGS
