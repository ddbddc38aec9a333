"""The image files, as far as they can be looked at where no image can be built."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from edgead.cli.main import VERBS, root

FOLDER = Path(__file__).resolve().parents[2] / "edgead/deploy"
FILES = sorted((FOLDER / "container").glob("Containerfile*"))
KNOWN = {"ARG", "FROM", "RUN", "COPY", "USER", "WORKDIR", "VOLUME", "ENV", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


def extras() -> set[str]:
    text = (FOLDER.parents[1] / "pyproject.toml").read_text("utf-8")
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return set(re.findall(r"^([a-z][a-z0-9-]*) = \[", table, re.M))


def instructions(file: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", file.read_text("utf-8"), flags=re.M).replace("\\\n", " ")
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_an_image_file_names_exists(file: Path) -> None:
    found = instructions(file)
    assert {word for word, _ in found} <= KNOWN
    defined = {"PATH", *(rest.partition("=")[0] for word, rest in found if word == "ARG")}
    used = {name for _, rest in found for name in re.findall(r"\$\{?([A-Z]+)", rest)}
    assert used <= defined
    by = dict(found)
    assert by["ENTRYPOINT"] == '["edgead"]' and re.findall(r'"([^"]+)"', by["CMD"])[0] in VERBS
    assert by["USER"] == "edgead"  # never root


def test_extras_that_files_for_a_plant_name_exist() -> None:
    named = {
        extra
        for file in FOLDER.rglob("*")
        if file.is_file() and file.suffix in (".md", ".yml", ".sh", ".l4t", "") and "__pycache__" not in file.parts
        for group in re.findall(r"edgead\[([a-z0-9,-]+)\]", file.read_text("utf-8"))
        for extra in group.split(",")
    }
    assert {"openvino", "station", "sign", "oci"} <= named and named <= extras()


def test_verbs_and_options_that_files_for_a_plant_name_exist() -> None:
    """In words (`edgead pull ...`), and as the role calls them."""
    lines = [line for file in FOLDER.rglob("*.md") for line in re.findall(r"`(edgead [a-z][^`]+)`", file.read_text("utf-8"))]
    lines += [
        "edgead pull --station X --verify --json",
        "edgead station check X",
        "edgead deploy-files X --only systemd --replace",
    ]
    for line in lines:
        tokens = line.split()[1:]
        command = root().get_command(click.Context(root()), tokens[0])
        assert command is not None, line
        if isinstance(command, click.Group) and len(tokens) > 1:
            command = command.get_command(click.Context(command), tokens[1]) or command
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help", "--debug"}
        assert {token for token in tokens if token.startswith("-") and token.strip("-.")} <= known, line
