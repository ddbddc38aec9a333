"""The command line itself, whatever the verb: help, mistakes, values, the shell's completion."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgead.cli._verb import Actions, Argument, Option, Verb
from edgead.cli.main import VERBS, main, root

OTHER_WORDS = {
    "-o": "where the result goes: what that is, each verb says",
    "--out": "the same",
    "--engine": "one of the bundle's: run has a default, the others take all",
    "--no-cache": "run says what it keeps, and where",
    "--workers": "processes at once: of what, each verb says",
    "--threads": "CPU threads of one inference: score has one, since it has a worker a core",
    "--name": "of the part: from the folder of pictures, or from another tool's file",
    "--weights": "of the backbone: given in place of the published ones, or of those that a file lacks",
    "--backbone": "which one is trained on, or what a file does not say",
    "--layers": "the same",
    "--size": "of the model's input: chosen, or what a file does not say",
    "--threshold": "of a station, or of an imported model",
    "--budget-ms": "picture to verdict: train chooses a size by it, export searches for an engine, serve counts from the request",
    "--http": "where a server listens, each on a port of its own",
    "--frame": "size of the camera's pictures: where its default comes from, each verb says",
    "--device": "where it is computed: the choices differ",
    "--max-false-reject": "share of good parts that may be NG: threshold keeps the one before",
    "--defects": "folders of them: train learns from them, threshold chooses by them",
    "--px": "side of what a training looks at: of what, each training says",
    "--labelled": "real defects: export compares on them, train auto chooses by them",
    "--minutes": "bound on a training: distil takes all of them, train auto begins none that would end later",
    "--steps": "of training: distil goes on from where it was",
    "--batch": "of a training step: of what, each training says",
    "--lr": "the peak learning rate: of whose optimiser",
    "--bf16": "compute in bfloat16: where that is the default",
    "--report": "a page to look at: of what a training saw, or of what an export measured",
    "--apply": "running stations take it now: threshold a threshold, pull a bundle",
    "--no-bf16": "the same",
    "--force": "though it is there: weights are fetched, a station file is written anew",
    "--unknown-band": "UNKNOWN instead of OK: threshold chooses it, records tries one",
}
"""Words whose help is not the same on every verb, and what they mean on all of them."""

HEAVY = ("torch", "onnx", "openvino", "onnxruntime", "cv2", "numpy", "pydantic", "rich", "sklearn", "yaml")


def told(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """What stands on standard error, or on standard output where all is well; the command ends with `code`."""
    assert main(arguments) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every verb, and every action of one."""
    top = root()
    context = click.Context(top)
    for verb in VERBS:
        command = top.get_command(context, verb)
        assert isinstance(command, Verb | Actions), verb
        yield verb, command
        if isinstance(command, Actions):
            yield from ((f"{verb} {name}", action) for name, action in command.commands.items())


def test_help_names_every_verb_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, 0, "--help")
    assert all(f"\n  {verb} " in text for verb in VERBS)
    assert "130 interrupted" in text
    assert told(capsys, 0, "-h") == text


def test_help_and_mistakes_load_nothing_heavy() -> None:
    asked = [["--help"], ["--version"], ["trian"], ["records", "--sinc"], *([*name.split(), "--help"] for name, _ in commands())]
    code = f"import sys; from edgead.cli.main import main; [main(a) for a in {asked}]"
    code += f"; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_has_help_that_says_what_it_does_and_what_each_word_means(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = dict(commands())[name]
    text = told(capsys, 0, *name.split(), "--help")
    assert text.startswith(f"Usage: edgead {name} ")
    assert command.help
    assert command.help.splitlines()[0] in " ".join(text.split())
    for param in command.params:
        assert isinstance(param, Option | Argument), param.name
        help = param.help if isinstance(param, Option) else param.told
        assert help, param.name
        assert max(param.opts, key=len) in text or param.metavar in text


def test_the_same_word_means_the_same_thing_on_every_verb() -> None:
    """The kind of its values, whether it may be given again, and what its help says."""
    kinds: dict[str, set[object]] = {}
    helps: dict[str, set[str | None]] = {}
    for _, command in commands():
        for param in command.params:
            for word in (*param.opts, *param.secondary_opts) if isinstance(param, Option) else ():
                kinds.setdefault(word, set()).add((param.type.name, param.is_flag, param.multiple))
                helps.setdefault(word, set()).add(param.help)
    assert {word for word, found in kinds.items() if len(found) > 1} == set()
    assert {word for word, found in helps.items() if len(found) > 1} <= set(OTHER_WORDS)


