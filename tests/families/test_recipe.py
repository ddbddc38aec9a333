"""How to add a family (docs/architecture.md), done: a package brings one, which is trained, exported, verified and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import write_parts

PAGE = Path(__file__).parents[2] / "docs/architecture.md"
POINT = re.compile(r'\[project\.entry-points\."(?P<group>[\w.]+)"\]\n(?P<points>(?:\w+ = "[\w.:]+"\n)+)')


def blocks() -> list[tuple[str, str]]:
    """Kind and text of each code block of the recipe."""
    recipe = PAGE.read_text("utf-8").split("## How to add a family\n")[1].split("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", recipe, re.DOTALL)


def install(site: Path) -> None:
    """The recipe's files as an installed package."""
    for kind, text in blocks():
        if kind == "python":
            name, _, code = text.removeprefix("# ").partition("\n")
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(code)
        if kind == "toml":
            told = POINT.search(text)
            assert told is not None
            info = site / "edgead_mean-1.0.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgead-mean\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[{told['group']}]\n" + told["points"].replace('"', ""))


class Place:
    """Where the recipe is followed."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder, self.site = folder, site

    def run(self, line: str, *, with_package: bool = True) -> subprocess.CompletedProcess[str]:
        path = [str(self.site)] if with_package else []
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
        arguments = [sys.executable, "-m", "edgead.cli.main", *shlex.split(line)[1:]]
        return subprocess.run(arguments, cwd=self.folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The recipe's commands have been run."""
    folder = tmp_path_factory.mktemp("recipe")
    made = Place(folder, folder / "site")
    install(made.site)
    write_parts(folder / "good", range(12), 64)
    write_parts(folder / "parts", range(50, 53), 64)
    for line in next(text for kind, text in blocks() if kind == "sh").splitlines():
        done = made.run(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        (folder / f"{shlex.split(line)[1]}.txt").write_text(done.stdout)
    return made


def test_the_recipe_works_as_it_stands_in_the_docs(place: Place) -> None:
    card = json.loads((place.folder / "model/model.json").read_text("utf-8"))
    assert card["family"] == "mean"
    assert card["config"] == {"cell": 4}
    assert card["origin"]["arguments"]["cell"] == 4
    assert (place.folder / "mean.edgead/openvino/fp32.xml").is_file()


def test_its_options_are_in_the_help_and_refused_by_its_rules(place: Place) -> None:
    assert "--cell PX" in place.run("edgead train --help").stdout
    done = place.run("edgead train mean good -o other --size 64 --cell 65")
    assert (done.returncode, "give --cell 1 to 64" in done.stderr) == (2, True)
    done = place.run("edgead train mean good -o other --budget-ms 10")
    assert (done.returncode, "has no rule for that" in done.stderr) == (2, True)


def test_without_the_package_the_model_is_unknown_not_damaged_and_the_package_is_named(place: Place) -> None:
    done = place.run("edgead export model -o again.edgead", with_package=False)
    assert done.returncode == 2
    assert "holds a model of the family 'mean', which this edgead" in done.stderr
    assert "pip install edgead-mean" in done.stderr
    assert "damaged" not in done.stderr
    assert place.run("edgead verify mean.edgead", with_package=False).returncode == 0  # the engine needs no family
