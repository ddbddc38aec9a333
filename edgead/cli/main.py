"""The `edgead` command: one file a verb, loaded only when it is used, and one place that turns errors into one clear line.

A verb's module has ``command``, made as `_verb.py` says. At import it loads nothing heavy.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from edgead import __version__
from edgead.cli._verb import Actions, complaint, debugging_of
from edgead.errors import BadInput, EdgeadError, StorageError
from edgead.words import hide, plain, short

VERBS = {
    "demo": "everything at once on a simulated conveyor: train, export, verify, bench, run",
    "capture": "take pictures for training with a camera, with hints and a preview",
    "train": "train a model on a folder of good pictures",
    "pretrain": "teach a backbone to see small changes on your good pictures, for --weights",
    "distill": "distil a teacher network for EfficientAD from pictures of anything",
    "import": "make a model from another tool's file",
    "export": "make a verified bundle from a trained model",
    "factory": "train and export the products of a manifest, in one run that goes on where it stopped",
    "verify": "check on this device that a bundle answers as the trained model did",
    "sign": "sign a bundle, so that a box takes no other",
    "inspect": "show what a bundle holds",
    "push": "put a bundle into an OCI registry",
    "pull": "bring a bundle from an OCI registry, checked before it takes the place of another",
    "bundle": "former versions of a bundle: list them, put one back",
    "weights": "published weights of backbones: list, fetch, verify",
    "threshold": "choose a bundle's thresholds on the line, with a guarantee",
    "show": "what a bundle says of pictures, with the map over each",
    "evaluate": "accuracy of bundles on a folder of pictures, side by side, with a gallery",
    "score": "judge an archive of pictures, by all cores or a cluster, into a table",
    "bench": "latency per stage, throughput, cold start and memory of bundles, side by side",
    "run": "inspect what a camera sees, or run a station.yaml",
    "serve": "serve bundles to other programs: KServe v2 over HTTP and gRPC",
    "serve-files": "write files by which Triton, KServe or OpenVINO programs serve a bundle",
    "init": "write a station.yaml from six answers, with the cameras and bundles that are here",
    "station": "check a station.yaml, print its schema or an example",
    "records": "show or export what a station has recorded",
    "dashboard": "pages for the line: live, review, threshold, recipes, health",
    "users": "who may use the dashboard: add, token, remove, list",
    "fleet": "many boxes at a glance: bundles, verdicts, p99, notices, who is behind",
    "cameras": "list attached cameras with their addresses; --thumbnails takes a picture with each",
    "plc-map": "write the register map for the PLC's programmer",
    "deploy-files": "write what a plant needs beside edgead: PLC files, systemd and udev units, schemas",
    "docs": "read the documentation here, without internet",
    "doctor": "what works on this machine: engines, devices, cameras; and what to install for the rest",
}
"""What each does, in a line; its module is ``edgead.cli.NAME``."""

_MODULES = {"import": "import_", "plc-map": "plc_map", "deploy-files": "deploy_files", "serve-files": "serve_files"}
"""Verbs that cannot be the name of a module."""

EPILOG = (
    "Exit codes: 0 done, 1 internal error, 2 bad input, 3 bundle refused, 4 parity failed, 5 missing extra, weights, registry or "
    "engine, 6 camera or output, 7 storage, 8 no engine within the budget, 130 interrupted."
)
DESCRIPTION = "Trained visual anomaly detectors, verified and running on the box beside the camera."


class Edgead(Actions):
    """All verbs; the module of one is imported when that one is asked for."""

    def names(self) -> dict[str, str]:
        return VERBS

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"edgead.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        command.name = cmd_name
        return command


def root() -> Edgead:
    """The command `edgead`."""
    return Edgead(
        help=DESCRIPTION,
        epilog=EPILOG,
        params=[click.Option(["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="show it")],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 130},
        options_metavar="",
        subcommand_metavar="VERB ...",
    )


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        print(f"edgead {__version__}")
        ctx.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (see :mod:`edgead.errors`)."""
    _open_streams()
    if instruction := os.environ.get(COMPLETE):
        return _completed(instruction)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no fault
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    command = root()
    context = click.Context(command, info_name="edgead", **command.context_settings)
    try:
        with context:
            command.parse_args(context, list(sys.argv[1:] if argv is None else argv))
            code: int = command.invoke(context)
            return code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        verb = error.ctx.command_path.partition(" ")[2] if error.ctx else ""
        _complain(told(verb, *complaint(error)))
        return error.exit_code
    except BrokenPipeError:
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence: never a bare trace for the user
        return _failed(context, error)


def _failed(context: click.Context, error: BaseException) -> int:
    """Tell of the error that ended a verb; returns the exit code."""
    verb = context.invoked_subcommand
    if isinstance(error, KeyboardInterrupt):
        _complain(told(verb, "interrupted", ""))
        return 130
    if debugging_of(context):
        _complain(plain(hide("".join(traceback.format_exception(error)))).rstrip("\n"))
    if isinstance(error, EdgeadError):
        _complain(told(verb, str(error), error.hint))
        return error.exit_code
    if isinstance(error, OSError):  # of a file that nobody looked at before: the message of the system is the best there is
        where = f"{error.filename}: " if error.filename else ""
        _complain(told(verb, f"{where}{error.strerror or error}", "check the path, its permissions and the disk"))
        return StorageError.exit_code
    _complain(told(verb, f"internal error: {error!r}", "please report it; --debug shows the trace"))
    return 1


COMPLETE = "_EDGEAD_COMPLETE"
"""Set by the shell's completion: bash_source prints its function, bash_complete the candidates."""


def _completed(instruction: str) -> int:
    from click.shell_completion import shell_complete

    if shell_complete(root(), {}, "edgead", COMPLETE, instruction):
        known = "bash_source, zsh_source or fish_source: edgead docs command-line"
        _complain(told("", f"{COMPLETE} is {instruction!r}, which no shell asks for", known))
        return BadInput.exit_code
    return 0


def _open_streams() -> None:
    """Where standard input, output or error was closed (`2>&-`), the next file that is opened would get its number, and whatever
    a library complains of would be written into it: a database. So nothing is there instead."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nothing = Path(os.devnull).open(mode)  # noqa: SIM115 - for as long as the process lives
            setattr(sys, name, nothing)
            try:
                os.fstat(number)
            except OSError:
                os.dup2(nothing.fileno(), number)
            else:
                if nothing.fileno() == number:  # programs that are started shall have it, too
                    os.set_inheritable(number, True)


def _complain(text: str) -> None:
    """On standard error, if somebody reads it."""
    from edgead.runtime.outlet import say

    say(text, sys.stderr)


def told(verb: str | None, message: str, hint: str) -> str:
    """What is wrong and how to fix it, for a terminal: no secrets, no control characters, at most a screen."""
    command = f"edgead {verb}" if verb else "edgead"
    lines = (f"{command}: {_short(message)}", f"  -> {_short(hint)}" if hint else "")
    return "\n".join(line for line in lines if line)


def _short(text: str) -> str:
    from edgead.runtime.redact import redact_text

    return short(plain(redact_text(hide(text))))


if __name__ == "__main__":
    sys.exit(main())
