"""``boxes.yaml`` -> :class:`Inventory`: the boxes that `edgead fleet status` asks, and the bundle that each should run.

sha256: 29cfc34e...                          # of the bundle that is wanted, for all boxes that name none
boxes:
  - {name: line-1, metrics: "http://10.0.0.11:9108"}
  - name: line-2
    metrics: http://10.0.0.12:9108
    records: /mnt/line-2                     # its storage.folder, where it can be reached as a folder
    sha256: {top: 29cfc34e..., side: 7f0e11aa...}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edgead.config.reading import absolute_paths, explained, no_plain_passwords
from edgead.located import Located
from edgead.settings import Limits, Section, Sha256, validator_of

Wanted = Sha256 | dict[str, Sha256]
"""Of all cameras, or by their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxConfig(Section):
    """A box."""

    name: Annotated[str, Limits(pattern=r"^[A-Za-z0-9_.-]+$", longest=100)]
    metrics: (
        Annotated[str, Limits(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$", longest=300)] | None
    ) = None
    """Address of its `supervision.http`, such as http://10.0.0.11:9108."""
    records: Path | None = None
    """Its storage.folder, where that can be reached as a folder."""
    sha256: Wanted | None = None
    """Of the bundle that it should run; that of the file if not given."""

    def __post_init__(self) -> None:
        if self.metrics is None and self.records is None:
            raise ValueError("a box needs metrics, records or both: how else could it be asked?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory(Section):
    """All boxes."""

    boxes: tuple[BoxConfig, ...]
    sha256: Wanted | None = None
    """Of the bundle that boxes should run that name none of their own."""

    def __post_init__(self) -> None:
        if not self.boxes:
            raise ValueError("boxes is empty: name at least one")
        names = [box.name for box in self.boxes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two boxes are called {twice[0]}")

    def wanted(self, box: BoxConfig, camera: str) -> str | None:
        """The digest that a camera of a box should run; None: whatever it runs is right."""
        given = self.sha256 if box.sha256 is None else box.sha256
        found = given.get(camera) if isinstance(given, dict) else given
        return found.lower() if found is not None else None


def read_inventory(path: Path) -> Inventory:
    """Read and validate an inventory; paths in it become absolute.

    Raises:
        BadInput: naming the file, the line and the key of the first mistake.
    """
    located = Located(path)
    no_plain_passwords(located)
    from pydantic import ValidationError

    try:
        found: Inventory = validator_of(Inventory).validate_python(located.values)
    except ValidationError as error:
        raise explained(located, error, Inventory) from None
    read: Inventory = absolute_paths(found, path.absolute().parent)
    return read
