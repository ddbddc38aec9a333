"""The documentation: the site builds without a warning, commands in it exist, and the tutorial works word for word."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgead import errors
from edgead.cli.main import VERBS, main, root
from edgead.families import methods
from edgead.jobs import manual

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/devices").glob("*.md"))]
PATIENCE_S = 300.0


def test_the_site_builds_without_a_warning_and_without_internet(tmp_path: Path) -> None:
    """Also a link that leads nowhere, and a page that nothing leads to, are warnings; none is counted with --quiet."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {file.relative_to(tmp_path / "site").as_posix() for file in (tmp_path / "site").rglob("*.html")}
    assert {f"verbs/{verb}.html" for verb in VERBS} <= pages
    foreign = re.compile(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?|png))"')
    for page in pages:
        assert not foreign.findall((tmp_path / "site" / page).read_text("utf-8")), page


def commands(page: Path) -> Iterator[str]:
    """What stands as `edgead ...` in a page: in blocks of shell, and in words."""
    text = page.read_text("utf-8")
    for language, block in re.findall(r"```(\w*)\n(.*?)```", text, re.S):
        if language in ("sh", "bash", "console"):
            yield from (line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip().startswith("edgead "))
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    yield from (one for one in re.findall(r"`(edgead [^`]+)`", prose) if re.match(r"edgead [a-z]", one))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_verbs_and_options_that_a_page_names_exist(page: Path) -> None:
    wrong = []
    for line in commands(page):
        tokens = re.split(r"\s+", line.split("#")[0].split("|")[0].split("&&")[0].strip())[1:]
        context = click.Context(root())
        command = root().get_command(context, tokens[0])
        if command is None:
            wrong.append(line)
            continue
        if isinstance(command, click.Group) and len(tokens) > 1:
            command = command.get_command(click.Context(command), tokens[1]) or command
        if tokens[0] == "train" and len(tokens) > 1 and tokens[1] not in (*methods(), "MODEL", "METHOD"):
            continue  # of a family that the page builds
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help", "-h", "--debug"}
        used = [re.split(r"[=,]", token)[0] for token in tokens if re.match(r"--?[a-z]", token)]
        wrong += [line for one in used if one.rstrip(".:;)") not in known]
    assert wrong == []


def literals(file: Path) -> Iterator[str]:
    """What stands in a module's strings, but for the docstrings of what is no verb: messages, hints, help, generated files."""
    tree = ast.parse(file.read_text("utf-8"))
    shown = tree.body[:1] if file.parent.name == "cli" and not file.stem.startswith("_") else []  # a verb's --help
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and node not in shown}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def test_messages_send_people_to_pages_that_they_have() -> None:
    """Whoever has the wheel alone has no docs/: `edgead docs PAGE` shows what lies in it."""
    sent = set()
    for file in sorted((ROOT / "edgead").rglob("*.py")):
        for text in literals(file):
            assert not re.search(r"\bdocs/[\w/-]+\.md", text) or file.stem == "_schemas", f"{file}: {text}"
            sent |= set(re.findall(r"edgead docs ([\w-]+)", text))
    for file in (ROOT / "edgead/deploy").rglob("*"):
        if file.is_file():
            text = file.read_text("utf-8")
            assert not re.search(r"(?<!\.\./)docs/[\w/-]+\.md", text), file
            sent |= set(re.findall(r"edgead docs ([\w-]+)", text))
    assert len(sent) > 20
    for name in sent:
        assert manual.page(name).file.is_file()


def test_pages_are_read_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name} " in listed for name in ("thresholds", "devices/rtsp", "tutorial"))
    for name in ("rtsp", "devices/rtsp", "docs/devices/rtsp.md"):
        assert main(["docs", name]) == 0
        assert capsys.readouterr().out == (ROOT / "docs/devices/rtsp.md").read_text("utf-8")
    assert main(["docs", "treshold"]) == 2
    assert "near: thresholds" in capsys.readouterr().err


def test_exit_codes_that_errors_have_are_documented() -> None:
    page = (ROOT / "docs/exit-codes.md").read_text("utf-8")
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EdgeadError)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)} == codes | {0, 130}


def environment(half: str) -> dict[str, str]:
    """What a newcomer has after `. lab/bin/activate` or `. line/bin/activate`: of the wheel alone, where EDGEAD_TEST_LAB and
    EDGEAD_TEST_LINE name such environments (.ci/run), else this one, with the repository."""
    where = os.environ.get(f"EDGEAD_TEST_{half.upper()}")
    env = os.environ | ({} if where else {"PYTHONPATH": str(ROOT)})
    if where:
        env.pop("PYTHONPATH", None)
    bins = Path(where) / "bin" if where else Path(sys.executable).parent
    return env | {"PATH": f"{bins}{os.pathsep}{os.environ['PATH']}"}


def test_the_tutorial_leads_from_an_empty_folder_to_a_plc_that_sees_its_bits(tmp_path: Path) -> None:
    text = (ROOT / "docs/tutorial.md").read_text("utf-8")
    steps = re.findall(r"<!-- (lab|line|run|run: in the background|file: \S+) -->\n```(?:sh|yaml)\n(.*?)```", text, re.S)
    assert [how for how, _ in steps if how in ("lab", "line")] == ["lab", "line"] and len(steps) >= 9
    env, text_of, station = environment("lab"), [], None
    for how, block in steps:
        if how in ("lab", "line"):
            env = environment(how)
        elif how.startswith("file: "):
            (tmp_path / how.removeprefix("file: ")).write_text(block, "utf-8")
        elif how.endswith("background"):
            station = subprocess.Popen(["bash", "-euc", f"exec {block.strip()}"], cwd=tmp_path, env=env)
        else:
            command = ["bash", "-euo", "pipefail", "-c", block]
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
            text_of.append(done.stdout)
            if station is not None and station.poll() is None and "modbus_plc" in block:
                assert station.wait(PATIENCE_S) == 0
    parts = re.findall(r"^part (\d): (OK|NG)", "\n".join(text_of), re.M)
    assert [number for number, _ in parts] == list("12345")
    assert station is not None and station.returncode == 0


def test_the_environments_of_the_checks_are_those_that_the_tutorial_makes() -> None:
    """The lab: .ci/lab.py reads its extras from the page."""
    line = re.search(r"<!-- line -->\n```sh\n.*?\.whl(\[.*?\])", (ROOT / "docs/tutorial.md").read_text("utf-8"), re.S)
    assert line is not None and f'"edgead{line[1]} @ file://$wheel"' in (ROOT / ".ci/run").read_text("utf-8")


def test_the_first_hour_leads_from_a_camera_to_a_station_that_judges(tmp_path: Path) -> None:
    text = (ROOT / "docs/first-hour.md").read_text("utf-8")
    steps = re.findall(r"<!-- run -->\n```sh\n(.*?)```", text, re.S)
    assert len(steps) == 5
    env, told = environment("lab"), []
    for block in steps:
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        told.append(done.stdout)
    assert len(list((tmp_path / "good").glob("*.png"))) == 60
    assert "60 pictures saved" in told[1] and "station.yaml is right" in told[3]
    assert (tmp_path / "gallery.html").is_file() and len(list((tmp_path / "shown").glob("*.png"))) == 2
    assert re.search(r"10 (parts|records|inspections)", told[4]), told[4]
