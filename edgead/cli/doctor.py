"""Try which engines, devices and cameras work on this machine, and say what to install for the rest.

Nothing is believed because it is installed: a tiny model runs through every engine adapter, a video is written and read back,
devices are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._verb import verb

if TYPE_CHECKING:
    from edgead.jobs.doctor.check import Findings

NO_ENGINE = 5
_STYLE = {"ok": "green", "missing": "yellow", "broken": "red", "note": "cyan"}


@verb(__doc__)
@JSON
def command(as_json: bool) -> int:
    """0 when at least one engine works here, else 5."""
    from edgead.jobs.doctor.box import examine

    with told_progress() as progress:
        found = examine(progress)
    if as_json:
        print_json("doctor", found)
    else:
        _show(found)
    return 0 if found.ok else NO_ENGINE


def _show(found: Findings) -> None:
    """Aligned lines, not a boxed table: they survive a narrow terminal, a pipe and a bug report."""
    from rich.text import Text

    from edgead.cli._console import console

    out = console()
    width = max(len(check.name) for check in found.checks)
    group = ""
    for check in found.checks:
        if check.group != group:
            group = check.group
            out.print(Text(group, style="bold"))
        state = (f"  {check.state:<8}", _STYLE[check.state])
        out.print(Text.assemble(state, f"{check.name:<{width}}  {check.detail}"))
        if check.hint:
            out.print(Text(f"{'':10}-> {check.hint}"))
    names = ", ".join(check.name for check in found.checks if check.group == "engine" and check.state == "ok")
    if found.ok:
        out.print(f"\nEngines that work here: {names}. See it all at work: edgead demo")
    else:
        out.print(Text("\nNo engine works here: bundles cannot run.\n  -> pip install 'edgead[openvino]'", style="bold red"))
