"""How a reconstruction is mixed and fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgead.errors import BadInput
from edgead.families.options import Options, option
from edgead.families.reconstruction.kinds import MASKINGS, NECKS, NETWORKS, PARTS

ERRORS = ("l1", "l2", "ssim", "msgms", "structure")
"""Of :data:`edgead.models.parts.errors.ERRORS`."""

SCORES = ("max", "mean", "top")
REFERENCES = ("none", "excess", "squared", "relative")
CRITICS = ("hinge", "nsgan", "wgan")
"""Of :data:`edgead.models.learning.adversary.LOSSES`."""

LIGHTS = ("as_is", "even")


def weights(texts: tuple[str, ...]) -> dict[str, float]:
    """``NAME`` or ``NAME:WEIGHT`` each -> weights. Raises ValueError: one is neither, or named twice."""
    found: dict[str, float] = {}
    for text in texts:
        name, colon, weight = text.partition(":")
        if name not in ERRORS or name in found or (colon and not 0 < float(weight) < math.inf):
            raise ValueError(text)
        found[name] = float(weight) if colon else 1.0
    if not found:
        raise ValueError("nothing")
    return found


def _weighable(texts: tuple[str, ...]) -> bool:
    try:
        weights(texts)
    except ValueError:
        return False
    return True


def _sides(texts: tuple[str, ...]) -> bool:
    return bool(texts) and len(set(texts)) == len(texts) and all(text.isdecimal() and 0 < int(text) <= 4096 for text in texts)


def _errors(default: tuple[str, ...], help: str) -> Any:
    hint = f"names of {', '.join(ERRORS)}, each perhaps with a weight: l2:1,ssim:0.5"
    return option(default, help, metavar="A:W,B:W", check=_weighable, wrong="errors {} are not usable", hint=hint)


@dataclass(frozen=True, slots=True)
class ReconstructionOptions(Options):
    """See the fields' own words. Those whose default is None belong to a kind of network, masking or neck and have its usual
    value (:mod:`edgead.families.reconstruction.kinds`)."""

    network: str = option("ae", "that rebuilds", choices=tuple(NETWORKS))
    masking: str = option("none", "what is hidden of a picture before", choices=tuple(MASKINGS))
    neck: str = option("none", "what the code goes through", choices=tuple(NECKS))
    loss: tuple[str, ...] = _errors(("l2",), "errors that are trained on")
    error: tuple[str, ...] = _errors(("l2",), "errors that the map shows")
    score_by: str = option("max", "of the map: its maximum, mean, or mean of its highest hundredth", choices=SCORES)
    smooth: int = option(11, "side of the map's mean filter, px of 256", metavar="PX", least=0)
    reference: str = option(
        "none",
        "the error of good pictures at each place: what is above it is told, the squared difference, or how many times it;"
        " for parts that lie in one place",
        choices=REFERENCES,
    )
    light: str = option(
        "as_is", "pictures as they are, or each with its mean at mid grey, so that brightness says nothing", choices=LIGHTS
    )
    steps: int = option(800, "training steps", metavar="N", least=1)
    batch: int = option(8, "pictures in a step", metavar="N", least=1, most=1024, rare=True)
    lr: float = option(1e-3, "learning rate of Adam, which falls to 0 on a cosine", metavar="X", above=0, rare=True)
    weight_decay: float = option(0.0, "of Adam", metavar="X", least=0, rare=True)
    flips: bool = option(False, "pictures are mirrored at random, for textures", rare=True)
    norm: bool = option(True, "batch norms while it is trained", rare=True)
    bf16: bool | None = option(
        None, "the network is trained in bfloat16", usual="where the CPU has instructions for it", rare=True
    )
    adversary: float = option(
        0.0, "weight of a critic that tells rebuilt pictures from real ones", metavar="X", least=0, rare=True
    )
    critic: str | None = option(None, "what the critic's loss is", choices=CRITICS, usual="hinge", rare=True)
    critic_lr: float | None = option(
        None, "its learning rate, as a share of the network's", metavar="X", usual="1", above=0, rare=True
    )
    neck_share: float = option(
        0.0, "of the neck's own distance in map and score, both in deviations over good pictures", metavar="X", least=0, most=1,
        rare=True,
    )  # fmt: skip
    base: int | None = option(
        None, "channels of the network's first layer", metavar="N", usual="16", least=1, most=512, rare=True
    )
    levels: int | None = option(None, "halvings of a unet", metavar="N", usual="4", least=1, most=8, rare=True)
    stem: int | None = option(None, "stride of a unet's first convolution", metavar="N", usual="1", least=1, most=2, rare=True)
    skips: bool | None = option(None, "skip connections of a unet", usual="true", rare=True)
    blocks: int | None = option(None, "residual blocks", metavar="N", usual="4", least=1, most=64, rare=True)
    cells: tuple[str, ...] | None = option(
        None, "sides of the cells that are hidden, px", metavar="A,B", usual="by the masking",
        check=_sides, wrong="cells {} are not usable", hint="give whole numbers, e.g. --cells 4,8,16", rare=True,
    )  # fmt: skip
    sets: int | None = option(None, "that cells are dealt into", metavar="N", usual="3", least=2, most=64, rare=True)
    superpixels: str | None = option(
        None, "cells that follow the picture at hand or the mean of good ones, or irregular ones", usual="soft",
        choices=("soft", "mean", "jitter"), rare=True,
    )  # fmt: skip
    grid: int | None = option(None, "superpixels along each axis", metavar="N", usual="8", least=3, most=32, rare=True)
    orders: int | None = option(
        None, "of a picture's quarters that are asked", metavar="N", usual="4", least=1, most=23, rare=True
    )
    patch: int | None = option(None, "side of a transformer's patch, px", metavar="PX", usual="16", least=2, rare=True)
    heads: int | None = option(None, "of a transformer's attention", metavar="N", usual="4", least=1, rare=True)
    window: int | None = option(
        None, "patches along each axis that a patch is told from; 0: all", metavar="N", usual="7", least=0, rare=True
    )
    moves: int = option(
        0, "steps that a picture is moved towards what the network rebuilds, to show how far it went; 0: none", metavar="N",
        least=0, most=50, rare=True,
    )  # fmt: skip
    alpha: float | None = option(None, "length of such a step", metavar="X", usual="2", above=0, rare=True)
    keep: float | None = option(None, "what it costs to leave the picture", metavar="X", usual="0.05", least=0, rare=True)
    vector: int | None = option(
        None,
        "numbers that a picture goes through",
        metavar="N",
        usual="100, 64 of a convex neck, 32 of a wae",
        least=1,
        most=4096,
        rare=True,
    )
    beta: float | None = option(None, "weight of a vae's divergence", metavar="X", usual="1", least=0, rare=True)
    match: float | None = option(
        None, "weight of a wae's discrepancy from a normal distribution", metavar="X", usual="1", least=0, rare=True
    )
    rows: int | None = option(None, "that a neck remembers", metavar="N", usual="by the neck", least=2, most=20_000, rare=True)
    temperature: float | None = option(
        None, "of a memory's addressing; 1 in the paper", metavar="X", usual="10", above=0, rare=True
    )
    shrink: float | None = option(
        None, "weights up to this, divided by the rows, are dropped", metavar="X", usual="1", least=0, rare=True
    )
    entropy: float | None = option(None, "weight of a memory's entropy", metavar="X", usual="0.0002", least=0, rare=True)
    projection: float | None = option(
        None, "weight of a convex neck's distance to its rows", metavar="X", usual="0.1", least=0, rare=True
    )
    compact: float | None = option(
        None, "weight of the distance to the nearest prototype", metavar="X", usual="0.01", least=0, rare=True
    )
    separate: float | None = option(None, "weight that keeps prototypes apart", metavar="X", usual="0.01", least=0, rare=True)

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        kinds = {part: table[getattr(self, part)] for part, table in PARTS.items()}
        taken = {name for kind in kinds.values() for name in kind.takes}
        every = {name for table in PARTS.values() for kind in table.values() for name in kind.takes}
        for name in sorted(every - taken):
            if getattr(self, name) is not None:
                chosen = ", ".join(f"{part} {getattr(self, part)}" for part in PARTS)
                owners = [f"--{part} {kind}" for part, table in PARTS.items() for kind in table if name in table[kind].takes]
                raise BadInput(f"--{name.replace('_', '-')} is nothing for {chosen}", hint=f"it is for {' or '.join(owners)}")
        for name in ("critic", "critic_lr"):
            if getattr(self, name) is not None and not self.adversary:
                flag = f"--{name.replace('_', '-')}"
                raise BadInput(f"{flag} is nothing without an adversary", hint="give its weight with --adversary")
        if self.neck_share and self.neck not in TELLING:
            raise BadInput(f"--neck-share is nothing for neck {self.neck}", hint=f"it is for --neck {' or '.join(TELLING)}")
        if self.neck == "wae" and (self.network not in MOVING or self.masking != "none"):
            raise BadInput(
                f"--neck wae, through which all of a picture goes, is nothing for network {self.network}, masking {self.masking}",
                hint=f"it is for --network {' or '.join(MOVING)}, nothing hidden",
            )
        if self.neck == "memory":
            memory = self.part("neck")
            most = min(memory["rows"], math.exp(min(2 * memory["temperature"], 50)))  # of a softmax of cosines, by its mean
            if memory["shrink"] >= most:
                raise BadInput(f"a shrink of {memory['shrink']:g} leaves nothing of a memory", hint=f"give one below {most:.3g}")
        if not self.moves and (self.alpha is not None or self.keep is not None):
            raise BadInput("--alpha and --keep are nothing without steps that a picture is moved", hint="give --moves 1 or more")
        if self.moves and (self.network not in MOVING or self.masking != "none" or self.neck not in ("none", "vector", "vae")):
            raise BadInput(
                f"--moves is nothing for network {self.network}, masking {self.masking}, neck {self.neck}",
                hint=f"it is for --network {' or '.join(MOVING)}, nothing hidden, and --neck none, vector or vae",
            )

    def moving(self) -> dict[str, Any] | None:
        """The same of the steps that a picture is moved; None: it stays."""
        if not self.moves:
            return None
        alpha, keep = (usual if own is None else own for own, usual in ((self.alpha, ALPHA), (self.keep, KEEP)))
        return {"moves": self.moves, "alpha": alpha, "keep": keep}

    def part(self, part: str) -> dict[str, Any]:
        """Kind and arguments of a part, as model.json keeps them."""
        chosen = getattr(self, part)
        given = {name: getattr(self, name) for name in PARTS[part][chosen].takes}
        usual: Mapping[str, Any] = PARTS[part][chosen].takes
        values = {name: usual[name] if value is None else value for name, value in given.items()}
        return {"kind": chosen, **{name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}}


ALPHA, KEEP = 2.0, 0.05

MOVING = ("ae", "bergmann")
"""Networks whose way back is known (:mod:`edgead.models.parts.project`)."""

TELLING = ("memory", "convex", "prototypes", "wae")
"""Necks that tell how far a code is from what they know."""
