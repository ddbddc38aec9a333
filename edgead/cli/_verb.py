"""What every verb of the command line is made of: options in groups, help that is laid out as written, and complaints that start
with what is wrong.

How a verb is written
    from edgead.cli._options import JSON, THREADS, refuse       # words that several verbs have: only from there
    from edgead.cli._types import NUMBER, PATH, whole
    from edgead.cli._verb import argument, option, verb

    @verb(__doc__)
    @argument("bundle", type=PATH, metavar="BUNDLE", help="NAME.edgead folder")
    @option("--cost-ratio", type=NUMBER, metavar="X", group="what is wished", help="a miss costs so many false rejects")
    @option("--good", type=PATH, multiple=True, metavar="DIR", help="folder of good pictures; may be given again")
    @THREADS
    @JSON
    def command(bundle: Path, cost_ratio: float | None, good: tuple[Path, ...], threads: int | None, as_json: bool) -> int:
        '''Returns the exit code.'''

1. A file of the verb's name in cli/, and a line in `main.VERBS` with its summary. The file's docstring is the description that
   --help shows, line by line. At import it loads nothing but errors and words: what it needs is imported inside the functions.
2. `command` checks what belongs together, calls a job (edgead/jobs, edgead/line) with plain values or a frozen dataclass, prints
   what came back, returns the exit code. No context and no bag of arguments leaves this package.
3. Values: PATH says nothing itself (the verb's own check tells what is not there); WHOLE, NUMBER, whole(1), number(0) refuse NaN,
   infinity and what is out of range; `Parsed(function)` takes a function from text that raises BadInput or ValueError. Negative
   numbers are values. Refused for all verbs here: an option given twice with two values, an empty one (`--engine=`), one without
   its value (`--engine --json`).
4. An option that does not apply to what was given is refused by name: `refuse("overlap", "coarse", why=..., hint=...)` asks
   whether it stands on the command line, also where it has a default.
5. --json prints one object and nothing else by `edgead.cli._json.print_json(VERB, result)`: a frozen dataclass, after
   "schema": "edgead.VERB/1". After a line in `_schemas.RESULTS`, `python -m edgead.cli._schemas > docs/json.md` describes its
   fields by their annotations and the docstring's "Attributes:".
6. Actions of a verb (weights list, fetch, verify): `command = actions(__doc__, list=..., fetch=...)`, each made by @verb.
"""

from __future__ import annotations

import logging
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import click

from edgead.cli._types import Wrong
from edgead.words import hide, plain

_DEBUG, _PARAMETERS = "edgead.debug", "edgead_parameters"
_OPTION = re.compile(r"--?[A-Za-z]")
"""What looks like an option where a value should be; negative numbers do not."""

_WIDE = 124
"""A line of a description that would be longer with the next one's first word goes on in that one."""

_LONGEST = 60
"""Characters of an option with its choices, beside which there is room for its help."""

Function = Callable[..., int]


