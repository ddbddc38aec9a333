"""How Gaussians are fitted."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.errors import BadInput
from edgead.families.options import option
from edgead.families.patches import BackboneOptions, score_option

PLACES = ("own", "shared")


@dataclass(frozen=True, slots=True)
class GaussianOptions(BackboneOptions):
    """See the fields' own words. Features are averaged over 3 x 3 cells, the outermost ones as loud as the others: each place has
    a mean and a width of its own."""

    means: str = option("own", "each place of the picture has a mean of its own, or all share one", choices=PLACES)
    covariance: str = option("own", "each place has a covariance of its own, or all share one", choices=PLACES)
    channels: int = option(100, "of the features that are taken, drawn at random; 0: all", metavar="N", least=0)
    ridge: float = option(
        0.01, "added to the variances, as a share of their mean: how much of what good pictures never showed is told",
        metavar="X", above=0, rare=True,
    )  # fmt: skip
    cell: int = option(
        8, "side of a place, px: layers that are finer are averaged, coarser ones enlarged", metavar="PX", least=1, most=64
    )
    sigma: float = option(
        0.0, "the map is smoothed by a Gaussian of so many px before the score; 0: it is not", metavar="PX", least=0
    )
    score_by: str = score_option()

    def __post_init__(self) -> None:
        super(GaussianOptions, self).__post_init__()  # a slotted dataclass is made anew: super() would look for the first one
        if self.means == "shared" and self.covariance == "own":
            raise BadInput(
                "covariances of each place about one mean for all are not fitted", hint="give --means own, or --covariance shared"
            )
