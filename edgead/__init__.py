"""edgead: trained visual anomaly detectors, verified and running on the box beside the camera."""

import os as _os
import time as _time

# GNU OpenMP, which torch brings along, lets threads that wait for the others spin. On cores that have other work, too, the
# others wait for the core of the one that spins: up to 16 times the time, and CPU time (benchmarks/threads.py).
# It is read as torch is loaded.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

try:
    _far = _time.time() >= 9_214_646_400  # the year 2262
except OverflowError:
    _far = True
if _far:  # before anybody else asks what time it is
    from edgead import _far_clock

    _far_clock.install()
