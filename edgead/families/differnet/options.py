"""How a DifferNet is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.families.options import option
from edgead.families.patches import BackboneOptions
from edgead.models.usual import SCORES

LATENT = "latent"
TURNS = ("1", "4", "8")


@dataclass(frozen=True, slots=True)
class DifferNetOptions(BackboneOptions):
    """See the fields' own words. The bound of the scales (alpha) is 3 and Adam's betas .8, as in the authors' code."""

    scales: int = option(3, "sizes at which the picture is seen: whole, half, a quarter ...", metavar="N", least=1, most=4)
    turns: str = option(
        "1", "pictures that are judged together: itself; its flips; of square ones also its quarter turns", choices=TURNS
    )
    blocks: int = option(6, "of the flow, two couplings each", metavar="N", least=1, most=32)
    hidden: int = option(256, "width inside a coupling", metavar="N", least=1, most=4096)
    depth: int = option(2, "layers of that width inside a coupling", metavar="N", least=1, most=8, rare=True)
    steps: int = option(200, "training steps at most; the best state on held-out good pictures stays", metavar="N", least=1)
    batch: int = option(64, "vectors in a step", metavar="N", least=2, rare=True)
    lr: float = option(5e-4, "learning rate", metavar="X", above=0, rare=True)
    weight_decay: float = option(1e-5, "of Adam", metavar="X", least=0, rare=True)
    score_by: str = option(
        LATENT, "latent: the whole picture's distance; or of the map: its worst cell, its mean, the mean of its worst hundredth",
        choices=(LATENT, *SCORES),
    )  # fmt: skip
