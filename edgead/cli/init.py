"""Write a station.yaml from six answers: asked on a terminal, or given as options. It passes edgead station check.

edgead init                                                    (asks; offers cameras and bundles that are here)
edgead init --yes                                              (asks nothing: the first camera, the only bundle, no PLC)
edgead init --name line-3 --camera usb:0 --bundle part.edgead --plc s7:10.0.0.9 --trigger plc --budget-ms 200

An answer with which the file would not be right is refused at once. To the question for the PLC, find lists machines of this
one's networks that take connections on a port of PLCs; nothing is searched without being asked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH, number
from edgead.cli._verb import option, verb
from edgead.errors import BadInput

if TYPE_CHECKING:
    from edgead.line.drafting import Drafted, Offer, Question

FIND = "find"
ANSWERS = "answers"


@verb(__doc__)
@option("-o", "--out", type=PATH, default=Path("station.yaml"), metavar="FILE", help="the file (default station.yaml)")
@option("--name", metavar="NAME", group=ANSWERS, help="of the station (default: this machine's)")
@option("--camera", metavar="ADDRESS", group=ANSWERS, help="where pictures come from (see above)")
@option("--bundle", metavar="BUNDLE", group=ANSWERS, help="NAME.edgead folder that judges them")
@option(
    "--plc",
    metavar="TYPE:HOST",
    group=ANSWERS,
    help="none, modbus-server[:ADDRESS], modbus-client:HOST, s7:HOST or ethernetip:HOST, with :PORT where it is another",
)
@option("--trigger", metavar="WHAT", group=ANSWERS, help="free, plc, camera, interval:MS or gpio:LINE")
@option("--budget-ms", type=number(0), metavar="N", group=ANSWERS, help="from the trigger to the verdict (with a trigger)")
@option("--yes", is_flag=True, help="take the default for whatever is not given")
@option("--force", is_flag=True, help="replace the file if it is there")
@JSON
def command(out: Path, yes: bool, force: bool, as_json: bool, **answers: str | float | None) -> int:
    from edgead.line.drafting import drafted

    given = {key: str(answer) for key, answer in answers.items() if answer is not None}
    can_ask = sys.stdin is not None and sys.stdin.isatty() and not as_json and not yes
    found = drafted(out, given, Asking() if can_ask else None, force=force, defaults=yes)
    print_json("init", found) if as_json else _show(found)
    return 0


class Asking:
    """Asks on the terminal; what is offered is looked for once."""

    def __init__(self) -> None:
        self._offers: dict[str, list[Offer]] = {}

    def __call__(self, question: Question, default: str, trouble: str) -> str:
        from edgead.cli._console import console

        out = console(stderr=True)
        if trouble:
            out.print(f"  that cannot be: {trouble}", markup=False)
        else:
            out.print(f"\n{question.words}", markup=False)
            out.print(f"  {question.example.removeprefix(question.flag).strip()}", markup=False)
            self._offer(question.key)
        while True:
            out.print(f"  [{default}] " if default else "  ", end="", markup=False)
            answer = self._line().strip() or default
            if question.key == "plc" and answer == FIND:
                self._offer(question.key, found=True)
                continue
            if answer:
                return self._lettered(question.key, answer)

    def _offer(self, key: str, *, found: bool = False) -> None:
        from edgead.cli._console import console
        from edgead.line.drafting import bundles_here, cameras_here, plcs_here

        out = console(stderr=True)
        if key == "plc" and not found:
            out.print(f"  {FIND}: look for PLCs among the machines that this one has to do with")
            return
        look = {"camera": cameras_here, "bundle": lambda: bundles_here(Path()), "plc": plcs_here}.get(key)
        if look is None:
            return
        self._offers[key] = look()
        for letter, offer in zip("abcdefghijklmnopqrstuvwxyz", self._offers[key], strict=False):
            out.print(f"  {letter}: {offer.answer}  ({offer.words})", markup=False)
        if key != "bundle" and not self._offers[key]:
            out.print("  none found")

    def _lettered(self, key: str, answer: str) -> str:
        """The offer with this letter, if that is what was answered."""
        offers = self._offers.get(key, [])
        place = ord(answer) - ord("a") if len(answer) == 1 else -1
        return offers[place].answer if 0 <= place < len(offers) else answer

    @staticmethod
    def _line() -> str:
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise BadInput("no answer came, and nothing was written", hint="give answers as options, or --yes for defaults")
        return line


def _show(found: Drafted) -> None:
    from edgead.cli._console import console

    out = console()
    for warning in found.warnings:
        out.print(f"warning: {warning}", markup=False)
    for note in found.notes:
        out.print(f"to do: {note}", markup=False)
    out.print(f"{found.file} is written and right: edgead run {found.file}", markup=False)
