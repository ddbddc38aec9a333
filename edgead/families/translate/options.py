"""How a translation is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.families.options import Options, option

SCORES = ("class", "max", "mean", "top")


@dataclass(frozen=True, slots=True)
class TranslateOptions(Options):
    """See the fields' own words."""

    base: int = option(8, "channels of the first level", metavar="N", least=4, most=256)
    score_by: str = option(
        "class",
        "what the score is: of the class head, or of the map its maximum, mean, or mean of its worst hundredth",
        choices=SCORES,
    )
    steps: int = option(160, "training steps", metavar="N", least=1)
    batch: int = option(3, "good pictures, and as many of defects, in a step", metavar="N", least=2, rare=True)
    lr: float = option(5e-4, "learning rate of Adam", metavar="X", above=0, rare=True)
    critic_steps: int = option(1, "of the critic before each of the translation", metavar="N", least=1, rare=True)
    adversary: float = option(1.0, "weight of being taken for real", metavar="X", least=0, rare=True)
    identity: float = option(50.0, "weight of leaving a picture of its own kind as it is", metavar="X", least=0, rare=True)
    cycle: float = option(50.0, "weight of coming back from the other kind", metavar="X", least=0, rare=True)
    flips: bool = option(True, "pictures are mirrored at random", rare=True)
