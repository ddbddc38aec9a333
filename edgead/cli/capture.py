"""Take pictures for training with the line's own camera: whole PNG files without loss, in a folder that may have some already.

edgead capture --camera 0 -o good/                    (one a second, until there are 100)
edgead capture --camera 0 -o good/ --by-hand          (one at each space; q ends)
edgead capture --camera 0 -o good/ --preview          (and in the browser, on this machine only)
edgead capture --camera hot:incoming -o good/         (each picture of a recording or a hot folder)

A picture that hardly differs from one that is there is not saved, but counted. Of each one is told how sharp it is against the
sharpest so far, what is white, and whether it moves; of all, what they do not show yet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH, number, whole
from edgead.cli._verb import option, verb
from edgead.errors import BadInput

if TYPE_CHECKING:
    from edgead.capture.session import Captured, Session, State

PREVIEW = "127.0.0.1:8090"
INTERRUPTED = 130


@verb(__doc__)
@option("--camera", required=True, metavar="ADDRESS", help="where pictures come from (see above)")
@option("-o", "--out", type=PATH, required=True, metavar="DIR", help="folder for the pictures")
@option("--count", type=whole(1, 100_000), default=100, metavar="N", help="so many shall be in the folder (default 100)")
@option("--every-ms", type=number(0, 1e9), metavar="MS", help="pause from one to the next (default 1000)")
@option("--by-hand", is_flag=True, help="only when space is pressed, here or in the browser")
@option("--copies", is_flag=True, help="save near-copies, too")
@option(
    "--preview",
    is_flag=False,
    flag_value=PREVIEW,
    metavar="[HOST:PORT]",
    help=f"show the camera's picture in the browser (at {PREVIEW}; needs edgead[dashboard])",
)
@JSON
def command(
    camera: str,
    out: Path,
    count: int,
    every_ms: float | None,
    by_hand: bool,
    copies: bool,
    preview: str | None,
    as_json: bool,
) -> int:
    """0; 130 when it was broken off by Ctrl-C. What was saved stays in any case."""
    from edgead.capture.session import Session, Wanted
    from edgead.cli._keys import Keys
    from edgead.line.stopping import stopped_by_signals

    with Keys() as keys:
        if by_hand and not keys.there and preview is None:
            raise BadInput("--by-hand: nobody can press a key here", hint="on a terminal, or with --preview")

        def tell(state: State) -> None:
            pressed = keys.pressed()
            if " " in pressed or "\n" in pressed:
                session.take()
            if "q" in pressed:
                session.stop()
            line(state)

        line = _Line()
        session = Session(Wanted(camera, out, count, every_ms, by_hand, copies), tell=tell)
        with stopped_by_signals() as stopper, _preview(session, preview):
            stopper.attach(session)
            try:
                found = session.run()
            finally:
                line.end()
    print_json("capture", found) if as_json else _show(found)
    return INTERRUPTED if stopper.asked else 0


@contextmanager
def _preview(session: Session, where: str | None) -> Iterator[None]:
    if where is None:
        yield
        return
    from edgead.optional import require

    for module in ("starlette", "uvicorn"):
        require(module, extra="dashboard", why="The preview")
    from edgead.capture.preview import address_of, shown
    from edgead.runtime.outlet import say

    with shown(session, address_of(where)) as url:
        say(f"preview: {url}", sys.stderr)
        yield


class _Line:
    """Where it stands: a line that is written over on a terminal, else one for each tenth."""

    def __init__(self) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._tenths = -1
        self._width = 0

    def __call__(self, state: State) -> None:
        from edgead.runtime.outlet import say
        from edgead.words import one_line

        if self._terminal:
            text = one_line(_line(state))[:150]
            sys.stderr.write(f"\r{text:<{self._width}}")
            sys.stderr.flush()
            self._width = len(text)
            return
        tenths = 10 * state.there // state.count
        if tenths > self._tenths:
            self._tenths = tenths
            say(f"{state.there} of {state.count} pictures", sys.stderr)

    def end(self) -> None:
        if self._width:
            sys.stderr.write("\n")


def _line(state: State) -> str:
    told = f"{state.there} of {state.count}  focus {100 * state.focus:.0f} %  {state.copies} near-copies skipped"
    return "  ".join([told, *([state.last] if state.last else []), *state.hints])


_HINTS = {"blurred": "blurred", "white": "white in parts", "dark": "dark", "moving": "of something that moves"}


def _show(found: Captured) -> None:
    from edgead.cli._console import console

    out = console()
    ended = {"enough": "", "stopped": ", stopped", "end": ", the recording has ended"}[found.ended]
    skipped = f", {found.copies} near-copies skipped" if found.copies else ""
    unreadable = f", {found.unreadable} could not be read" if found.unreadable else ""
    told = f"{found.saved} pictures saved, {found.there} of {found.count} in {found.folder}{skipped}{unreadable}{ended}"
    out.print(told, markup=False)
    for hint, count in found.hints.items():
        out.print(f"to look at: {count} of them are {_HINTS[hint]}", markup=False)
    for line in found.missing:
        out.print(f"still missing: {line}", markup=False)
