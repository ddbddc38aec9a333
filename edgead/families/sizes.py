"""What the choice of the input size (:mod:`edgead.training.sizing`) needs to know of a family: its size rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgead.machine import cpu_flags, has_int8_dot, usable_cores

if TYPE_CHECKING:
    from edgead.models.detector import Detector

USUAL_PX = 256
"""Below this side nothing is tried unless the pictures or a given budget want it: 32 x 32 patches are few already."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What the exported engine of a family needs of PyTorch's time on one thread: the engine's milliseconds (`edgead export`,
    OpenVINO; docs/performance.md) over PyTorch's of ``python -m benchmarks.sizes --only ms``, one Zen 4 with VNNI, 128 to 512 px:
    ours are within a fifth of these. Families on a backbone's features have SimpleNet's FP32 (two of them needed 0.97 and 1.05 of
    its share); where INT8 was not measured, its figure is FP32's, and a smaller size may be chosen than would do.

    Attributes:
        fp32, int8: on one thread as well.
        threads: with t of them the t-th part to this power.
    """

    fp32: float
    int8: float
    threads: float

    def factor(self) -> float:
        """From PyTorch's milliseconds on one thread to the engine's on this machine: INT8 where the CPU has instructions for it,
        on all cores."""
        own = self.int8 if has_int8_dot(cpu_flags()) else self.fp32
        return float(own / usable_cores() ** self.threads)


class SizeRule:
    """How sizes of one model to be are tried.

    Args:
        options: as it will be fitted.
        given: names of those that the user gave, which stay as they are.
    """

    engine: ClassVar[Engine]
    always: ClassVar[bool] = False
    """A size is chosen also where nobody gives a budget; else its method's own one is taken."""
    grows: ClassVar[bool] = False
    """Larger sizes than its method's own one are tried, for it sees more of small defects there, as the quick model does."""

    def __init__(self, options: Any, given: Collection[str] = ()) -> None:
        self.options, self.given = options, given

    def sides(self) -> tuple[int, int]:
        """What a side is a multiple of, and its least, px."""
        raise NotImplementedError

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        """A network that takes as long as the fitted one, for pictures of `size` (height, width) and so many :meth:`banks`."""
        raise NotImplementedError

    def banks(self, area: int, pictures: int) -> list[int | None]:
        """Rows that are tried at a size of so many px, the most first, where a family's time depends on them; else one None.

        Args:
            pictures: so many are trained on.
        """
        return [None]

    def chosen(self, rows: int | None, area: int) -> dict[str, Any]:
        """Options that go with a size of so many px and with these rows."""
        return {}

    def quick(self) -> Mapping[str, Any]:
        """Options of the quick model (:data:`edgead.families.QUICK`) that sizes are judged by, such that it sees what this
        family will."""
        return {}
