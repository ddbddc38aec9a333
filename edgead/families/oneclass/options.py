"""How a one-class model is fitted."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from edgead.errors import BadInput
from edgead.families.options import Options, option
from edgead.models.usual import SCORES
from edgead.published import DEFAULT

NETWORKS = ("head", "critic")
SYNTHETIC = ("confetti", "cut_paste", "smooth_blend", "stripes", "perlin")
HISTORIES = ("autoencoder", "gan")

OF_HEAD = ("backbone", "layers", "weights", "pool")
OF_CRITIC = ("history_of", "history_steps", "history_width", "history_lr", "snapshots", "drawn")
"""Options that only one of the networks has."""


def _known(kinds: object) -> bool:
    return isinstance(kinds, tuple) and bool(kinds) and all(kind in SYNTHETIC for kind in kinds)


@dataclass(frozen=True, slots=True)
class OneClassOptions(Options):
    """See the fields' own words, and :mod:`edgead.families.oneclass.fit`."""

    network: str = option("head", "what judges: a head on a backbone's features, or a critic on the picture", choices=NETWORKS)
    backbone: str = option(DEFAULT, "of the head: network that describes patches", metavar="NAME", rare=True)
    layers: tuple[str, ...] | None = option(
        None,
        "of the head: layers of the backbone that are taken",
        metavar="A,B",
        usual="as the backbone has them",
        rare=True,
    )
    weights: Path | None = option(
        None, "of the head: weights of the backbone", metavar="FILE", usual="as edgead weights list shows, or fetched"
    )
    pool: int = option(
        600, "of the head: pictures with made up defects, drawn once; 0: others at every step, which takes ten times as long",
        metavar="N", least=0, rare=True,
    )  # fmt: skip
    steps: int = option(600, "training steps", metavar="N", least=1)
    batch: int = option(6, "good pictures in a step; as many with defects are added", metavar="N", least=2, rare=True)
    width: int = option(64, "channels of the judge", metavar="N", least=8, rare=True)
    lr: float = option(1e-3, "learning rate, which falls to 0 on a cosine", metavar="X", above=0, rare=True)
    synthetic: tuple[str, ...] = option(
        SYNTHETIC, "defects that are made up", metavar="A,B", usual="all", check=_known,
        wrong="synthetic defects {} are not known", hint=f"choose from {', '.join(SYNTHETIC)}",
    )  # fmt: skip
    score_by: str = option("mean", "of the cells: the largest, the mean, or the mean of the top hundredth", choices=SCORES)
    sigma: float = option(10.0, "of the Gaussian that a cell speaks for in the map, px", metavar="PX", above=0, rare=True)
    history_of: str = option(
        "autoencoder", "of a critic: what has a history, an autoencoder or a GAN", choices=HISTORIES, rare=True
    )
    history_steps: int = option(200, "of a critic: training steps of what has a history", metavar="N", least=1, rare=True)
    history_width: int = option(8, "of a critic: channels of the first level of that", metavar="N", least=4, rare=True)
    history_lr: float = option(2e-3, "of a critic: learning rate of that", metavar="X", above=0, rare=True)
    snapshots: int = option(8, "of a critic: states of the history", metavar="N", least=1, rare=True)
    drawn: float = option(
        0.5, "of a critic: share of its odd pictures that have a made up defect", metavar="SHARE", least=0, most=1, rare=True
    )

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        other, kept = (OF_CRITIC, "critic") if self.network == "head" else (OF_HEAD, "head")
        for one in fields(self):
            if one.name in other and getattr(self, one.name) != one.default:
                raise BadInput(
                    f"--{one.name.replace('_', '-')} is for --network {kept}, not for {self.network}", hint="leave it out"
                )
