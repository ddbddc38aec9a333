"""Settings: frozen dataclasses that are written once, beside what they set, and that a station.yaml is validated into.

A class of settings is a :class:`Section`: its fields with their limits and defaults, a docstring under each that wants one. It is
cheap to import and to make (no pydantic); whoever reads a file checks it there by pydantic, which these classes tell how.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class ToySettings(LinkSettings):
        type: Literal["toy"] = "toy"
        host: str
        port: Port = 4711
        '''Of the toy's server.'''
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from edgead.errors import BadInput, EdgeadError

if TYPE_CHECKING:
    from edgead.claims import Claim
    from edgead.located import Place


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a number (from, to, above), or of a text (a pattern that all of it must match, its longest)."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    pattern: str | None = None
    longest: int | None = None

    def check(self, name: str, value: Any) -> None:
        """Raises BadInput: the number is none, or beyond its limits."""
        low, high = self.least is None or value >= self.least, self.most is None or value <= self.most
        if not (low and high and (self.above is None or value > self.above)):
            ends = {"above": self.above, "from": self.least, "to": self.most}
            told = " ".join(f"{word} {end:g}" for word, end in ends.items() if end is not None)
            raise BadInput(f"{name} is {value}, which cannot be", hint=f"give a number {told}")

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic import Field

        limits = {"ge": self.least, "le": self.most, "gt": self.above, "pattern": self.pattern, "max_length": self.longest}
        given: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
        if source is float:
            given["allow_inf_nan"] = False
        return handler.generate_schema(Annotated[source, Field(**given)])


# Upper ends are far beyond what anybody means, and below what clocks, threads and databases can count.
Positive = Annotated[float, Limits(above=0, most=1e9)]
NotNegative = Annotated[float, Limits(least=0, most=1e9)]
Days = Annotated[float, Limits(above=0, most=36_500)]
Count = Annotated[int, Limits(least=1, most=1_000_000_000)]
Few = Annotated[int, Limits(least=1, most=100_000)]
"""What is kept in memory, each."""
Line = Annotated[int, Limits(least=0, most=65535)]
Score = Annotated[float, Limits(least=-3e38, most=3e38)]
"""Raw model units, which are float32."""
Sha256 = Annotated[str, Limits(pattern=r"^[0-9a-fA-F]{64}$")]
Name = Annotated[str, Limits(pattern=r"^[A-Za-z0-9_-]+$", longest=100)]
Port = Annotated[int, Limits(least=1, most=65535)]


class Section:
    """Base of all settings. Unknown keys of a file are errors: a misspelt limit would be no limit.

    ``__post_init__`` checks what belongs together, and raises BadInput or ValueError.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    @classmethod
    def kinds(cls) -> dict[str, str]:
        """The annotation of each field, as text."""
        return {field.name: str(field.type) for field in fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def meant(cls, given: Any) -> Any:
        """What stands in a file, as it was meant: a `yes` is no number (it would be a threshold of 1), and a pin that was left
        empty is not the wish to have none.

        Raises:
            ValueError: what it says cannot have been meant.
        """
        kinds = cls.kinds()
        for name, value in given.items() if isinstance(given, dict) else ():
            if isinstance(value, bool) and name in kinds and "bool" not in kinds[name]:
                raise ValueError(f"{name} is {str(value).lower()}, which is no value for it")
            if (value is None and name in ("sha256", "fallback_sha256")) or (value == [] and name == "trusted"):
                raise ValueError(f"{name} is empty: write it, or leave the key away")
        return given

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def read(given: Any, validate: Callable[[Any], Any]) -> Any:
            try:
                return validate(cls.meant(given))
            except BadInput as error:  # with its place in the file
                raise ValueError(f"{error} ({error.hint})" if error.hint else str(error)) from error

        return core_schema.no_info_wrap_validator_function(read, handler(source))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        return cls.described(handler(schema), handler)

    @classmethod
    def described(cls, found: Any, handler: Any) -> Any:
        """This section's JSON schema, with what stands under each field, and the key that it is chosen by as one that must be
        there."""
        told = handler.resolve_ref_schema(found)
        for name, text in docs_of(cls).items():
            told["properties"][name]["description"] = text
        chosen = [name for name, one in told.get("properties", {}).items() if "const" in one]
        if required := [*chosen, *(name for name in told.get("required", ()) if name not in chosen)]:
            told["required"] = required
        return found


class DeviceSettings(Section):
    """Of a PLC or an output; its field `type` is its name in the registry, the only value that it can have."""

    __slots__ = ()
    type: str

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        """What nobody else on the line may use (:mod:`edgead.claims`).

        Args:
            owner: the camera or part.
            place: of these settings in the file.
        """
        yield from ()


class Chosen:
    """Of several sections the one that a key names: ``{type: modbus-client, ...}``.

    Its class is looked for only when the key names it, so that nothing is imported for what a file does not have.

    Args:
        key: that names it.
        names: all that there are.
        find: the class behind a name; None: there is none. It may raise EdgeadError: what is behind it cannot be used.
    """

    def __init__(self, key: str, names: Callable[[], list[str]], find: Callable[[str], type[Section] | None]) -> None:
        self._key, self._names, self._find = key, names, find

    @classmethod
    def of(cls, key: str, sections: Mapping[str, type[Section]]) -> Chosen:
        """Of these."""
        return cls(key, lambda: list(sections), sections.get)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        told = [cls.described(handler(validator_of(cls).core_schema), handler) for cls in self.sections()]
        return {"oneOf": told, "discriminator": {"propertyName": self._key}}

    def sections(self) -> list[type[Section]]:
        """All of them."""
        found: list[type[Section]] = []
        for name in self._names():
            with suppress(EdgeadError):  # of another package, which has to be mended: the others are there all the same
                found += [one] if (one := self._find(name)) is not None else []
        return found

    def _read(self, given: Any) -> Any:
        from pydantic_core import PydanticKnownError

        if not isinstance(given, dict):
            raise PydanticKnownError("dict_type")
        name = given.get(self._key)
        if name is None:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": f"'{self._key}'"})
        found = self._find(name) if isinstance(name, str) else None
        if found is None:
            told = ", ".join(f"'{one}'" for one in self._names())
            raise PydanticKnownError(
                "union_tag_invalid", {"discriminator": f"'{self._key}'", "tag": str(name), "expected_tags": told}
            )
        return validator_of(found).validate_python(given)


def check(section: Section) -> None:
    """Every number that is given is within its limits, also when no file was read. Raises BadInput."""
    for name, limits in _limits_of(type(section)).items():
        if isinstance(value := getattr(section, name), (int, float)):
            limits.check(name, value)


def sections_of(cls: type[Section], key: str) -> Iterator[tuple[str, type[Section]]]:
    """A section that stands under this key, and all that may stand in it, each with its own."""
    yield key, cls
    for name, hint in get_type_hints(cls, include_extras=True).items():
        for inner in _within(hint):
            yield from sections_of(inner, name)


def _within(hint: Any) -> Iterator[type[Section]]:
    marks = getattr(hint, "__metadata__", ())
    if chosen := [mark for mark in marks if isinstance(mark, Chosen)]:
        yield from chosen[0].sections()
    elif isinstance(hint, type) and issubclass(hint, Section):
        yield hint
    else:
        for inner in get_args(hint):
            yield from _within(inner)


def chosen_by(cls: type[Section]) -> str:
    """What a section is chosen by: "type: modbus-client"; "" for one that is not."""
    for name, hint in get_type_hints(cls).items():
        if get_origin(hint) is Literal and len(get_args(hint)) == 1:
            return f"{name}: {get_args(hint)[0]}"
    return ""


def docs_of(cls: type) -> dict[str, str]:
    """The docstring under each field that has one, with those of base classes."""
    if cls not in _DOCS:
        found: dict[str, str] = {}
        for base in reversed(cls.__mro__[:-1]):
            if base.__module__ != __name__:
                found.update(_docs(base))
        _DOCS[cls] = found
    return _DOCS[cls]


def _docs(cls: type) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            text = after.value.value if isinstance(after.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = inspect.cleandoc(text)
    return found


def _limits_of(cls: type[Section]) -> dict[str, Limits]:
    if cls not in _LIMITS:
        hints = get_type_hints(cls, include_extras=True)
        nested = {name: (hint, *get_args(hint)) for name, hint in hints.items()}
        found = {name: [m for one in ways for m in getattr(one, "__metadata__", ())] for name, ways in nested.items()}
        _LIMITS[cls] = {name: limits[0] for name, limits in found.items() if limits and isinstance(limits[0], Limits)}
    return _LIMITS[cls]


def validator_of(cls: type[Section]) -> Any:
    """pydantic's TypeAdapter of a section."""
    if cls not in _VALIDATORS:
        from pydantic import TypeAdapter

        _VALIDATORS[cls] = TypeAdapter(cls)
    return _VALIDATORS[cls]


_DOCS: dict[type, dict[str, str]] = {}
_LIMITS: dict[type[Section], dict[str, Limits]] = {}
_VALIDATORS: dict[type[Section], Any] = {}
