"""edgead: trained visual anomaly detectors, verified and running on the box beside the camera."""

import time as _time

__version__ = "0.1.0"

try:
    _far = _time.time() >= 9_214_646_400  # the year 2262
except OverflowError:
    _far = True
if _far:  # before anybody else asks what time it is
    from edgead import _far_clock

    _far_clock.install()
