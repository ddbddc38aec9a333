"""YAML that knows where each value stands, so that a wrong one can be named by key and line.

Only plain YAML: no tags that make objects, no anchors that refer to themselves, no key twice (of two, PyYAML would take the last
one in silence).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from edgead import disk
from edgead.errors import BadInput
from edgead.words import keep_secret

Place = tuple[str | int, ...]
"""Keys and indices from the top to a value."""

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MOST_NODES = 10_000
"""Anchors can make a short file unfold without end."""

_SECRET = re.compile(r"\$\{([^}]*)\}")


def _usable(text: str) -> bool:
    """Can it be written again (no lone surrogates), and be part of a path (no NUL)?"""
    return "\0" not in text and not any("\ud800" <= mark <= "\udfff" for mark in text)


class Located:
    """A YAML file as plain values, and the line of each.

    Attributes:
        path: the file, and text: its content.
        values: the top-level mapping.
        lines: line (from 1) of each key and list item by its place.
        texts: each value by its place, as it stands in the file, before ``${...}`` is filled in.
        secrets: what ``${...}`` stood for, to be kept out of logs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Place, int] = {}
        self.texts: dict[Place, str] = {}
        self.secrets: list[str] = []
        self._nodes = 0
        try:
            text = disk.read_file(path, MAX_BYTES).decode("utf-8")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            reason = "it does not exist" if isinstance(error, FileNotFoundError) else reason
            raise BadInput(f"{path} cannot be read: {reason}", hint="give a YAML file in UTF-8") from error
        try:
            root = yaml.compose(text, yaml.SafeLoader)
        except RecursionError as error:
            raise BadInput(f"{path} is nested too deep", hint="see edgead docs station for an example") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "not YAML"
            raise BadInput(f"{path}{where}: {problem}", hint="indent with spaces, put texts with ':' or '#' in quotes") from error
        if not isinstance(root, yaml.MappingNode):
            raise BadInput(f"{path} holds no keys", hint="see edgead docs station for an example")
        self.values: dict[str, Any] = self._plain(root, (), ())

    def line(self, place: Place) -> int | None:
        """The line of a place, or of what it stands in; None for the file as a whole.

        Parts of `place` that are not in the file (names that a validator adds) are skipped."""
        known: Place = ()
        for part in place:
            if (*known, part) in self.lines:
                known = (*known, part)
        return self.lines.get(known)

    def known(self, place: Place) -> str:
        """A place as a user would write it: ``cameras[0].address``."""
        text = ""
        known: Place = ()
        for i, part in enumerate(place):
            inside = (*known, part) in self.lines
            if not inside and i < len(place) - 1:
                continue  # a validator's own word
            known = (*known, part) if inside else known
            text += f"[{part}]" if isinstance(part, int) else f".{part}"
        return text.lstrip(".")

    def _plain(self, node: yaml.Node, place: Place, parents: tuple[int, ...]) -> Any:
        if id(node) in parents:
            raise BadInput(f"{self.path}, line {node.start_mark.line + 1}: an anchor refers to itself")
        if len(place) > MAX_DEPTH:
            raise BadInput(f"{self.path}, line {node.start_mark.line + 1}: nested deeper than {MAX_DEPTH} levels")
        parents = (*parents, id(node))
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise BadInput(f"{self.path} unfolds to more than {MOST_NODES} values", hint="use fewer anchors")
        if isinstance(node, yaml.MappingNode):
            values: dict[str, Any] = {}
            for key_node, value_node in node.value:
                line = key_node.start_mark.line + 1
                if not isinstance(key_node, yaml.ScalarNode) or not _usable(key := str(key_node.value)):
                    raise BadInput(
                        f"{self.path}, line {line}: a key is not a plain word", hint="edgead station schema lists all keys"
                    )
                here = (*place, key)
                if key in values:
                    first = self.lines[here]
                    raise BadInput(
                        f"{self.path}, line {line}: {key[:60]} is there twice, first in line {first}", hint="remove one"
                    )
                self.lines[here] = line
                values[key] = self._plain(value_node, here, parents)
            return values
        if isinstance(node, yaml.SequenceNode):
            items = []
            for i, item in enumerate(node.value):
                at = (*place, i)
                self.lines[at] = item.start_mark.line + 1
                items.append(self._plain(item, at, parents))
            return items
        try:
            value = yaml.SafeLoader("").construct_object(node)
            if value is not None:
                self.texts[place] = str(node.value)
        except (ValueError, yaml.YAMLError) as error:
            line = node.start_mark.line + 1
            shown = str(node.value)[:60]
            raise BadInput(f"{self.path}, line {line}: {shown!r} cannot be read", hint="put texts in quotes") from error
        if isinstance(value, str) and not _usable(value):
            raise BadInput(f"{self.path}, line {node.start_mark.line + 1}: a text holds characters that no text has")
        return self._secret(value, node) if isinstance(value, str) else value

    def _secret(self, text: str, node: yaml.Node) -> str:
        """``${NAME}`` from the environment, ``${file:PATH}`` from a file, its last line break removed.

        As user, password or value of a query inside an address it is percent-encoded (RFC 3986): a password may hold anything.
        """

        def value(match: re.Match[str]) -> str:
            name = match.group(1)
            line = node.start_mark.line + 1
            if name.startswith("file:"):
                file = (self.path.parent / name[5:]).expanduser()
                try:
                    secret = disk.read_file(file, MAX_BYTES).decode("utf-8").rstrip("\r\n")
                except (OSError, ValueError, RuntimeError) as error:
                    reason = (error.strerror or "") if isinstance(error, OSError) else type(error).__name__
                    raise BadInput(f"{self.path}, line {line}: the secret in {file} cannot be read: {reason}") from error
            elif name in os.environ:
                secret = os.environ[name]
            else:
                raise BadInput(
                    f"{self.path}, line {line}: the environment variable {name[:60]} is not set",
                    hint="set it, or use ${file:PATH}",
                )
            self.secrets.append(secret)
            keep_secret(secret)
            return _encoded(secret, text[: match.start()], text[match.end() :])

        return _SECRET.sub(value, text)


def _encoded(secret: str, before: str, after: str) -> str:
    """`secret` as it must be written between the two parts of a text: percent-encoded where that is an address's own place for
    a user, a password or a value; in an address that is whole in itself, a host or a path, and outside of addresses as it is."""
    before, after = _SECRET.sub("x", before[-4000:]), _SECRET.sub("x", after[:4000])  # of an address, which is short
    inside = re.search(r"://([^\s/?#]*)$", before)  # after the scheme, in front of the first slash
    if inside and re.match(r"[^\s/?#]*@", after):
        if inside[1] or re.match(r"[^@]*:", after):
            return quote(secret, safe="")
        user, colon, password = secret.partition(":")  # both in one
        return quote(user, safe="") + colon + quote(password, safe="")
    if re.search(r"://\S*[?&;][^\s=&;]*=$", before):
        return quote(secret, safe="")
    return secret
