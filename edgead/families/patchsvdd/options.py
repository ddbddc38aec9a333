"""How a Patch SVDD is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.families.options import Options, option

ENCODERS = ("lite", "paper")
SCORES = ("max", "mean")


@dataclass(frozen=True, slots=True)
class PatchSvddOptions(Options):
    """See the fields' own words, and :mod:`edgead.families.patchsvdd.fit`."""

    encoder: str = option("lite", "of patches: one number vector every 4 px, or the authors' every 2 px", choices=ENCODERS)
    steps: int = option(400, "training steps", metavar="N", least=1)
    batch: int = option(3, "windows of pictures in a step", metavar="N", least=1, rare=True)
    window: int = option(128, "side of a window, px", metavar="PX", least=96, rare=True)
    pairs: int = option(256, "pairs of patches of each size in a step", metavar="N", least=8, rare=True)
    lr: float = option(4e-3, "learning rate of Muon, which falls to 0 on a cosine", metavar="X", above=0, rare=True)
    classifier_lr: float = option(1e-3, "of Adam, which trains what tells the directions", metavar="X", above=0, rare=True)
    together: float = option(
        1e-2, "weight of the loss that keeps a patch and its neighbour together (lambda)", metavar="X", least=0, rare=True
    )
    rows: int = option(1500, "good patches of 32 px that are kept", metavar="N", least=1, rare=True)
    big_rows: int = option(1000, "good patches of 64 px that are kept", metavar="N", least=1, rare=True)
    score_by: str = option("max", "of the map: the largest, as in the paper, or the mean", choices=SCORES)
