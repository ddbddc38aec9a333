"""No family's name stands outside its room: whoever adds one touches its folder and the table, and nothing else."""

import ast
import re
from pathlib import Path

import pytest

import edgead
from edgead.families import FAMILIES, find

ROOT = Path(edgead.__file__).parent
NAMES = re.compile(r"patch_?core|simple_?net|efficient_?ad|\bpdn\b", re.IGNORECASE)
"""Of those that are made up words: also as a part of a name."""

WORDS = {word for family in FAMILIES.values() for word in (family.name, *(preset.name for preset in family.presets))}
WORDS = WORDS - {"graph", "gaussian", "ae"}
"""Of all families and methods, but for words that mean something else, too: as a whole text."""

CLASSES = {family.network.partition(":")[2] for family in FAMILIES.values()}
ROOMS = tuple({family.network.rpartition(".")[0] for family in FAMILIES.values()})

OF_THEIR_OWN = ("edgead/families/", "edgead/demo/", "edgead/cli/demo.py")
"""Their rooms and the table; the demo shows two of them by name."""

VERBS_OF_ONE = ("edgead/cli/distill.py", "edgead/jobs/distill.py")
"""A verb that makes what one family is trained with, by its own choice of words."""


def named_in(file: Path) -> list[str]:
    """Names of families in a file's code: what is imported or called so, and texts that are nothing else. Docstrings, comments
    and messages are for people."""
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            told = [getattr(node, "module", "") or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Name):
            told = [node.id]
        elif isinstance(node, ast.Attribute):
            told = [node.attr]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            told = [node.name]
        elif isinstance(node, ast.arg | ast.keyword):
            told = [node.arg or ""]
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Attribute) and side.attr == "family" for side in sides):
                found += [f"{node.lineno}: family == {s.value}" for s in sides if isinstance(s, ast.Constant)]
            continue
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.search(r"\s", node.value):
            told = [node.value]
        else:
            continue
        known = WORDS if isinstance(node, ast.Constant) else CLASSES
        named = [one for one in told if NAMES.search(one) or one in known or one.startswith(ROOMS)]
        found += [f"{node.lineno}: {one}" if hasattr(node, "lineno") else one for one in named]
    return found


def may_name(file: str) -> bool:
    """Readers of other tools' files stand under importers/, each in a file that imports the room whose models it makes, and are
    listed there by name."""
    if not file.startswith("edgead/importers/"):
        return False
    imports_a_room = re.search(r"^from edgead\.families\.\w+\.\w+ import", (ROOT.parent / file).read_text("utf-8"), re.MULTILINE)
    return bool(imports_a_room) or Path(file).name in ("recognise.py", "checkpoint.py")


def test_no_familys_name_stands_outside_its_room() -> None:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT.parent).as_posix()
        if not file.startswith(OF_THEIR_OWN) and file not in VERBS_OF_ONE and (named := named_in(path)):
            found[file] = [] if may_name(file) else named
    assert {file: named for file, named in found.items() if named} == {}


def test_the_check_sees_names_in_code_and_none_in_words(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(
        '"""On PatchCore."""\nfrom a import PatchCore\nx = PatchCore()\nkind = "efficientad"\nsay = "train patchcore now"\n'
    )
    assert named_in(file) == ["2: PatchCore", "4: efficientad", "3: PatchCore"]
    file.write_text('odd = detector.family == "graph"\nfine = detector.family == other.family\n')
    assert named_in(file) == ["1: family == graph"]
    file.write_text(
        'from edgead.families.mmd import fit\nQUICK = {"padim": 2}\nstudents = partial(Distillation)\nsay = "students draw"\n'
    )
    assert sorted(named_in(file)) == ["1: edgead.families.mmd", "2: padim", "3: Distillation"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_its_room_and_a_page(name: str) -> None:
    family = find(name)
    room = ROOT.parent / Path(*family.network.partition(":")[0].split(".")).parent
    assert (room / "network.py").is_file()
    page = (room / "README.md").read_text("utf-8")
    assert page.startswith(f"# {family.title}" if family.source else "# ")
    assert family.source.rpartition("arXiv:")[2] in page
    assert "good at" in page.lower() and "**Measured**" in page


def test_every_entry_loads_what_it_names() -> None:
    for family in FAMILIES.values():
        assert family.detector().family == family.name
        assert set(family.tried) <= {"feature_map", *(one.name for one in family.own_rewrites())}
        assert bool(family.fit) == bool(family.options)
        if family.fit:
            assert family.bound({}) is not None


@pytest.mark.parametrize("name", [name for name, entry in FAMILIES.items() if entry.fit])
def test_a_page_shows_the_options_as_they_are(name: str) -> None:
    page = (ROOT / "families" / name / "README.md").read_text("utf-8")
    shown = page.split("<!-- begin options -->\n")[1].split("\n<!-- end options -->")[0]
    assert shown == find(name).options_type().table(), "python -m edgead.families writes it"
