"""Write the register map for the PLC's programmer: modbus.csv and modbus.md (signals), causes.csv (numbers for messages),
s7.md and s7.db (data block), ethernetip.md (tags), inspection.schema.json (what MQTT and webhooks carry).

Made from the same table as the code; the Modbus map for the addresses that your station.yaml uses.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH, WHOLE
from edgead.cli._verb import argument, option, verb
from edgead.words import plain

if TYPE_CHECKING:
    from edgead.runtime.plc.signals import WordOrder


@dataclass(frozen=True, slots=True)
class Mapped:
    """A signal in the Modbus map.

    Attributes:
        block: to_plc or from_plc.
        name: of the signal.
        register: its first, from 0 as on the wire.
        modicon: the same, counted from 400001.
        bit: of the register; null: all of it.
        type: BOOL, UINT (u16), UDINT (u32), REAL (f32).
        registers: how many it takes.
        written_by: edgead or PLC.
        meaning: what it says.
    """

    block: str
    name: str
    register: int
    modicon: int
    bit: int | None
    type: str
    registers: int
    written_by: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Map:
    """The map.

    Attributes:
        word_order: of values of two registers: big or little.
        signals: of both blocks.
        files: that were written.
    """

    word_order: str
    signals: tuple[Mapped, ...]
    files: tuple[Path, ...]


@verb(__doc__)
@argument("folder", type=PATH, required=False, metavar="[FOLDER]", help="where to; without it the map is printed as Markdown")
@option("--to-plc-address", type=WHOLE, default=0, metavar="N", help="first register that edgead writes (default 0)")
@option("--from-plc-address", type=WHOLE, default=100, metavar="N", help="first register that the PLC writes (default 100)")
@option("--word-order", type=click.Choice(("big", "little")), default="big", help="of values of two registers (default big)")
@JSON
def command(folder: Path | None, to_plc_address: int, from_plc_address: int, word_order: WordOrder, as_json: bool) -> int:
    from edgead.errors import StorageError
    from edgead.runtime.plc import registers

    written: list[Path] = []
    if folder is not None:
        try:
            written = registers.write(folder, to_plc_address, from_plc_address, word_order)
        except OSError as error:
            raise StorageError(f"cannot write into {folder}: {error.strerror or error}") from error
    if as_json:
        signals = _mapped(registers.modbus_csv(to_plc_address, from_plc_address))
        print_json("plc-map", Map(word_order, signals, tuple(written)))
    elif folder is None:
        print(registers.modbus_markdown(to_plc_address, from_plc_address, word_order), end="")
    for path in () if as_json else written:
        print(plain(str(path)))
    return 0


def _mapped(text: str) -> tuple[Mapped, ...]:
    """The lines of modbus.csv."""
    return tuple(
        Mapped(
            row["block"],
            row["name"],
            int(row["register"]),
            int(row["modicon"]),
            int(row["bit"]) if row["bit"] else None,
            row["type"],
            int(row["registers"]),
            row["written by"],
            row["meaning"],
        )
        for row in csv.DictReader(io.StringIO(text))
    )
