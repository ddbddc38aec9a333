"""The `edgead` command: one file a verb, loaded only when it is used, and one place that turns errors into one clear line.

A verb's module has ``SUMMARY`` (one line), ``add_arguments(parser)`` and ``run(args) -> int`` (the exit code). At import it
loads nothing heavy; what it needs is imported inside `run`.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from edgead import __version__
from edgead.errors import EdgeadError, StorageError
from edgead.words import hide, plain, short

VERBS = (
    "demo",
    "train",
    "distill",
    "import",
    "export",
    "verify",
    "sign",
    "inspect",
    "bundle",
    "weights",
    "threshold",
    "bench",
    "run",
    "station",
    "records",
    "cameras",
    "plc-map",
    "doctor",
)
_MODULES = {"import": "import_", "plc-map": "plc_map"}
"""Verbs that cannot be the name of a module."""

EPILOG = (
    "Exit codes: 0 done, 1 internal error, 2 bad input, 3 bundle refused, 4 parity failed, 5 missing extra, weights or engine, "
    "6 camera or output, 7 storage, 8 no engine within the budget, 130 interrupted."
)
DESCRIPTION = "Trained visual anomaly detectors, verified and running on the box beside the camera."


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in no more than a screen; they are other people's text, too."""

    def error(self, message: str) -> NoReturn:
        super().error(_short(message))


class _Safe(logging.Formatter):
    """Without secrets and control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(hide(super().format(record)))


def build_parser(verbs: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    """The parser with these verbs; each costs the import of its module."""
    parser = _Parser(prog="edgead", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"edgead {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in verbs:
        module = importlib.import_module(f"edgead.cli.{_MODULES.get(verb, verb)}")
        sub = subparsers.add_parser(
            verb, help=module.SUMMARY, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="show the trace of an error and log more")
        sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (see :mod:`edgead.errors`)."""
    _open_streams()
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(argv[:1] if argv and argv[0] in VERBS else VERBS).parse_args(argv)
    level = logging.DEBUG if args.debug else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Safe("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no fault
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code: int = args.run(args)
    except EdgeadError as error:
        _trace(args)
        _complain(told(args.verb, str(error), error.hint))
        return error.exit_code
    except KeyboardInterrupt:
        _complain(f"edgead {args.verb}: interrupted")
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:  # a file or folder that nobody looked at before: the message of the system is the best there is
        _trace(args)
        where = f"{error.filename}: " if error.filename else ""
        _complain(told(args.verb, f"{where}{error.strerror or error}", "check the path, its permissions and the disk"))
        return StorageError.exit_code
    except Exception as error:  # noqa: BLE001 - the last line of defence: never a bare trace for the user
        _trace(args)
        _complain(told(args.verb, f"internal error: {error!r}", "please report it; --debug shows the trace"))
        return 1
    return code


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


def told(verb: str, message: str, hint: str) -> str:
    """What is wrong and how to fix it, for a terminal: no secrets, no control characters, at most a screen."""
    lines = (f"edgead {verb}: {_short(message)}", f"  -> {_short(hint)}" if hint else "")
    return "\n".join(line for line in lines if line)


def _short(text: str) -> str:
    from edgead.runtime.redact import redact_text

    return short(plain(redact_text(hide(text))))


def _trace(args: argparse.Namespace) -> None:
    if args.debug:
        _complain(plain(hide(traceback.format_exc())).rstrip("\n"))


if __name__ == "__main__":
    sys.exit(main())
