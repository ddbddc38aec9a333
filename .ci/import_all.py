"""Import every module of edgead, each in a fresh interpreter state of one process; --line-box leaves out the torch rooms.

The rooms models, training, importers and export, and the families' own, hold networks: without torch they cannot be imported,
by their nature; and the dashboard and capture's preview are web servers. All else must import with nothing but the base
dependencies, the table of families and their options, too.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import edgead

LAB_ROOMS = ("edgead.models", "edgead.training", "edgead.importers", "edgead.export", "edgead.trained")
WEB = ("edgead.dashboard", "edgead.capture.preview")


def _needs_more(name: str) -> bool:
    if name.startswith("edgead.families."):
        return not name.endswith((".contract", ".options"))
    return name.startswith((*LAB_ROOMS, *WEB))


def main() -> int:
    line_box = "--line-box" in sys.argv[1:]
    names = [m.name for m in pkgutil.walk_packages(edgead.__path__, "edgead.") if not m.name.endswith("__main__")]
    wanted = [n for n in names if not (line_box and _needs_more(n))]
    for name in wanted:
        importlib.import_module(name)
    loaded = {"torch", "onnx", "sklearn"} & set(sys.modules)
    if line_box and loaded:
        print(f"line-box modules loaded {sorted(loaded)}")
        return 1
    print(f"{len(wanted)} of {len(names)} modules imported")
    return 0


if __name__ == "__main__":
    sys.exit(main())
