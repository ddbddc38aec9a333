"""The command line of the families' options: made of what their fields say (edgead/families/options.py), and read back by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgead.cli._types import PATH, Parsed
from edgead.cli._verb import option, parameters_of
from edgead.errors import BadInput, MissingExtra
from edgead.families import find, method, trained
from edgead.families.contract import Family
from edgead.families.options import Known

RARE = "rarely needed"


def family_options(function: Any) -> Any:
    """Decorator: the options of all families that can be trained here, grouped by the families that have them.

    The verb's function gets them by their names in Python, None where they are not given; :func:`given_to` makes a family's
    values of them. To be put above the verb's own options: one of another package's that has the name of such is left out.
    """
    found: dict[str, list[tuple[Family, Known]]] = {}
    taken = {param.name for param in parameters_of(function)}
    for name in trained():
        try:
            family = find(name)
            known = family.options_type().known()
        except (MissingExtra, BadInput):  # of another package: what is wrong is told when it is asked for
            continue
        for one in (one for one in known if one.name not in taken):
            found.setdefault(one.name, []).append((family, one))
    own = list(parameters_of(function))
    parameters_of(function).clear()
    for having in reversed(list(found.values())):
        function = _made(having)(function)
    parameters_of(function).extend(own)  # in the help the verb's own come first
    return function


def given_to(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a family's options.

    Args:
        name: of the method (:func:`edgead.families.methods`).
        given: parameters that :func:`family_options` made; those that are None are not given.

    Raises:
        BadInput: an option that the family does not have, or a value that is not usable.
    """
    family, preset = method(name)
    kind = family.options_type()
    known = {one.name: one for one in kind.known()}
    if taken := [one.flag for one in known.values() if one.name not in given]:
        raise BadInput(f"{name} has an option {taken[0]}, which the verb has itself", hint="mend the package that brings it")
    values = {option: value for option, value in given.items() if value is not None}
    found = {o: known[o].parse(value) if o in known and isinstance(value, str) else value for o, value in values.items()}
    kind.of(name, {**preset.options, **found})
    kind.refuse_absent(found)
    return found


def _made(having: Sequence[tuple[Family, Known]]) -> Any:
    """One option for all families that have it; its text is read by the one that is trained."""
    one = having[0][1]
    names = [family.name for family, _ in having]
    told = {known.told.help + _usual(known): family.name for family, known in reversed(having)}
    help = next(iter(told)) if len(told) == 1 else "; ".join(f"{n}: {h}" for h, n in reversed(told.items()))
    group = " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"
    group = f"{group}, {RARE}" if all(known.told.rare for _, known in having) else group
    if all(known.kinds == (bool,) for _, known in having):
        return option(f"{one.flag}/--no-{one.flag[2:]}", one.name, default=None, group=group, help=help)
    metavar = one.told.metavar or "|".join(one.told.choices) or None
    return option(one.flag, one.name, type=_type(having), metavar=metavar, group=group, help=help)


def _type(having: Sequence[tuple[Family, Known]]) -> Any:
    """A path, or text that the family which is trained reads; its name says what kind of value it is."""
    kinds = {kind for _, known in having for kind in known.kinds}
    if kinds == {Path}:
        return PATH
    own = any(known.told.parse for _, known in having)
    if not own and all(known.told.choices for _, known in having):
        return Parsed(str, "choice")
    return Parsed(str, "text" if own or not kinds <= {int, float} else "number")


def _usual(known: Known) -> str:
    """The default, in brackets."""
    usual = known.told.usual or ("" if known.default is None else str(known.default))
    return f" (default {usual})" if usual else ""