@pytest.mark.parametrize(
    ("arguments", "first", "hint"),
    [
        ((), "edgead: a verb is missing", "one of: demo, capture, train,"),
        (("trian",), "edgead: there is no verb trian", "did you mean train or pretrain?"),
        (("RECORDS",), "edgead: there is no verb RECORDS", "did you mean records?"),
        (("--verison",), "edgead: there is no option --verison", "did you mean --version?"),
        (("records", "--sinc", "1d"), "edgead records: there is no option --sinc", "did you mean --since"),
        (("records",), "edgead records: DIR|FILE is missing", "the station's records folder"),
        (("records", "a", "b"), "edgead records: got unexpected extra argument (b)", "edgead records --help"),
        (("records", "a", "--part", "1_0"), "edgead records: --part: '1_0' is not a whole number", "edgead records --help"),
        (("records", "a", "--part", "9" * 5000), "edgead records: --part: '999", "edgead records --help"),
        (("records", "a", "--since="), "edgead records: --since is empty", "give a value, or leave it out"),
        (("records", ""), "edgead records: DIR|FILE: is empty", "give a path"),
        (("records", "a", "--since", "--until"), "edgead records: --since needs a value, and --until follows", "--since=--until"),
        (("records", "a", "--since"), "edgead records: option '--since' requires an argument", "edgead records --help"),
        (("records", "a", "--summary=1"), "edgead records: option '--summary' does not take a value", "edgead records --help"),
        (("records", "a", "--limit", "1", "--limit", "2"), "edgead records: --limit is given twice, as 1 and as 2", "once"),
        (("weights",), "edgead weights: an action is missing", "one of: list, fetch, verify"),
        (("weights", "lst"), "edgead weights: there is no action lst", "did you mean list?"),
        (("weights", "fetch", "x", "--sha256", "y"), "edgead weights fetch: --sha256: 'y' is no SHA-256", "--help"),
        (("distill", "a"), "edgead distill: --out is missing", "the teacher"),
        (("distill", "a", "-o", "b", "--lr", "nan"), "edgead distill: --lr: 'nan' is not a number", "--help"),
        (("distill", "a", "-o", "b", "--minutes", "inf"), "edgead distill: --minutes: 'inf' is not a number", "--help"),
        (("plc-map", "--word-order", "middle"), "edgead plc-map: --word-order: 'middle' is not one of", "--help"),
    ],
)
def test_a_mistake_is_one_line_that_starts_with_what_is_wrong_and_one_that_helps(
    arguments: tuple[str, ...], first: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(capsys, 2, *arguments).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(first)
    assert lines[1].startswith("  -> ") and hint in lines[1]


def test_values_may_be_negative_given_again_as_they_were_and_look_like_options_when_they_are_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "register blocks at -5 and 100" in told(capsys, 2, "plc-map", "--to-plc-address", "-5")
    assert told(capsys, 0, "plc-map", "--word-order", "big", "--word-order", "big")
    assert f"no records at {tmp_path / 'none'}" in told(capsys, 2, "records", str(tmp_path / "none"), "--since=1d")
    assert "--since --until is not a date" in told(capsys, 2, "records", str(tmp_path), "--since=--until")


def test_debug_goes_after_the_verb_or_its_action_and_shows_the_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none")
    for arguments in (["records", missing], ["bundle", "history", missing]):
        assert "Traceback" not in told(capsys, 2, *arguments)
        assert "Traceback" in told(capsys, 2, *arguments, "--debug")
    assert "Traceback" in told(capsys, 2, "bundle", "--debug", "history", missing)


def test_help_that_nobody_reads_to_its_end_is_no_error() -> None:
    for arguments in ("--help", "records --help"):
        line = f"{sys.executable} -m edgead.cli.main {arguments} | true; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        assert "Traceback" not in done.stderr


def test_a_completion_that_no_shell_asks_for_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_EDGEAD_COMPLETE", "tcsh_source")
    assert "_EDGEAD_COMPLETE is 'tcsh_source'" in told(capsys, 2)


def completed(words: str, shell: str = "bash") -> list[str]:
    """What the completion's protocol offers for the last of these words, as the shell's own function asks for it."""
    split = words.split(" ")
    asked = {"COMP_WORDS": words, "COMP_CWORD": split[-1] if shell == "fish" else str(len(split) - 1)}
    environment = {**os.environ, **asked, "_EDGEAD_COMPLETE": f"{shell}_complete"}
    command = [sys.executable, "-m", "edgead.cli.main"]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()


def test_the_shells_are_offered_verbs_actions_options_choices_and_files() -> None:
    assert completed("edgead re") == ["plain,records"]
    assert set(completed("edgead ")) >= {f"plain,{verb}" for verb in VERBS}
    assert completed("edgead weights fe") == ["plain,fetch"]
    assert completed("edgead records --si") == ["plain,--since"]
    assert completed("edgead plc-map --word-order ") == ["plain,big", "plain,little"]
    assert completed("edgead records x") == ["file,x"]
    assert completed("edgead records re", "zsh") == ["file", "re", "_"]
    assert completed("edgead rec", "zsh") == ["plain", "records", VERBS["records"]]
    assert completed("edgead rec", "fish")[0].startswith("plain")


def test_bash_completes_after_the_one_documented_line(tmp_path: Path) -> None:
    """In a real bash, by the function that the line in the README defines."""
    (tmp_path / "edgead").write_text(f'#!/bin/sh\nexec {sys.executable} -m edgead.cli.main "$@"\n')
    (tmp_path / "edgead").chmod(0o755)
    script = """
eval "$(_EDGEAD_COMPLETE=bash_source edgead)"
COMP_WORDS=(edgead rec); COMP_CWORD=1
_edgead_completion edgead rec edgead
echo "${COMPREPLY[@]}"
complete -p edgead
"""
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "PATH": path})
    assert done.stdout.splitlines()[0] == "records"
    assert done.stdout.splitlines()[1].endswith("edgead")


