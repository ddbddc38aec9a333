"""How a DRAEM is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.families.options import Options, option


@dataclass(frozen=True, slots=True)
class DraemOptions(Options):
    """See the fields' own words, and :mod:`edgead.families.draem.fit`."""

    steps: int = option(300, "training steps", metavar="N", least=1)
    batch: int = option(4, "pictures in a step; on half of them something is drawn", metavar="N", least=2, rare=True)
    width: int = option(8, "channels of the first level of the network that rebuilds", metavar="N", least=8, rare=True)
    segment_width: int = option(8, "the same of the network that compares", metavar="N", least=8, rare=True)
    lr: float = option(1e-3, "learning rate of Adam, a fifth after 80 % and again after 90 %", metavar="X", above=0, rare=True)
    smooth: int = option(
        21, "side of the square whose mean is the score, px; odd", metavar="PX", least=1, rare=True, check=lambda k: k % 2 == 1,
        wrong="a square of {} px has no middle", hint="give an odd number",
    )  # fmt: skip
