"""Until every verb is a click command: one that still has ``add_arguments`` and ``run``, with all arguments left to argparse."""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import NoReturn

import click

from edgead.cli._verb import set_debug, start_logging


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as click does."""

    def error(self, message: str) -> NoReturn:
        raise click.UsageError(message, click.get_current_context())


class Bridge(click.Command):
    """Such a verb."""

    def __init__(self, name: str, module: ModuleType) -> None:
        super().__init__(name)
        self._module = module

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> int:
        form = argparse.RawDescriptionHelpFormatter
        parser = _Parser(prog=ctx.command_path, description=self._module.__doc__, formatter_class=form)
        self._module.add_arguments(parser)
        parser.add_argument("--debug", action="store_true", help="show the trace of an error and log more")
        try:
            args = parser.parse_args(ctx.args)
        except SystemExit as stop:  # --help
            ctx.exit(int(stop.code or 0))
        args.verb = self.name
        set_debug(ctx, args.debug)
        start_logging(ctx)
        code: int = self._module.run(args)
        return code
