"""Try which engines, devices and cameras work on this machine, and say what to install for the rest.

Nothing is believed because it is installed: a tiny model runs through every engine adapter, a video is written and read back,
devices are asked for.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgead.cli._probes import Check

SUMMARY = "what works on this machine: engines, devices, cameras; and what to install for the rest"

NO_ENGINE = 5
_STYLE = {"ok": "green", "missing": "yellow", "broken": "red", "note": "cyan"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """0 when at least one engine works here, else 5."""
    from edgead import machine
    from edgead.cli._probes import examine

    checks = examine()
    works = any(check.group == "engine" and check.state == "ok" for check in checks)
    if args.json:
        print(json.dumps({"ok": works, "checks": [asdict(c) for c in checks], "machine": machine.facts()}, indent=2))
    else:
        _show(checks, works)
    return 0 if works else NO_ENGINE


def _show(checks: list[Check], works: bool) -> None:
    """Aligned lines, not a boxed table: they survive a narrow terminal, a pipe and a bug report."""
    from rich.text import Text

    from edgead.cli._console import console

    out = console()
    width = max(len(check.name) for check in checks)
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            out.print(Text(group, style="bold"))
        state = (f"  {check.state:<8}", _STYLE[check.state])
        out.print(Text.assemble(state, f"{check.name:<{width}}  {check.detail}"))
        if check.hint:
            out.print(Text(f"{'':10}{'':{width}}  -> {check.hint}"))
    names = ", ".join(check.name for check in checks if check.group == "engine" and check.state == "ok")
    if works:
        out.print(f"\nEngines that work here: {names}. See it all at work: edgead demo")
    else:
        out.print(Text("\nNo engine works here: bundles cannot run.\n  -> pip install 'edgead[openvino]'", style="bold red"))