REFUSED = {
    "records --summary": (["records", "DIR", "--csv", "a.csv", "--summary"], "--summary is shown"),
    "records --json": (["records", "DIR", "--csv", "a.csv", "--json"], "--json is shown"),
    "sign --key": (["sign", "--new-key", "a.pem", "--key", "b.pem"], "--new-key goes alone"),
    "sign BUNDLE": (["sign", "DIR", "--new-key", "a.pem"], "--new-key goes alone"),
    "sign": (["sign", "DIR"], "a bundle and the key"),
    "bundle history N": (["bundle", "history", "DIR", "3"], "got unexpected extra argument (3)"),
    "weights list NAME": (["weights", "list", "resnet18"], "got unexpected extra argument (resnet18)"),
    "verify": (["verify", "DIR", "--engine", "a", "--keep-default"], "--keep-default"),
    "threshold --undo": (["threshold", "DIR", "--undo", "--set", "1"], "--undo goes alone"),
    "threshold --history": (["threshold", "DIR", "--history", "--undo"], "--history goes alone"),
    "threshold --threads": (["threshold", "DIR", "--history", "--threads", "1"], "--threads: nothing is chosen"),
    "threshold --dry-run": (["threshold", "DIR", "--dry-run"], "--dry-run: nothing is chosen"),
    "run --camera": (["run", "a.yaml", "--camera", "sim"], "--camera: not with a station file"),
    "run --threads": (["run", "a.yaml", "--threads", "1"], "--threads: not with a station file"),
    "run --records": (["run", "DIR", "--camera", "sim", "--records", "-", "--json"], "--records -"),
    "station example": (["station", "example", "a.yaml"], "got unexpected extra argument (a.yaml)"),
    "distill": (["distill", "DIR", "-o", "a.safetensors", "--steps", "1", "--minutes", "1"], "--minutes and --steps"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_apply_is_refused_by_name_before_anything_is_done(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, says = REFUSED[case]
    (tmp_path / "DIR").mkdir()
    monkeypatch.chdir(tmp_path)
    assert says in told(capsys, 2, *arguments)
    assert [path.name for path in tmp_path.rglob("*")] == ["DIR"]
