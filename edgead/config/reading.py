"""``station.yaml`` -> :class:`edgead.config.station.StationConfig`, validated before anything is opened. Errors name the key and
its line.

``edgead station schema`` prints the JSON schema for editors. Paths are relative to the file. Secrets never stand in the file:
write ``${NAME}`` (environment) or ``${file:PATH}`` inside any text.
"""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.config.ownership import first_clash
from edgead.config.station import StationConfig
from edgead.errors import BadInput
from edgead.located import Located
from edgead.passwords import is_plain
from edgead.settings import Section, chosen_by, sections_of, validator_of
from edgead.words import one_line

if TYPE_CHECKING:
    from pydantic import ValidationError

UNKNOWN_KEY = "unexpected_keyword_argument"
"""pydantic's word for it."""


def read_station(path: Path) -> StationConfig:
    """Read and validate a station.yaml; paths in it become absolute.

    Raises:
        BadInput: naming the file, the line and the key of the first mistake, and how many more there are.
    """
    located = Located(path)
    no_plain_passwords(located)
    from pydantic import ValidationError

    try:
        config: StationConfig = validator_of(StationConfig).validate_python(located.values)
    except ValidationError as error:
        raise explained(located, error) from None  # the original may show secrets
    absolute: StationConfig = absolute_paths(config, path.absolute().parent)
    object.__setattr__(absolute, "_secrets", tuple(located.secrets))
    _check_ownership(located, absolute)
    return absolute


def _check_ownership(located: Located, config: StationConfig) -> None:
    """Nothing that one alone may use is used by two. Raises BadInput, naming both places."""
    clash = first_clash(config)
    if clash is None:
        return
    first, second = clash
    here = f"{located.path}, line {located.line(second.place)}: {located.known(second.place)} ({second.owner})"
    there = f"{located.known(first.place)} ({first.owner}, line {located.line(first.place)})"
    overlap = "" if first.text == second.text else f", which has {first.text}"
    raise BadInput(one_line(f"{here}: {second.text} is taken by {there}{overlap}"), hint=second.hint)


def schema() -> dict[str, Any]:
    """The JSON schema of a station.yaml, draft 2020-12."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **validator_of(StationConfig).json_schema()}


def no_plain_passwords(located: Located) -> None:
    """Refuses passwords, tokens and Authorization headers that are not ``${...}``."""
    for place, text in located.texts.items():
        key = next((part for part in reversed(place) if isinstance(part, str)), "")
        if is_plain(key, text):
            raise BadInput(
                f"{located.path}, line {located.line(place)}: {located.known(place)}: a password stands in the file",
                hint="write ${NAME} there and set NAME in the environment, or ${file:/run/secrets/name}",
            )


def explained(located: Located, error: ValidationError, root: type[Section] = StationConfig) -> BadInput:
    """The first mistake of a file by key and line, and how many more there are.

    Args:
        root: what the file should be.
    """
    mistakes = error.errors(include_url=False, include_input=False)
    first = min(mistakes, key=lambda mistake: mistake["type"] != UNKNOWN_KEY)  # a misspelt key makes others missing
    place = tuple(first["loc"])
    key = located.known(place)
    line = located.line(place)
    text, hint = _words(first, place, located, root)
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    where = f"{located.path}, line {line}" if line else str(located.path)
    told = one_line(f"{where}: {key + ': ' if key else ''}{text}{more}")
    default = "edgead station schema lists all keys" if root is StationConfig else f"its keys: {', '.join(_keys(root))}"
    return BadInput(told, hint=hint or default)


def _keys(root: type[Section]) -> list[str]:
    return list(dict.fromkeys(name for _, section in sections_of(root, "") for name in section.kinds()))


def _words(mistake: Any, place: tuple[str | int, ...], located: Located, root: type[Section]) -> tuple[str, str]:
    """What is wrong, and how to fix it when that is known."""
    kind = mistake["type"]
    if kind == UNKNOWN_KEY:
        key = str(place[-1])
        if places := _places(key, root):
            return "does not belong here", f"it goes with {' or '.join(places)}"
        near = difflib.get_close_matches(key, sorted(_keys(root)), 1)
        return "unknown key", f"did you mean {near[0]}?" if near else ""
    if kind == "missing":
        return "is missing", ""
    if kind.startswith("union_tag"):
        context = mistake.get("ctx", {})
        key = str(context.get("discriminator", "")).strip("'")
        if "tag" not in context:
            return f"{key} is missing", ""
        return f"{key} {str(context['tag'])[:60]!r} is not known", f"choose {context['expected_tags']}"
    text = str(mistake["msg"]).removeprefix("Value error, ")
    return text[0].lower() + text[1:], ""


def _places(key: str, root: type[Section]) -> list[str]:
    """Where a key belongs: what its section is chosen by ("source: interval"), else the section's own key ("drift:")."""
    found: dict[str, None] = {}
    for named, section in sections_of(root, ""):
        if key in section.kinds():
            found[chosen_by(section) or (f"{named}:" if named else "the file itself")] = None
    return list(found)


def absolute_paths(value: Any, base: Path) -> Any:
    """`value` with each path in it, however deep, relative to `base`."""
    if isinstance(value, Path):
        try:
            return base / value.expanduser()
        except RuntimeError as error:
            raise BadInput(f"{str(value)[:100]}: there is no such home folder", hint="write the whole path") from error
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: absolute_paths(getattr(value, field.name), base) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(absolute_paths(item, base) for item in value)
    if isinstance(value, dict):
        return {key: absolute_paths(item, base) for key, item in value.items()}
    return value
