"""Write the register map for the PLC's programmer: modbus.csv and modbus.md (signals), causes.csv (numbers for messages),
s7.md and s7.db (data block), ethernetip.md (tags), inspection.schema.json (what MQTT and webhooks carry).

Made from the same table as the code; the Modbus map for the addresses that your station.yaml uses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgead.words import plain

SUMMARY = "write the register map for the PLC's programmer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, help="where to; without it the map is printed as Markdown")
    parser.add_argument(
        "--to-plc-address", type=int, default=0, metavar="N", help="first register that edgead writes (default 0)"
    )
    parser.add_argument(
        "--from-plc-address", type=int, default=100, metavar="N", help="first register that the PLC writes (default 100)"
    )
    parser.add_argument("--word-order", choices=("big", "little"), default="big", help="of values of two registers (default big)")


def run(args: argparse.Namespace) -> int:
    from edgead.errors import StorageError
    from edgead.runtime.plc import registers

    if args.folder is None:
        print(registers.modbus_markdown(args.to_plc_address, args.from_plc_address, args.word_order), end="")
        return 0
    try:
        written = registers.write(args.folder, args.to_plc_address, args.from_plc_address, args.word_order)
    except OSError as error:
        raise StorageError(f"cannot write into {args.folder}: {error.strerror or error}") from error
    for path in written:
        print(plain(str(path)))
    return 0
