"""How an MMD witness is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.families.options import option
from edgead.families.patches import KINDS, PatchOptions
from edgead.models.usual import SCORES

MMD = "mmd"
KERNELS = ("imq", "gauss")


@dataclass(frozen=True, slots=True)
class MmdOptions(PatchOptions):
    """See the fields' own words."""

    features: str = option("paper", KINDS, metavar="KIND", rare=True)
    rows: int = option(1024, "good patches that are kept, drawn at random: they stand for their density", metavar="N", least=2)
    kernel: str = option("imq", "of patches: inverse multiquadric, which falls slowly, or Gaussian", choices=KERNELS)
    width: float = option(
        1.0, "of the kernel, as a share of the median squared distance of good patches", metavar="X", above=0, rare=True
    )
    score_by: str = option(
        "mean", "mmd: the picture's patches as a whole; or of the map: its worst cell, its mean, the mean of its worst hundredth",
        choices=(MMD, *SCORES),
    )  # fmt: skip
