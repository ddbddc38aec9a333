"""Options that several verbs have: the same word means the same thing on all of them."""

from __future__ import annotations

import click
from click.core import ParameterSource

from edgead.cli._types import PATH, SEED, whole
from edgead.cli._verb import option
from edgead.errors import BadInput

MOST_THREADS = 1024
JSON = option("--json", "as_json", is_flag=True, help="print the result as JSON and nothing else (edgead docs json)")
THREADS = option(
    "--threads", type=whole(1, MOST_THREADS), metavar="N", help="CPU threads of one inference (default: the engine's choice)"
)
ENGINE = option("--engine", metavar="NAME", help="one engine of the bundle (default: all that open here)")
TRUSTED = option(
    "--trusted",
    type=PATH,
    multiple=True,
    metavar="KEY.pub",
    help="take the bundle only when this key signed it (edgead sign); may be given again",
)
SEED_OF = option("--seed", type=SEED, default=0, metavar="N", help="of everything that is random (default 0)")


def given(*names: str) -> list[str]:
    """Those of these parameters that stand on the command line, as they are written there (`--min-area`), in this order."""
    ctx = click.get_current_context()
    flags = {param.name: max(param.opts, key=len) for param in ctx.command.params}
    return [flags[name] for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]


def refuse(*names: str, why: str, hint: str) -> None:
    """Refuse each of these options that stands on the command line: it does not apply to what else was given.

    Args:
        names: parameters of the verb, such as ``min_area``.
        why: what follows the options' names in the message: "for INT8 only, and --precision is fp32".

    Raises:
        BadInput: one does.
    """
    if found := given(*names):
        raise BadInput(f"{', '.join(found)}: {why}", hint=hint)