class Option(click.Option):
    """An option that stands in the help under the title of its group."""

    def __init__(self, *args: Any, group: str = "", **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.group = group
        self.alone = attrs.get("flag_value") is not None
        """It may stand without a value."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Of many choices the help tells the names, which it can wrap."""
        record = super().get_help_record(ctx)
        if record is None or not isinstance(self.type, click.Choice) or len(record[0]) <= _LONGEST:
            return record
        names = [str(one) for one in self.type.choices]
        return record[0].replace(f"[{'|'.join(names)}]", "NAME"), f"{record[1]}; one of {', '.join(names)}"


class Argument(click.Argument):
    """An argument with a line of help."""

    def __init__(self, *args: Any, help: str = "", **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.told = help


class _Safe(logging.Formatter):
    """Without secrets and control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(hide(super().format(record)))


class _Laid:
    """Help as the verbs write it: the description line by line, arguments and options with a title each."""

    help: str | None
    params: list[click.Parameter]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            if not ctx.resilient_parsing:
                check_values(self.params, args)
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click's parser does not tell
            raise
        return rest

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.help:
            formatter.write(f"\n{fitted(self.help.rstrip(), formatter.width)}\n")

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.help = "show this help"
        return option  # type: ignore[no-any-return]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        titled: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):  # type: ignore[attr-defined]
            if isinstance(param, Argument):
                titled.setdefault("arguments", []).append((_name(param), param.told))
            elif record := param.get_help_record(ctx):
                titled.setdefault(getattr(param, "group", "") or "options", []).append(record)
        for title, rows in titled.items():
            with formatter.section(textwrap.fill(title, formatter.width - 1)):
                formatter.write_dl(rows)


def fitted(text: str, width: int) -> str:
    """A description for a terminal of so many columns. Prose that was wrapped for a wide one is wrapped anew; of an example
    (indented: the command, spaces, what it does) that is too long, what it does goes onto a line of its own."""
    lines: list[str] = []
    before = ""
    for line in text.splitlines():
        prose = line and before and not line.startswith(" ") and not before.startswith(" ")
        if prose and len(f"{before} {line.split()[0]}") > _WIDE:
            lines[-1] += f" {line}"
        else:
            lines.append(line)
        before = line
    return "\n".join(_fitted(line, width) for line in lines)


def _fitted(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    body = line.lstrip()
    indent = " " * (len(line) - len(body))
    command, gap, does = body.partition("   ")
    if not indent or not gap:
        return textwrap.fill(body, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    deeper = f"{indent}    "
    return f"{indent}{command}\n{textwrap.fill(does.strip(), width, initial_indent=deeper, subsequent_indent=deeper)}"


class Verb(_Laid, click.Command):
    """A verb, or one of its actions."""

    def invoke(self, ctx: click.Context) -> int:
        start_logging(ctx)
        code: int = super().invoke(ctx)
        return code


class Actions(_Laid, click.Group):
    """A verb with several actions."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(name=None, callback=self._one, invoke_without_command=True, **attrs)

    def _one(self) -> None:
        """Raises Wrong: none was named."""
        ctx = click.get_current_context()
        if ctx.invoked_subcommand is None:
            raise Wrong(f"{'an action' if ctx.parent else 'a verb'} is missing", f"one of: {', '.join(self.names())}", ctx)

    def names(self) -> dict[str, str]:
        """Name and summary of each; making the list loads none of them."""
        return {name: command.short_help or "" for name, command in self.commands.items()}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("actions" if ctx.parent else "verbs"):
            formatter.write_dl(list(self.names().items()))
        super().format_options(ctx, formatter)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.names() and not ctx.resilient_parsing and not args[0].startswith("-"):
            from difflib import get_close_matches

            what = "action" if ctx.parent else "verb"
            near = " or ".join(get_close_matches(args[0].lower(), self.names()))
            listed = f"{ctx.command_path} --help lists them"
            raise Wrong(f"there is no {what} {args[0]}", f"did you mean {near}? {listed}" if near else listed, ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=told) for name, told in self.names().items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def set_debug(ctx: click.Context, value: bool) -> None:
    """--debug of a verb, or of one of its actions."""
    ctx.meta[_DEBUG] = value or debugging_of(ctx)


def _debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    set_debug(ctx, value)


def debug_option() -> Option:
    """--debug, which every verb has."""
    told = "show the trace of an error and log more"
    return Option(["--debug"], is_flag=True, expose_value=False, callback=_debug, help=told)


def verb(description: str | None, summary: str = "") -> Callable[[Function], Verb]:
    """Make a verb of a function that takes its arguments and options and returns the exit code.

    Args:
        description: as --help shows it, line by line.
        summary: a line in the list of actions, where it is one.
    """

    def made(function: Function) -> Verb:
        params = [*reversed(parameters_of(function)), debug_option()]
        return Verb(name=None, callback=function, params=params, help=description, short_help=summary)

    return made


def actions(description: str | None, **commands: click.Command) -> Actions:
    """A verb of several actions, by their names."""
    made = Actions(help=description, params=[debug_option()], options_metavar="", subcommand_metavar="ACTION ...")
    for name, command in commands.items():
        command.name = name
        made.add_command(command)
    return made


def option(*names: str, **attrs: Any) -> Callable[[Function], Function]:
    """An option: click.Option's arguments, and `group`, the title that it stands under in the help."""
    return _noted(lambda: Option(names, **attrs))


def argument(name: str, **attrs: Any) -> Callable[[Function], Function]:
    """An argument: click.Argument's arguments, and `help`."""
    return _noted(lambda: Argument([name], **attrs))


def parameters_of(function: Function) -> list[click.Parameter]:
    """The parameters that decorators have noted so far, the lowest one first."""
    found: list[click.Parameter] = vars(function).get(_PARAMETERS, [])
    return found


def _noted(make: Callable[[], click.Parameter]) -> Callable[[Function], Function]:
    """A decorator that notes a parameter for @verb, which stands above it."""

    def noted(function: Function) -> Function:
        vars(function).setdefault(_PARAMETERS, []).append(make())
        return function

    return noted


def debugging_of(ctx: click.Context) -> bool:
    """Was --debug given, after the verb or its action?"""
    return bool(ctx.meta.get(_DEBUG, False))


def debugging() -> bool:
    """Was --debug given?"""
    return debugging_of(click.get_current_context())


def start_logging(ctx: click.Context) -> None:
    """What libraries complain of goes to standard error; with --debug, much more of it."""
    logging.basicConfig(level=logging.DEBUG if debugging_of(ctx) else logging.WARNING, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Safe("%(asctime)s %(levelname)s %(name)s: %(message)s"))


def check_values(params: list[click.Parameter], args: list[str]) -> None:
    """Raises Wrong: an option without its value, with an empty one, or given twice with two values."""
    seen: dict[str, str] = {}
    for param, name, value in _valued(params, args):
        if value == "":
            raise Wrong(f"{name} is empty", "give a value, or leave it out")
        if param.multiple or param.name is None:
            continue
        if seen.setdefault(param.name, value) != value:
            raise Wrong(f"{name} is given twice, as {seen[param.name]} and as {value}", "give it once")


def _valued(params: list[click.Parameter], args: list[str]) -> Iterator[tuple[click.Option, str, str]]:
    """Each option that takes a value, as it is written, and its value. Raises Wrong: another option follows instead of one."""
    known = {name: param for param in params if isinstance(param, click.Option) for name in (*param.opts, *param.secondary_opts)}
    rest = iter(args)
    for token in rest:
        if token == "--":
            return
        name, equals, value = token.partition("=") if token.startswith("--") else (token, "", "")
        param = known.get(name)
        if param is None or param.is_flag:
            continue
        if not equals:
            following = next(rest, None)
            if following is None:
                return  # click complains
            if following in known or _OPTION.match(following):
                if getattr(param, "alone", False):
                    rest = chain([following], rest)
                    continue
                long = max(param.opts, key=len)
                raise Wrong(f"{name} needs a value, and {following} follows", f"write {long}={following} if that is the value")
            value = following
        yield param, name, value


def complaint(error: click.UsageError) -> tuple[str, str]:
    """What is wrong with the arguments, and how to fix it."""
    hint = f"{error.ctx.command_path if error.ctx else 'edgead'} --help"
    if isinstance(error, click.NoSuchOption):
        near = " or ".join(error.possibilities or ())
        return f"there is no option {error.option_name}", f"did you mean {near}? {hint}" if near else hint
    if isinstance(error, click.MissingParameter) and error.param is not None:
        told = getattr(error.param, "told", "") or getattr(error.param, "help", "") or ""
        return f"{_name(error.param)} is missing", told or hint
    if isinstance(error, click.BadParameter):
        named = f"{_name(error.param)}: " if error.param is not None else ""
        return f"{named}{error.message.rstrip('.')}", getattr(error, "hint", "") or hint
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:], hint


def _name(param: click.Parameter) -> str:
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.metavar or (param.name or "").upper()
