"""How a SimpleNet is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.families.options import option
from edgead.families.patches import KINDS, PatchOptions
from edgead.models.usual import QUIET


@dataclass(frozen=True, slots=True)
class SimpleNetOptions(PatchOptions):
    """See the fields' own words. `noise` is sigma and `margin` th of the paper; both learning rates fall to 0 on a cosine."""

    features: str = option(QUIET, KINDS, metavar="KIND", rare=True)
    steps: int = option(
        800, "training steps", metavar="N", least=1, wrong="{} training steps are not usable", hint="give --steps 1 or more"
    )
    batch: int = option(1024, "patches in a step", metavar="N", least=2, rare=True)
    hidden: int = option(
        0, "width of the discriminator's hidden layer", metavar="N", usual="that of the features", least=0, rare=True
    )
    noise: float = option(0.5, "of noisy patches, in deviations of the features", metavar="X", least=0, rare=True)
    margin: float = option(0.5, "that good and noisy patches are told apart by", metavar="X", above=0, rare=True)
    adaptor_lr: float = option(1e-3, "learning rate of the adaptor", metavar="X", above=0, rare=True)
    discriminator_lr: float = option(1e-3, "learning rate of the discriminator", metavar="X", above=0, rare=True)
    weight_decay: float = option(1e-5, "of Adam", metavar="X", least=0, rare=True)
