"""A family's options: a frozen dataclass whose fields say all that is known of them.

It is their command line (edgead/cli/_family.py), what model.json keeps of a training and a retraining reads back, the table in
the docs, and what is refused. Nothing lists them again, and nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgead.errors import BadInput
from edgead.typed import shown


@dataclass(frozen=True, slots=True)
class Told:
    """What a field says beside its type and default.

    Attributes:
        help: one line, without the default and without what `usual` says.
        metavar: stands for its value in help.
        usual: the default in words; "" shows the value.
        least, most, above: range of a number: from, to, above.
        choices: all usable texts.
        check: whether a value is usable, beyond range and choices.
        wrong: what is said of one that is not, with ``{}`` for it.
        hint: how to mend that.
        parse: the text of the command line -> value; raises ValueError with the whole message. None: by the type.
        folder: a path is one of a folder, not of a file.
        rare: hardly anybody needs it.
    """

    help: str
    metavar: str = ""
    usual: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], bool] | None = None
    wrong: str = ""
    hint: str = ""
    parse: Callable[[str], Any] | None = None
    folder: bool = False
    rare: bool = False

    def usable(self, value: Any) -> bool:
        """Whether a value of the right type is in range."""
        if value is None:
            return True
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
            if not (math.isfinite(value) and low and (self.most is None or value <= self.most)):
                return False
        return (not self.choices or value in self.choices) and (self.check is None or self.check(value))

    def range(self) -> str:
        """What is usable, in words; "" when there is no bound."""
        if self.choices:
            return " or ".join(self.choices)
        if self.least is not None:
            return f"{self.least:g} or more" if self.most is None else f"{self.least:g} to {self.most:g}"
        low = [] if self.above is None else [f"above {self.above:g}"]
        return ", ".join([*low, *([] if self.most is None else [f"up to {self.most:g}"])])


def option(default: Any, help: str, **told: Any) -> Any:
    """A field of an options class: its default, its help and more of :class:`Told`."""
    return dataclasses.field(default=default, metadata={"told": Told(help, **told)})


@dataclass(frozen=True, slots=True)
class Known:
    """A field of an options class.

    Attributes:
        name: in Python and in model.json.
        kinds: types that a value may have, without None.
        default: value.
        told: see :class:`Told`.
    """

    name: str
    kinds: tuple[Any, ...]
    default: Any
    told: Told

    @property
    def flag(self) -> str:
        """On the command line."""
        return f"--{self.name.replace('_', '-')}"

    def read(self, value: Any, place: str) -> Any:
        """A value, perhaps as JSON keeps it, as the field takes it. Raises BadInput for one of another type."""
        if value is None and self.default is None:
            return None
        for kind in self.kinds:
            if kind is bool and isinstance(value, bool):
                return value
            if kind is int and isinstance(value, int) and not isinstance(value, bool):
                return value
            if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
                return value if int in self.kinds else float(value)
            if kind is str and isinstance(value, str):
                return value
            if kind is Path and isinstance(value, (str, Path)) and value != "":
                return Path(value)
            if get_origin(kind) is tuple and isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
                return tuple(value)
        kinds = " or ".join(_IN_WORDS.get(kind, "a list of texts") for kind in self.kinds)
        raise BadInput(f"{place} is {_shown(value)}, expected {kinds}", hint=self.told.help)

    def parse(self, text: str) -> Any:
        """A value from the text of the command line. Raises BadInput, which names the option."""
        make = self.told.parse or next((make for kind, make in _FROM_TEXT.items() if kind in self.kinds), None)
        try:
            return tuple(text.split(",")) if make is None else make(text)
        except ValueError as error:
            what = str(error) if self.told.parse else f"{text[:80]!r} is not {_IN_WORDS[self.kinds[0]]}"
            raise BadInput(f"{self.flag}: {what}", hint=self.told.help) from None

    def refuse_unusable(self, value: Any) -> None:
        """Raises BadInput."""
        if self.told.usable(value):
            return
        wrong = self.told.wrong or f"{self.name.replace('_', ' ')} {{}} is not usable"
        told = f"{value:g}" if isinstance(value, float) else str(value)
        raise BadInput(wrong.format(told), hint=self.told.hint or f"give {self.flag} {self.told.range()}")


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):  # int() takes more: 1_000, other scripts' digits
        raise ValueError
    return int(text)


_FROM_TEXT: Mapping[type, Callable[[str], Any]] = {int: _whole, float: float, Path: Path, str: str}
EVERY_TRAININGS = frozenset(
    {"heldout", "seed", "crossfit", "leave_out", "tiling", "method", "preset", "defects", "rest", "device"}
)
"""What model.json tells of every training beside the options of its family: the fields of :class:`edgead.manifest.Arguments`,
which is not imported for the sake of a help text, and the device."""

_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


class Options:
    """What a family's options class is made from: ``@dataclass(frozen=True, slots=True)``, every field an :func:`option`.

    Making one refuses values that are not usable with BadInput. `seed`, `device` and size are no options: they are in
    :class:`edgead.families.contract.FitData`.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        for one in self.known():
            value = one.read(getattr(self, one.name), one.name)
            object.__setattr__(self, one.name, value)
            one.refuse_unusable(value)

    @classmethod
    def known(cls) -> tuple[Known, ...]:
        """All options, in order."""
        return _known(cls)  # type: ignore[arg-type]

    @classmethod
    def of(cls, family: str, values: Mapping[str, Any]) -> Any:
        """With these values, perhaps as JSON keeps them; the others keep their default.

        Raises:
            BadInput: an option that the family does not have, or a value that is not usable.
        """
        known = {one.name: one for one in cls.known()}
        if unknown := [name for name in values if name not in known]:
            raise BadInput(f"{family} has no option {', '.join(unknown)}", hint=f"its options: {', '.join(sorted(known))}")
        return cls(**values)

    @classmethod
    def from_json(cls, family: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Values that :func:`to_json` gave (errors as :meth:`of`, by their place in model.json)."""
        known = {one.name: one for one in cls.known()}
        found = {n: known[n].read(v, f"model.json: origin.arguments.{n}") if n in known else v for n, v in arguments.items()}
        cls.of(family, found)
        return found

    @classmethod
    def refuse_absent(cls, values: Mapping[str, Any]) -> None:
        """Raises BadInput: a file or folder that an option names is not there."""
        for one in cls.known():
            path = values.get(one.name)
            if isinstance(path, Path) and not (path.is_dir() if one.told.folder else path.is_file()):
                kind = "folder" if one.told.folder else "file"
                what = f"is not a {kind}" if path.exists() else "does not exist"
                raise BadInput(f"{one.flag} {path} {what}", hint=f"give a {kind}, or leave {one.flag} out")

    @classmethod
    def table(cls) -> str:
        """All options as a table for the docs."""
        rows = ["| option | default | |", "|---|---|---|"]
        for one in cls.known():
            usual = one.told.usual or ("none" if one.default is None else str(one.default))
            span = one.told.range() and f" ({one.told.range()})"
            cells = (f"`{f'{one.flag} {one.told.metavar}'.strip()}`", usual, one.told.help + span)
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        return "\n".join(rows)


def to_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of options as model.json keeps them."""
    return {
        name: os.fspath(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


@lru_cache
def _known(cls: Any) -> tuple[Known, ...]:
    hints, found = get_type_hints(cls), []
    if own := sorted(EVERY_TRAININGS & {one.name for one in dataclasses.fields(cls)}):
        raise BadInput(f"{cls.__name__} has an option {own[0]}, which every training has", hint="mend the package that brings it")
    for one in dataclasses.fields(cls):
        kind = hints[one.name]
        kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
        found.append(Known(one.name, tuple(k for k in kinds if k is not type(None)), one.default, one.metadata["told"]))
    return tuple(found)


def _shown(value: Any) -> str:
    return f"the path {value}" if isinstance(value, Path) else shown(list(value) if isinstance(value, tuple) else value)
