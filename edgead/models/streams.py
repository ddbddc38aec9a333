"""Reading other people's pickle streams as data, without Python's unpickler: no name in them is ever imported or called.

A small interpreter for the opcodes that plain containers, tensors and simple objects need. A name in the stream becomes a
:class:`Name`; calling it makes a value only when its builder is in the caller's table, or a :class:`Record` (name, arguments,
state: mere data) when the caller lists its class; everything else is refused by name. Nothing is allocated that is not in the
file.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgead.errors import BadInput

Builder = Callable[..., Any]

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset({
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
})  # fmt: skip
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set}
MOST_NODES = 1_000_000
"""Opcodes read at most, items handed to builders at most, and values in the whole at most, each shared one counted as often as it
is found; real checkpoints have some thousands."""

DEEPEST = 200
"""Containers inside of each other at most; real checkpoints have some twenty."""

MOST_BYTES = 64 << 20
"""Of one stream; the tensors' data is not in it."""

_LONGEST_INT = 512
"""Bits of a whole number at most."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the stream names: "module.attribute". It is never looked up."""

    path: str


@dataclass(slots=True)
class Record:
    """An object of a class that the caller knows, as data: the class's name, constructor arguments and state."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


class Unreadable(BadInput):
    """The stream is damaged or holds what no model needs; nothing of it was executed."""


def read_stream(
    data: bytes,
    builders: Mapping[str, Builder] | None = None,
    records: tuple[str, ...] = (),
    stored: Callable[[Any], Any] | None = None,
) -> Any:
    """The value that a pickle stream describes.

    Args:
        data: the stream.
        builders: what the names in it may build, e.g. ``{"collections.OrderedDict": dict}``; called with the stream's arguments.
        records: names, or prefixes ending in a dot, of classes whose objects are kept as :class:`Record`.
        stored: called with each persistent id (torch's storages); None refuses them.

    Raises:
        Unreadable: damaged, or it names something else; the message says what.
    """
    if len(data) > MOST_BYTES:
        raise Unreadable(f"the file's object stream has {len(data) >> 20} MiB", hint="give the file that the training wrote")
    machine = _Machine(dict(builders or {}), records, stored)
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
            machine.spend(1)
            machine.step(opcode.name, argument)
        value = machine.result()
        _measure(value)
        return value
    except Unreadable:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError, UnicodeError, OverflowError) as error:
        raise Unreadable(
            f"the file's object stream is damaged ({type(error).__name__})", hint="copy it again from where it was made"
        ) from error


def _measure(root: Any) -> None:
    """Refuse what unfolds without end: a stream may refer to one value many times, and whoever walks over it meets it each time.

    A value inside of itself counts as nothing there when it is an object (omegaconf's nodes know their parents), since objects
    are looked at by name only.

    Raises:
        Unreadable: too many values, too deep, or a container that holds itself.
    """
    sizes: dict[int, int] = {}  # of finished containers by id; all are alive as long as the root is
    path: dict[int, int] = {}  # containers that are being walked -> how many objects are above them
    stack: list[tuple[Any, Iterator[Any]]] = [(root, iter(_children(root)))]
    totals, objects = [1], [isinstance(root, Record)]
    path[id(root)] = int(objects[0])
    while stack:
        value, children = stack[-1]
        child = next(children, stack)
        if child is stack:
            stack.pop()
            objects.pop()
            path.pop(id(value), None)
            sizes[id(value)] = total = totals.pop()
            if totals:
                totals[-1] += total
            if total > MOST_NODES or (totals and totals[-1] > MOST_NODES):
                raise Unreadable("the file unfolds to far more values than a model has", hint="it was made to harm")
        elif not isinstance(child, (list, tuple, dict, set, frozenset, Record)):
            totals[-1] += 1
        elif id(child) in sizes:
            totals[-1] += sizes[id(child)]
        elif id(child) in path:
            if path[id(child)] == sum(objects) and not isinstance(child, Record):
                raise Unreadable("the file holds a list that holds itself", hint="it was made to harm")
        elif len(stack) >= DEEPEST:
            raise Unreadable(f"the file holds values nested more than {DEEPEST} deep", hint="it was made to harm")
        else:
            objects.append(isinstance(child, Record))
            path[id(child)] = sum(objects)
            stack.append((child, iter(_children(child))))
            totals.append(1)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, Record):
        return (value.arguments, value.state, value.items)
    return value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set, frozenset)) else ()


class _Machine:
    def __init__(self, builders: dict[str, Builder], records: tuple[str, ...], stored: Callable[[Any], Any] | None) -> None:
        self.builders, self.records, self.stored = builders, records, stored
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.done = False
        self.spent = 0

    def spend(self, count: int) -> None:
        """Count work; refuse when it is more than any model needs."""
        self.spent += count
        if self.spent > MOST_NODES:
            raise Unreadable("the file holds far more objects than a model", hint="it is damaged or was made to harm")

    def result(self) -> Any:
        if not self.done or len(self.stack) != 1:
            raise ValueError("no end")
        return self.stack[0]

    def step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > _LONGEST_INT:
                raise Unreadable("the file holds a number of thousands of digits", hint="it was made to harm")
            self.stack.append(argument)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        else:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise Unreadable(
                    f"the file uses the pickle instruction {name}, which no model needs", hint="do not trust this file"
                )
            method(argument)

    def _proto(self, _: Any) -> None: ...

    def _frame(self, _: Any) -> None: ...

    def _stop(self, _: Any) -> None:
        self.done = True

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _pop_mark(self, _: Any = None) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _put(self, index: Any) -> None:
        self.memo[int(index)] = self.stack[-1]

    _binput = _long_binput = _put

    def _get(self, index: Any) -> None:
        self.stack.append(self.memo[int(index)])

    _binget = _long_binget = _get

    def _empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._pop_mark()))

    def _tuple1(self, _: Any, count: int = 1) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise ValueError("too few")
        del self.stack[-count:]
        self.stack.append(items)

    def _tuple2(self, _: Any) -> None:
        self._tuple1(_, 2)

    def _tuple3(self, _: Any) -> None:
        self._tuple1(_, 3)

    def _list(self, _: Any) -> None:
        self.stack.append(self._pop_mark())

    def _dict(self, _: Any) -> None:
        items = self._pop_mark()
        self.stack.append({})
        self._put_items(items)

    def _frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(_key(item) for item in self._pop_mark()))

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("not a list")
        self.stack[-1].extend(items)

    def _additems(self, _: Any) -> None:
        items = self._pop_mark()
        self.stack[-1].update(_key(item) for item in items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put_items([key, value])

    def _setitems(self, _: Any) -> None:
        self._put_items(self._pop_mark())

    def _put_items(self, items: list[Any]) -> None:
        target = self.stack[-1].items if isinstance(self.stack[-1], Record) else self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError("not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _stack_global(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self._name(module, attribute)

    def _name(self, module: str, attribute: str) -> None:
        path = f"{module}.{attribute}".replace("__builtin__.", "builtins.")
        if path not in self.builders and not self._known(path):
            raise Unreadable(
                f"the file names {path!r}, which no known model file needs; it was refused and nothing was executed",
                hint="do not load this file with other tools either, unless you know who made it",
            )
        self.stack.append(Name(path))

    def _known(self, path: str) -> bool:
        return any(path.startswith(known) if known.endswith(".") else path == known for known in self.records)

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise TypeError("not a call")
        builder = self.builders.get(called.path)
        self.spend(sum(len(argument) for argument in arguments if isinstance(argument, (list, tuple, dict, set, frozenset))))
        self.stack.append(builder(*arguments) if builder else Record(called.path, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        keywords = self.stack.pop()
        self._reduce(_)
        if isinstance(self.stack[-1], Record):
            self.stack[-1].state = keywords

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Record):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], dict):  # state_dict's OrderedDict carries _metadata here: not needed
            raise TypeError("no object")

    def _binpersid(self, _: Any) -> None:
        if self.stored is None:
            raise Unreadable("the file refers to data outside of itself", hint="give a file of plain values")
        self.stack.append(self.stored(self.stack.pop()))


def mapping(items: Any = ()) -> dict[Any, Any]:
    """A builder for dicts that were written as a call with pairs."""
    return {_key(key): value for key, value in (items.items() if isinstance(items, dict) else items)}


def _key(value: Any) -> Any:
    """Keys are scalars or short tuples of them: nothing whose hash takes long."""
    if isinstance(value, tuple) and len(value) <= 8:
        return tuple(_scalar(item) for item in value)
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if value is not None and not isinstance(value, (str, bytes, int, float)):
        raise TypeError("not a key")
    return value
