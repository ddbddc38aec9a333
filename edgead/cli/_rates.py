"""What a verb that still uses argparse shares with the others."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgead.cli._options import MOST_THREADS
from edgead.errors import BadInput
from edgead.typed import shown


def add_trusted(parser: argparse.ArgumentParser) -> None:
    """The option of verbs that take signed bundles only, when they are told whose."""
    parser.add_argument(
        "--trusted", type=Path, action="append", default=[], metavar="KEY.pub",
        help="take the bundle only when this key signed it (edgead sign); may be given again",
    )  # fmt: skip


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads that no engine can have. Raises BadInput."""
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise BadInput(f"{shown(threads)} threads are not usable", hint=f"give a number from 1 to {MOST_THREADS}")
