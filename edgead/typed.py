"""JSON read strictly, and every value checked against the annotation of where it goes.

Strict: UTF-8, no key twice (of two, Python would take the last one in silence), no NaN or Infinity, bounded in bytes, values and
depth before anything is made of it. Typed: dataclasses, TypedDicts and what they are made of, by their annotations; numbers are
finite and, where ``Annotated[float, Between(0, 1)]`` says so, in a range. What is wrong is told by its place, what was found and
what belongs there. :func:`plain` is the way back.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from edgead.errors import EdgeadError

MAX_BYTES = 4 << 20
MAX_VALUES = 400_000
"""Commas, colons and brackets of a file: a list that is short on disk is long in memory."""
MAX_DEPTH = 40
MAX_ITEMS = 50_000
"""Of one list: a model's card names each good picture that its threshold comes from."""
MAX_TEXT = 20_000
"""Characters of one text."""
MAX_WHOLE = 2**63
FLOAT32_MAX = 3.4028234663852886e38
_SHOWN = 60


class Wrong(ValueError):
    """A value that does not belong where it stands: ``str(error)`` is one line, ``file.key[0] is 5, expected a text``."""


@dataclass(frozen=True, slots=True)
class Between:
    """For ``Annotated``: a number from `low` to `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Lenient:
    """For ``Annotated``: a dataclass whose unknown keys are no mistake (they are of a newer edgead)."""


@dataclass(frozen=True, slots=True)
class Rest:
    """For ``Annotated``: the field of a dataclass that keeps, and writes back, what its other fields do not name: keys of other
    tools and of a newer edgead. What is None by default is not written by such a dataclass where it is None, and one that says
    nothing at all is written as {}."""


@dataclass(frozen=True, slots=True)
class Always:
    """For ``Annotated``: a field that is written also where it is None."""


@dataclass(frozen=True, slots=True)
class Verbatim:
    """For ``Annotated``: any text, such as the name of a file, which may hold whatever it likes."""


@dataclass(frozen=True, slots=True)
class As:
    """For ``Annotated``: read as this narrower type (a TypedDict, a Literal), which the code that uses it need not know."""

    kind: Any


Share = Annotated[float, Between(0.0, 1.0)]
Count = Annotated[int, Between(0, 2**31 - 1)]
Single = Annotated[float, Between(-FLOAT32_MAX, FLOAT32_MAX)]
"""Scores, thresholds and all that is computed in float32."""
NotNegative = Annotated[float, Between(0.0, FLOAT32_MAX)]
FileName = Annotated[str, Verbatim()]
Side = Annotated[int, Between(1, 1 << 16)]
"""Pixels of a picture's or a map's side."""


def loads(data: bytes, max_bytes: int = MAX_BYTES, *, nan_is_none: bool = False) -> Any:
    """Parse JSON.

    Args:
        nan_is_none: NaN and Infinity, which older edgeads wrote where there was nothing to measure, become None.

    Raises:
        Wrong: it is not JSON, or not strict, or too large, too deep or too many values.
    """
    if len(data) > max_bytes:
        raise Wrong(f"it is {len(data):,} bytes long, expected at most {max_bytes:,}")
    if (count := sum(data.count(mark) for mark in (b",", b"[", b"{"))) > MAX_VALUES:
        raise Wrong(f"it holds about {count:,} values, expected at most {MAX_VALUES:,}")
    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=(lambda name: None) if nan_is_none else _no_constant
        )
    except UnicodeDecodeError as error:
        raise Wrong(f"byte {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise Wrong(f"it is nested deeper than {MAX_DEPTH} levels") from error
    except json.JSONDecodeError as error:
        raise Wrong(f"it is not JSON: line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # a number of thousands of digits
        raise error if isinstance(error, Wrong) else Wrong(f"it is not usable JSON: {str(error)[:_SHOWN]}") from error
    _check_plain(found)
    return found


def read(kind: Any, value: Any, place: str = "") -> Any:
    """The value as `kind`: a class, a dataclass, a TypedDict, or an annotation made of them.

    Raises:
        Wrong: something in it is of another type, out of range, missing, unknown, or refused by the dataclass.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1:], value, place)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return read(next(one for one in arguments if one is not type(None)), value, place)
    if origin is Literal:
        if not any(type(value) is type(known) and value == known for known in arguments):
            raise _wrong(place, value, f"one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        return _tuple(arguments, value, place)
    if origin is list:
        return list(_tuple((arguments[0], ...), value, place))
    if origin is dict:
        given = _mapping(value, place, arguments[0] is str)
        return {key: read(arguments[1], one, _at(place, key)) for key, one in given.items()}
    if is_typeddict(kind):
        known = _hints(kind)
        for key in sorted(kind.__required_keys__):
            if key not in _mapping(value, place):
                raise Wrong(f"{_at(place, key)} is missing")
        return {key: read(known.get(key, Any), one, _at(place, key)) for key, one in _mapping(value, place).items()}
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, place, lenient=False)
    return _plain(kind, value, place)


