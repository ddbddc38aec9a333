"""edgead: trained visual anomaly detectors, verified and running on the box beside the camera.

From Python: `train`, `export`, `verify`, `open` and `Station`, each imported when it is used (edgead/api.py, docs/python.md).
"""

import os as _os
import time as _time
import typing as _typing

# GNU OpenMP, which torch brings along, lets threads that wait for the others spin. On cores that have other work, too, the
# others wait for the core of the one that spins: up to 18 times the time, and CPU time (benchmarks/threads.py).
# It is read as torch is loaded.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# So do the threads of OpenBLAS, which numpy brings along, and nothing stops them: beside other work the resize of an imported
# model took 78 ms where one thread takes 5. It is read as numpy is loaded.
_os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"

try:
    _far = _time.time() >= 9_214_646_400  # the year 2262
except OverflowError:
    _far = True
if _far:  # before anybody else asks what time it is
    from edgead import _far_clock

    _far_clock.install()

if _typing.TYPE_CHECKING:
    from edgead.api import Station as Station
    from edgead.api import export as export
    from edgead.api import open as open
    from edgead.api import train as train
    from edgead.api import verify as verify

_FACE = ("Station", "export", "open", "train", "verify")


def __getattr__(name: str) -> _typing.Any:
    if name not in _FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    if name == "export":  # a room of that name is there, too: its module can be called
        return importlib.import_module("edgead.export")
    return getattr(importlib.import_module("edgead.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FACE})
