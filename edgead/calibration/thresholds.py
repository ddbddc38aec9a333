"""A first threshold from good parts only.

With n good scores, the k-th smallest with k = ceil((n + 1)(1 - a)) is exceeded by the next good part with a probability of at
most a, whatever the distribution (the conformal quantile; Vovk et al. 2005). It exists from n = ceil(1 / a) - 1 on (99 for a =
0.01). With fewer, the upper half is extrapolated by an exponential tail: P(score > t) = 0.5 exp(-(t - median) / s), with s the
mean excess over the median; that is heavier than a normal tail, so it errs towards fewer false rejects. Never below the
largest good score seen then. Simulated for a = 0.01 on normal, Gumbel and log-normal scores, fresh good parts are rejected in
0.2 to 1 % (n = 60), 0.4 to 1.6 % (30), 0.7 to 2.1 % (15), 3 to 5 % (5) and 7 to 9 % (3) of cases: below `FEW` it is a rough
start.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.bundle import Threshold
from edgead.errors import BadInput

FEW = 15
"""With fewer good scores no rule is reliable; callers say so."""


def threshold_from_good(scores: npt.NDArray[Any], max_false_reject: float = 0.01) -> Threshold:
    """The threshold that rejects at most about `max_false_reject` of good parts.

    Args:
        scores: float, N (N at least 2), raw model units, of good parts that the model was not trained on.
        max_false_reject: tolerated share of good parts that are NG, 0 < a < 1.

    Returns:
        The value is one float32 step above the chosen score, since scores at or above the threshold are NG.

    Raises:
        BadInput: fewer than two scores, one that is not finite, or a share outside (0, 1).
    """
    if not 0.0 < max_false_reject < 1.0:
        raise BadInput(f"a false reject share of {max_false_reject} is not usable", hint="give a number between 0 and 1")
    ordered = np.sort(np.asarray(scores, np.float64).ravel())
    n = len(ordered)
    if n < 2:
        raise BadInput(f"a threshold cannot be chosen from {n} good scores", hint="hold out at least 2 good images")
    if not bool(np.isfinite(ordered).all()):
        raise BadInput("a good image has a score that is not finite", hint="the model is broken: train it again")
    rank = math.ceil(round((n + 1) * (1.0 - max_false_reject), 9))
    share = f"{100 * max_false_reject:g} %"
    if rank <= n:
        return _above(float(ordered[rank - 1]), f"good score {rank} of {n} held out: at most {share} false rejects")
    median = float(np.median(ordered))
    excess = ordered[ordered > median] - median
    scale = float(excess.mean()) if excess.size else 0.0
    value = max(float(ordered[-1]), median + scale * math.log(0.5 / max_false_reject))
    return _above(value, f"exponential tail over {n} good scores held out: about {share} false rejects")


def _above(value: float, method: str) -> Threshold:
    rounded = np.float32(value)
    while float(rounded) <= value:
        rounded = np.nextafter(rounded, np.float32(np.inf))
    return Threshold(float(rounded), method)
