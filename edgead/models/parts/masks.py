"""What is hidden of a picture before a network rebuilds it, and how what it rebuilt is compared.

How to add one: a class derived from :class:`Masking` that is made by ``Class(image_size, seed, **takes)``, and a line with its
name and what it takes in the table of a family (:data:`edgead.families.reconstruction.kinds.MASKINGS`). What it draws at random
for the graph it draws in `__init__`, from `seed`, into buffers that are saved with the model: the answer to a picture never
changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgead.errors import BadInput

GREY = 0.5
"""What a hidden place shows: between black and white, which is 0 to the first convolution."""

Error = Callable[[Tensor, Tensor], Tensor]
"""Pictures and rebuilt ones, M x 3 x H x W -> M x 1 x H x W (:mod:`edgead.models.parts.errors`)."""


def _same(rebuilt: Tensor) -> Tensor:
    return rebuilt


@dataclass(frozen=True, slots=True)
class Task:
    """A step of the training, of N pictures.

    Attributes:
        inputs: what the network sees, float32 B x 3 x H x W.
        wanted: what shall come out, N x 3 x H x W.
        visible: B x 1 x H x W, 1 where `inputs` show the picture; None: everywhere.
        weight: of the loss of each pixel, N x 1 x H x W; None: 1.
        join: what the network rebuilt, B x 3 x H x W -> N x 3 x H x W.
    """

    inputs: Tensor
    wanted: Tensor
    visible: Tensor | None = None
    weight: Tensor | None = None
    join: Callable[[Tensor], Tensor] = field(default=_same)


class Masking(nn.Module):
    """None: the network sees the picture.

    Attributes:
        passes: pictures that the network rebuilds for one; they go through it as one batch.
    """

    passes = 1

    def __init__(self, image_size: tuple[int, int], seed: int = 0) -> None:
        super().__init__()
        self.image_size, self.seed = image_size, seed

    def see(self, x: Tensor) -> Tensor:
        """N x 3 x H x W -> what the network sees, (N passes) x 3 x H x W, all passes of a picture in a row."""
        return x

    def visible(self) -> Tensor | None:
        """passes x 1 x H x W, 1 where a pass sees the picture; None: everywhere."""
        return None

    def tell(self, x: Tensor, rebuilt: Tensor, error: Error) -> Tensor:
        """The map of each picture, N x 1 x H x W, from all its passes."""
        return error(x, rebuilt)

    def draw(self, x: Tensor, generator: torch.Generator) -> Task:
        """What a training step asks of the network."""
        return Task(x, x)


class Disjoint(Masking):
    """Square cells dealt at random into sets, each hidden in turn; of each pass what it had to guess is kept (RIAD, Zavrtanik et
    al. 2021). The maps of several sizes of cells are averaged. Sizes and cells of a training step are drawn anew, those of the
    graph are constants.

    Args:
        cells: sides in px.
        sets: n.
    """

    labels: Tensor

    def __init__(
        self, image_size: tuple[int, int], seed: int = 0, cells: Sequence[str] = ("4", "8", "16"), sets: int = 3
    ) -> None:
        super().__init__(image_size, seed)
        self.cells, self.sets = [int(side) for side in cells], sets
        for side in self.cells:
            if image_size[0] % side or image_size[1] % side:
                raise BadInput(
                    f"cells of {side} px do not fill pictures of {image_size[0]} x {image_size[1]} px",
                    hint="give sides with --cells that divide height and width, or another --size",
                )
        self.passes = len(self.cells) * sets
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("labels", torch.stack([self.deal(side, generator) for side in self.cells]))

    def deal(self, side: int, generator: torch.Generator) -> Tensor:
        """The set that each pixel is in, uint8 H x W; the sets are as large as each other, but for one cell."""
        rows, columns = self.image_size[0] // side, self.image_size[1] // side
        order = torch.randperm(rows * columns, generator=generator)
        dealt = torch.empty(rows * columns, dtype=torch.uint8)
        dealt[order] = (torch.arange(rows * columns) % self.sets).to(torch.uint8)
        return dealt.view(rows, columns).repeat_interleave(side, 0).repeat_interleave(side, 1)

    def hidden(self, labels: Tensor) -> Tensor:
        """uint8 K x H x W -> float32 (K sets) x 1 x H x W, 1 where a pass does not see the picture."""
        numbers = torch.arange(self.sets, device=labels.device).view(1, -1, 1, 1)
        return (labels[:, None] == numbers).flatten(0, 1)[:, None].to(torch.float32)

    def visible(self) -> Tensor:
        return 1.0 - self.hidden(self.labels)

    def see(self, x: Tensor) -> Tensor:
        return hide(x, self.hidden(self.labels))

    def tell(self, x: Tensor, rebuilt: Tensor, error: Error) -> Tensor:
        guessed = self.guessed(rebuilt, self.hidden(self.labels))  # (N K) x 3 x H x W
        sizes = len(self.cells)
        told = error(x.repeat_interleave(sizes, 0) if sizes > 1 else x, guessed)
        return torch.unflatten(told, 0, (-1, sizes)).mean(1)

    def guessed(self, rebuilt: Tensor, hidden: Tensor) -> Tensor:
        """What was hidden, of all sets together: (N K sets) x 3 x H x W -> (N K) x 3 x H x W."""
        own = torch.unflatten(rebuilt, 0, (-1, len(hidden))) * hidden
        return torch.unflatten(own.flatten(0, 1), 0, (-1, self.sets)).sum(1)

    def draw(self, x: Tensor, generator: torch.Generator) -> Task:
        side = self.cells[int(torch.randint(len(self.cells), (1,), generator=generator))]
        hidden = self.hidden(self.deal(side, generator)[None]).to(x.device)
        visible = (1.0 - hidden).repeat(len(x), 1, 1, 1)
        return Task(hide(x, hidden), x, visible, join=lambda rebuilt: self.guessed(rebuilt, hidden))


def hide(x: Tensor, hidden: Tensor) -> Tensor:
    """N x 3 x H x W and P x 1 x H x W (1: hidden) -> (N P) x 3 x H x W, all P of a picture in a row."""
    return (x[:, None] * (1.0 - hidden) + GREY * hidden).flatten(0, 1)
