"""The files that a plant needs beside edgead, which the package carries."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead import deploy
from edgead.errors import BadInput, StorageError


@dataclass(frozen=True, slots=True)
class Written:
    """What is there now.

    Attributes:
        folder: that was asked for.
        files: below it, in order.
    """

    folder: Path
    files: tuple[Path, ...]


def write_files(folder: Path, kinds: Sequence[str], replace: bool = False) -> Written:
    """Write these kinds of files (:data:`edgead.deploy.KINDS`), all or none.

    Args:
        folder: made where it is absent.
        replace: also those that are there with another content.

    Raises:
        BadInput: a file is there with another content, or the folder is none.
        StorageError: it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", hint="name another one")
    found = {Path(kind) / name: content for kind in dict.fromkeys(kinds) for name, content in sorted(_files(kind).items())}
    changed = [name for name, content in found.items() if (folder / name).exists() and (folder / name).read_bytes() != content]
    if changed and not replace:
        raise BadInput(
            f"{folder / changed[0]} is there with another content ({len(changed)} such)", hint="another DIR, or --replace"
        )
    try:
        for name, content in found.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            part.write_bytes(content)
            part.chmod(0o755 if target.suffix == ".sh" else 0o644)
            os.replace(part, target)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error}", hint="check rights and space") from error
    return Written(folder, tuple(folder / name for name in found))


def _files(kind: str) -> dict[str, bytes]:
    if kind == "station":
        from edgead.config.reading import schema

        return {"station.schema.json": (json.dumps(schema(), indent=2) + "\n").encode()}
    folder = Path(deploy.__file__).parent / kind
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}
