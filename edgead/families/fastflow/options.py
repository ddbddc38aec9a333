"""How a FastFlow is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.families.options import option
from edgead.families.patches import BackboneOptions, score_option


@dataclass(frozen=True, slots=True)
class FastFlowOptions(BackboneOptions):
    """See the fields' own words. Convolutions are of 3 and 1 px by turns, as the paper has them for residual networks."""

    flow_steps: int = option(8, "couplings of each layer's flow", metavar="N", least=1, most=64)
    ratio: float = option(
        1.0, "hidden channels of a coupling, as a share of those it reads", metavar="X", above=0, most=4, rare=True
    )
    steps: int = option(225, "training steps at most; the best state on held-out good pictures stays", metavar="N", least=1)
    batch: int = option(16, "pictures in a step", metavar="N", least=1, rare=True)
    lr: float = option(1e-3, "learning rate", metavar="X", above=0, rare=True)
    weight_decay: float = option(1e-5, "of Adam", metavar="X", least=0, rare=True)
    score_by: str = score_option()