def plain(value: Any) -> Any:
    """What :func:`read` makes the value of again: dicts, lists, texts, numbers, True, False and None."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    rest = _rest(type(value))
    if rest is not None and all(getattr(value, field.name) == _default(field) for field in dataclasses.fields(value)):
        return {}
    written: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        one = getattr(value, field.name)
        if field.name == rest:
            written |= plain(one)
        elif one is not None or rest is None or field.default is not None or _marked(type(value), field.name, Always):
            written[field.name] = plain(one)
    return written


def shown(value: Any) -> str:
    """A value for a message, in one short line."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return f"a number of about {round(math.log10(abs(value)))} digits"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _annotated(kind: Any, notes: tuple[Any, ...], value: Any, place: str) -> Any:
    if any(isinstance(note, Lenient) for note in notes):
        return _dataclass(kind, value, place, lenient=True)
    if any(isinstance(note, Verbatim) for note in notes):
        if not isinstance(value, str):
            raise _wrong(place, value, "a text")
        return value
    found = read(next((note.kind for note in notes if isinstance(note, As)), kind), value, place)
    for note in notes:
        if isinstance(note, Between) and found is not None and not note.low <= found <= note.high:
            raise _wrong(place, value, f"a number from {note.low:g} to {note.high:g}")
    return found


def _tuple(kinds: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(place, value, "a list")
    if kinds[-1] is ...:
        if len(value) > MAX_ITEMS:
            raise _wrong(place, value, f"at most {MAX_ITEMS:,}")
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _wrong(place, value, f"a list of {len(kinds)}")
    return tuple(read(kind, one, f"{place}[{i}]") for i, (kind, one) in enumerate(zip(kinds, value, strict=True)))


def _dataclass(kind: Any, value: Any, place: str, *, lenient: bool) -> Any:
    given, hints, rest = _mapping(value, place), _hints(kind), _rest(kind)
    unknown = {key: one for key, one in given.items() if key not in hints or key == rest}
    if unknown and rest is None and not lenient:
        raise Wrong(f"{_at(place, next(iter(unknown)))} is an unknown key")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name == rest:
            values[rest] = unknown
        elif field.name in given:
            values[field.name] = read(hints[field.name], given[field.name], _at(place, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Wrong(f"{_at(place, field.name)} is missing")
    try:
        return kind(**values)
    except EdgeadError as error:
        raise Wrong(f"{place}: {error}" if place else str(error)) from error


@lru_cache
def _rest(kind: Any) -> str | None:
    """The field of a dataclass that keeps what it does not name."""
    return next((name for name in _hints(kind) if _marked(kind, name, Rest)), None)


def _default(field: dataclasses.Field[Any]) -> Any:
    """MISSING where there is none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _marked(kind: Any, name: str, mark: type) -> bool:
    return any(isinstance(note, mark) for note in getattr(_hints(kind)[name], "__metadata__", ()))


def _plain(kind: Any, value: Any, place: str) -> Any:
    if kind is Any:
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise _wrong(place, value, "true or false")
        return value
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float if kind is float else int):
            raise _wrong(place, value, "a number" if kind is float else "a whole number")
        if kind is int and abs(value) >= MAX_WHOLE:
            raise _wrong(place, value, "a number of less than 20 digits")
        return kind(value)
    if kind is str:
        if not isinstance(value, str):
            raise _wrong(place, value, "a text")
        if len(value) > MAX_TEXT or _control(value):
            raise _wrong(place, value, f"a text of at most {MAX_TEXT:,} characters without control characters")
        return value
    raise TypeError(f"no reader for {kind!r}")


def _mapping(value: Any, place: str, checked: bool = True) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    if checked and (bad := next((key for key in value if len(key) > MAX_TEXT or _control(key)), None)):
        raise Wrong(f"{_at(place, bad)} is a key with control characters, or too long")
    return value


def _control(text: str) -> bool:
    return any(ord(mark) < 32 or ord(mark) == 127 for mark in text)


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Wrong(f"the key {shown(twice)} is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise Wrong(f"it holds {name}, expected finite numbers")


def _check_plain(value: Any) -> None:
    """No value too deep, no number that is not finite (1e999), no text that cannot be written again (lone surrogates)."""
    waiting = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise Wrong(f"it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(one, dict):
            waiting += [(inside, depth + 1) for inside in (*one, *one.values())]
        elif isinstance(one, list):
            waiting += [(inside, depth + 1) for inside in one]
        elif isinstance(one, float) and not math.isfinite(one):
            raise Wrong("it holds a number that is not finite")
        elif isinstance(one, int) and abs(one) >= MAX_WHOLE:
            raise Wrong(f"it holds {shown(one)}, expected less than 20 digits")
        elif isinstance(one, str) and not one.isascii():
            try:
                one.encode()
            except UnicodeEncodeError as error:
                raise Wrong(f"it holds the text {shown(one)}, which is no Unicode") from error


def _wrong(place: str, found: Any, expected: str) -> Wrong:
    return Wrong(f"{place or 'it'} is {shown(found)}, expected {expected}")


def _at(place: str, key: str) -> str:
    short = key if len(key) <= _SHOWN and key.isprintable() else shown(key)
    return f"{place}.{short}" if place else short
