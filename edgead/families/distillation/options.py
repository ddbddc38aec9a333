"""How a student of feature maps is fitted."""

from __future__ import annotations

from dataclasses import dataclass, fields

from edgead.errors import BadInput
from edgead.families.options import option
from edgead.families.patches import BackboneOptions, score_option

KINDS = ("small", "twin", "reverse", "mirror")
OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True, slots=True)
class DistillationOptions(BackboneOptions):
    """See the fields' own words, and :mod:`edgead.families.distillation.rebuilders` for the students."""

    rebuilder: str = option(
        "small",
        "the student: a small one or the backbone's twin, which see the picture; reverse or mirror (of a ResNet), which see the"
        " teacher's maps through a bottleneck",
        choices=KINDS,
    )
    steps: int = option(120, "training steps", metavar="N", least=1)
    epochs: int = option(0, "passes over the pictures, in the place of steps", metavar="N", usual="none", least=0, rare=True)
    batch: int = option(8, "pictures in a step", metavar="N", least=1, rare=True)
    width: int | None = option(
        None, "channels of a small or reverse student", metavar="N", usual="32, of a reverse one 64", least=8, most=512, rare=True
    )
    optimizer: str = option("adam", "adam, or sgd with a momentum of 0.9", choices=OPTIMIZERS, rare=True)
    lr: float = option(3e-3, "peak learning rate", metavar="X", above=0, rare=True)
    falls: bool = option(True, "the learning rate falls to 0 on a cosine", rare=True)
    beta: float = option(0.9, "first beta of adam", metavar="X", least=0, most=0.999, rare=True)
    weight_decay: float = option(1e-4, "of the optimizer", metavar="X", least=0, rare=True)
    whole: bool = option(
        False, "the loss is the cosine of a whole map as one vector (Reverse Distillation), not of each cell", rare=True
    )
    combine: str = option("sum", "how the layers' maps are joined", choices=("sum", "product"), rare=True)
    balanced: bool = option(True, "each layer's map is divided by its mean on held-out good pictures", rare=True)
    score_by: str = score_option("top")
    at_picture: str = option(
        "none",
        "as the papers do, join the maps at the picture's size, plain or smoothed by a Gaussian of 4 px, and score the largest",
        choices=("none", "plain", "smoothed"),
        rare=True,
    )

    def __post_init__(self) -> None:
        super(DistillationOptions, self).__post_init__()  # a slotted dataclass is made anew: super() would look for the first one
        not_for = {
            "width": f"--rebuilder {self.rebuilder}" if self.rebuilder in ("twin", "mirror") else "",
            "beta": "--optimizer sgd" if self.optimizer == "sgd" else "",
            "score_by": f"--at-picture {self.at_picture}" if self.at_picture != "none" else "",
        }
        for one in fields(self):
            if not_for.get(one.name) and getattr(self, one.name) != one.default:
                raise BadInput(
                    f"--{one.name.replace('_', '-')} is nothing for {not_for[one.name]}", hint="leave one of the two out"
                )
