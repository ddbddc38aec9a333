"""How an EfficientAD is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgead.errors import BadInput
from edgead.families.options import Options, option

SIZES = ("small", "medium")
STARTS = ("fitted", "random")


@dataclass(frozen=True, slots=True)
class EfficientAdOptions(Options):
    """See the fields' own words, and :mod:`edgead.families.efficientad.fit` for what they mean."""

    steps: int = option(0, "joint training steps after the start", metavar="N", least=0, wrong="{} steps cannot train")
    teacher: Path | None = option(None, "PDN teacher made by: edgead distill", metavar="FILE", usual="shipped")
    pdn: str = option("small", "network size", choices=SIZES)
    outside: Path | None = option(
        None, "pictures of anything else, for the penalty", metavar="DIR", usual="drawn ones", folder=True
    )
    start: str = option("fitted", "of the student: fitted by least squares, or random as in the paper", choices=STARTS, rare=True)
    ae_steps: int = option(300, "steps of the autoencoder alone before a fitted start", metavar="N", least=1, rare=True)
    batch: int = option(
        4, "crops in a step; half as many outside crops and autoencoder pictures are added", metavar="N", least=1, rare=True
    )
    lr: float = option(2e-3, "peak learning rate of Muon", metavar="X", above=0, rare=True)
    ridge: float = option(
        0.1, "of the fitted start, as a share of the mean variance of the hidden activations", metavar="X", above=0, rare=True
    )
    patches: int = option(20_000, "good patches that the fitted start sees", metavar="N", least=1, rare=True)
    bf16: bool | None = option(
        None, "matrix products of the training in bfloat16", usual="where the CPU has instructions for it", rare=True
    )

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        if self.start == "random" and not self.steps:
            raise BadInput(f"{self.steps} steps with start {self.start!r} cannot train", hint="give --steps 1 or more")
