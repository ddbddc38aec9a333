"""How students are fitted."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from edgead.errors import BadInput
from edgead.families.options import Options, option
from edgead.families.patches import score_option

SIDES = ("17", "33", "65")
STRIDES = (1, 2, 4, 8)
ONLY = {
    "closed": ("ridge",),
    "patches": ("sides", "stride", "teacher_steps", "teacher_batch", "teacher_lr", "taught_by", "weights", "outside"),
}
"""Options that are for one kind."""


@dataclass(frozen=True, slots=True)
class StudentsOptions(Options):
    """See the fields' own words, and :mod:`edgead.families.students.fit` for what they mean."""

    kind: str = option(
        "closed",
        "closed: last layers on the teacher's hidden map, by least squares; thin: small networks, trained; patches: the paper's"
        " networks for patches of 17, 33 and 65 px, teacher and students trained",
        choices=("closed", "thin", "patches"),
    )
    students: int = option(4, "students", metavar="N", least=2, most=16)
    channels: int = option(96, "numbers that the teacher says of a patch", metavar="N", least=4, most=384, rare=True)
    ridge: float = option(
        0.01, "of closed ones, as a share of the mean variance of the hidden activations", metavar="X", above=0, rare=True
    )
    patches: int = option(20_000, "good patches that closed ones see", metavar="N", least=100, rare=True)
    steps: int = option(150, "training steps of thin ones, and of the students of patches", metavar="N", least=1)
    epochs: int = option(0, "passes over the pictures, in the place of steps", metavar="N", usual="none", least=0, rare=True)
    batch: int = option(4, "pictures in a step", metavar="N", least=1, rare=True)
    lr: float = option(2e-3, "peak learning rate", metavar="X", above=0, rare=True)
    falls: bool = option(True, "the learning rate falls to 0 on a cosine", rare=True)
    weight_decay: float = option(1e-5, "of Adam", metavar="X", least=0, rare=True)
    score_by: str = score_option()
    sides: tuple[str, ...] = option(("17", "33", "65"), "of patches, px", metavar="A,B", rare=True)
    stride: int = option(4, "from patch to patch, px: 1 (as in the paper), 2, 4 or 8", metavar="N", least=1, most=8, rare=True)
    teacher_steps: int = option(2000, "steps of the teacher of each side", metavar="N", least=1, rare=True)
    teacher_batch: int = option(64, "patches in a step of it", metavar="N", least=4, rare=True)
    teacher_lr: float = option(2e-4, "learning rate of it", metavar="X", above=0, rare=True)
    taught_by: str = option(
        "pdn", "network that the teachers of patches learn from: pdn (shipped), or resnet18 as in the paper",
        choices=("pdn", "resnet18"), rare=True,
    )  # fmt: skip
    weights: Path | None = option(None, "weights of resnet18", metavar="FILE", usual="none", rare=True)
    outside: Path | None = option(
        None, "pictures of anything, for the teachers of patches", metavar="DIR", usual="drawn ones", folder=True, rare=True
    )

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        for one in fields(self):
            kind = next((kind for kind, names in ONLY.items() if one.name in names), self.kind)
            if kind != self.kind and getattr(self, one.name) != one.default:
                flag = f"--{one.name.replace('_', '-')}"
                raise BadInput(f"{flag} is for --kind {kind}, not for {self.kind}", hint="leave it out")
        if not self.sides or not set(self.sides) <= set(SIDES) or len(set(self.sides)) != len(self.sides):
            told = ",".join(self.sides)[:80] or "none"
            raise BadInput(f"patches of the sides {told} are not usable", hint=f"--sides {','.join(SIDES)}, or some of these")
        if self.stride not in STRIDES:
            raise BadInput(f"a stride of {self.stride} px is not usable", hint="give --stride 1, 2, 4 or 8")
