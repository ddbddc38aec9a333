"""Every word of the pages stands in a file of its language, in each language; what is not ours says where it is from."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import edgead

STATIC = Path(edgead.__file__).parent / "dashboard" / "static"
TESTS = Path(__file__).parent
SCRIPTS = {path.relative_to(STATIC).as_posix(): path for path in sorted(STATIC.rglob("*.js")) if "vendor" not in path.parts}
LANGUAGES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((STATIC / "lang").glob("*.json"))}
EVERYWHERE = {"edgead"}
"""Words that are the same in every language."""


def source(path: Path) -> str:
    """A script without its comments."""
    return re.sub(r"(?s:/\*.*?\*/)|(?:^|\s)//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def markup(script: str) -> list[str]:
    """Each html`...` of a script, at any depth, with a blank for each ${...}."""
    found: list[str] = []

    def code(at: int) -> int:
        depth = 0
        while at < len(script):
            if script[at] == "`":
                at = template(at + 1, script[at - 4 : at] == "html")
                continue
            if script[at] in "\"'":
                at = script.index(script[at], at + 1)
            elif script[at] == "{":
                depth += 1
            elif script[at] == "}":
                if depth == 0:
                    return at + 1
                depth -= 1
            at += 1
        return at

    def template(at: int, ours: bool) -> int:
        text = []
        while script[at] != "`":
            if script[at : at + 2] == "${":
                at = code(at + 2)
                text.append(" ")
            else:
                text.append(script[at])
                at += 1
        if ours:
            found.append("".join(text))
        return at + 1

    code(0)
    return found


def hard_coded(script: str) -> list[str]:
    """Words that a person would read and nobody can translate."""
    words: list[str] = []
    for text in markup(script):
        words += re.findall(r'\b(?:aria-label|title|placeholder|alt|label)="([^"]*[^\W\d_][^"]*)"', text)
        words += re.findall(r"[^\W\d_][\w-]*", re.sub(r"<[^>]*>", " ", text))
    words += re.findall(r"""\btell\(["']([^"']+)""", script)
    return [word for word in words if word not in EVERYWHERE]


def test_there_are_english_and_german() -> None:
    assert {"en", "de"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_each_text_with_the_same_blanks(language: str) -> None:
    english, other = LANGUAGES["en"], LANGUAGES[language]
    blanks = {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in english.items()}
    assert {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in other.items()} == blanks
    assert all(text.strip() for text in other.values())


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_text_stands_in_a_script(name: str) -> None:
    assert hard_coded(source(SCRIPTS[name])) == []


def test_a_text_in_a_script_would_be_found() -> None:
    assert hard_coded('html`<b>Stop ${t("x")}</b>`; const y = html`${a ? html`<i alt="A part"></i>` : 1}`; tell("Done")') == [
        "Stop",
        "A part",
        "Done",
    ]


def test_every_text_that_is_asked_for_is_there_and_no_other() -> None:
    scripts = "\n".join(source(path) for path in SCRIPTS.values())
    keys = set(LANGUAGES["en"])
    assert set(re.findall(r'\bt\("([^"]+)"', scripts)) - keys == set()
    made = [re.sub(r"\\\$\\\{.*?\\\}", ".+", re.escape(text)) for text in re.findall(r"\bt\(`([^`]+)`", scripts)]
    made += [rf"{prefix}\..+" for prefix in re.findall(r'\bnamed\("([^"]+)"', scripts)]
    asked = {
        key for key in keys if f'"{key.removesuffix(".one")}"' in scripts or any(re.fullmatch(pattern, key) for pattern in made)
    }
    assert keys - asked == set()


def test_nothing_is_fetched_from_elsewhere_and_no_data_becomes_markup() -> None:
    for path in [STATIC / "index.html", *SCRIPTS.values(), *(STATIC / "css").glob("*.css")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""["'(](?:https?:)?//\w""", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), path.name


@pytest.mark.parametrize("folder", [STATIC / "vendor", TESTS / "vendor"], ids=["pages", "tests"])
def test_what_others_wrote_is_what_its_page_says(folder: Path) -> None:
    page = (folder / "VENDORED.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|", page))
    assert told == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != "VENDORED.md"
    }
