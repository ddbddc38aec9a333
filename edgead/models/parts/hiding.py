"""Ways of hiding a picture piece after piece: stripes (SCADN), superpixels (SMAI), a moving window; and quarters in another order
(Puzzle-AE). Each is a :class:`edgead.models.parts.masks.Masking`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.models.parts.masks import GREY, Error, Masking, Task
from edgead.models.parts.patterns import COLOURS, coloured, jittered, permutations, reordered, stripes, windows
from edgead.models.parts.slic import SoftSlic

WHITE = 1.0

SHARE = 4
"""A window's side is a quarter of the picture's shorter one."""


class Ways(Masking):
    """Each of K ways hides every pixel once, in one of n masks; of each pass what it had to guess is kept.

    A step of the training hides one mask of one way of each picture, drawn anew.

    Args:
        hidden: float32 K x n x H x W, 1 where a pass does not see the picture.
        weight: of what is hidden in the loss; what is seen counts 1.
        fill: what a hidden place shows.
        kept: the model keeps what is hidden; else it is made anew from the arguments.
    """

    hidden: Tensor

    def __init__(
        self, image_size: tuple[int, int], seed: int, hidden: Tensor, weight: float = 1.0, fill: float = GREY, kept: bool = False
    ) -> None:
        super().__init__(image_size, seed)
        self.ways, self.sets = hidden.shape[:2]
        self.passes, self.weight, self.fill = self.ways * self.sets, weight, fill
        self.register_buffer("hidden", hidden.flatten(0, 1)[:, None].contiguous(), persistent=kept)

    def visible(self) -> Tensor | None:
        return 1.0 - self.hidden

    def hide(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Pictures ... x 3 x H x W with what is hidden in one colour."""
        return x * (1.0 - hidden) + self.fill * hidden

    def of(self, x: Tensor) -> Tensor:
        """What is hidden of pictures, N or 1 x passes x 1 x H x W."""
        return self.hidden[None]

    def see(self, x: Tensor) -> Tensor:
        return self.hide(x[:, None], self.of(x)).flatten(0, 1)

    def each(self, x: Tensor, rebuilt: Tensor, error: Error) -> Tensor:
        """The error of each way, N x K x H x W."""
        own = torch.unflatten(rebuilt, 0, (-1, self.passes)) * self.of(x)
        guessed = torch.unflatten(own, 1, (self.ways, self.sets)).sum(2).flatten(0, 1)  # (N K) x 3 x H x W
        told = error(x.repeat_interleave(self.ways, 0) if self.ways > 1 else x, guessed)
        return torch.unflatten(told, 0, (-1, self.ways)).squeeze(2)

    def tell(self, x: Tensor, rebuilt: Tensor, error: Error) -> Tensor:
        return self.each(x, rebuilt, error).mean(1, keepdim=True)

    def draw(self, x: Tensor, generator: torch.Generator) -> Task:
        drawn = torch.randint(self.passes, (len(x),), generator=generator).to(x.device)
        hidden = self.of(x).expand(len(x), -1, -1, -1, -1)[torch.arange(len(x), device=x.device), drawn]
        return self.task(x, hidden)

    def task(self, x: Tensor, hidden: Tensor) -> Task:
        """Pictures and what is hidden of each, N x 1 x H x W."""
        counts = None if self.weight == 1.0 else 1.0 + (self.weight - 1.0) * hidden
        return Task(self.hide(x, hidden), x, 1.0 - hidden, counts)


class Stripes(Ways):
    """Lying and standing stripes, every other one white (SCADN, Yan et al. 2021). The error of a width is the mean of both; told
    is the largest of all widths, each as a multiple of its own error on good pictures: wide stripes are always rebuilt worse.

    Args:
        cells: widths of stripes, px of a picture of 256 px.
    """

    usual: Tensor

    def __init__(self, image_size: tuple[int, int], seed: int = 0, cells: Sequence[str] = ("8", "16", "32")) -> None:
        widths = [max(1, round(int(px) * min(image_size) / 256)) for px in cells]
        if len(set(widths)) < len(widths):
            raise BadInput(f"stripes of {', '.join(cells)} px of 256 are the same", hint="give --cells further apart")
        super().__init__(image_size, seed, stripes(image_size, widths), weight=4.0, fill=WHITE)
        self.register_buffer("usual", torch.ones(self.ways))  # the mean error of good pictures in each way

    def tell(self, x: Tensor, rebuilt: Tensor, error: Error) -> Tensor:
        told = self.each(x, rebuilt, error) / self.usual[:, None, None]
        return torch.unflatten(told, 1, (-1, 2)).mean(2).amax(1, keepdim=True)

    def task(self, x: Tensor, hidden: Tensor) -> Task:
        made = super().task(x, hidden)
        assert made.weight is not None
        return Task(made.inputs, made.wanted, made.visible, made.weight / 2.5)  # of mean 1, as half of it is hidden


class Windows(Ways):
    """A window that moves over the picture; windows that do not touch are hidden together (:func:`patterns.windows`).

    Args:
        cells: one side of a window, px of a picture of 256 px.
        sets: of hidden windows: a square number, 4 or 9.
    """

    def __init__(self, image_size: tuple[int, int], seed: int = 0, cells: Sequence[str] = ("64",), sets: int = 4) -> None:
        phases = round(sets**0.5)
        if len(cells) != 1 or phases**2 != sets or phases < 2:
            raise BadInput(f"windows of {', '.join(cells)} px in {sets} sets", hint="give one side with --cells, --sets 4 or 9")
        side = max(2, round(int(cells[0]) * min(image_size) / 256))
        super().__init__(image_size, seed, windows(image_size, side, phases), weight=6.0)


class Superpixels(Ways):
    """Cells that follow the picture, those of one of nine colours hidden together (SMAI, Li et al. 2020).

    The paper's are of the picture at hand, one hidden at a time: ``soft`` follows the picture at hand too, with soft borders;
    ``mean`` follows the mean of good pictures, for parts that lie in one place; ``jitter`` are irregular cells.

    Args:
        superpixels: which.
        grid: cells along each axis.
    """

    def __init__(self, image_size: tuple[int, int], seed: int = 0, superpixels: str = "soft", grid: int = 8) -> None:
        cells = coloured(jittered(image_size, grid, seed=seed), grid)
        super().__init__(image_size, seed, cells, weight=COLOURS, kept=superpixels == "mean")
        self.kind, self.slic = superpixels, SoftSlic(image_size, grid)

    def measure(self, pictures: Sequence[Tensor]) -> None:
        """Take the cells from good pictures 1 x 3 x H x W."""
        if self.kind == "mean":
            found = self.slic(torch.cat(list(pictures)).mean(0, keepdim=True)).argmax(1)
            self.hidden.copy_((found == torch.arange(COLOURS, device=found.device)[:, None, None]).float()[:, None])

    def visible(self) -> Tensor | None:
        return None if self.kind == "soft" else super().visible()

    def of(self, x: Tensor) -> Tensor:
        return self.slic(x)[:, :, None] if self.kind == "soft" else super().of(x)


class Puzzle(Masking):
    """The picture's quarters in another order, to be put back (Puzzle-AE, Salehi et al. 2020); in training one of them is grey.

    Told is the mean over some constant orders of the error, each as a multiple of its own error on good pictures.

    Args:
        orders: of the 23, that the graph asks.
    """

    usual: Tensor

    def __init__(self, image_size: tuple[int, int], seed: int = 0, orders: int = 4) -> None:
        super().__init__(image_size, seed)
        if image_size[0] % 2 or image_size[1] % 2:
            raise BadInput(f"{image_size[1]} x {image_size[0]} px have no quarters", hint="give an even --size")
        self.orders = permutations(orders, seed)
        self.ways = self.passes = orders
        self.register_buffer("usual", torch.ones(orders))

    def see(self, x: Tensor) -> Tensor:
        return torch.stack([reordered(x, order) for order in self.orders], 1).flatten(0, 1)

    def each(self, x: Tensor, rebuilt: Tensor, error: Error) -> Tensor:
        """The error of each order, N x K x H x W."""
        return torch.unflatten(error(x.repeat_interleave(self.passes, 0), rebuilt), 0, (-1, self.passes)).squeeze(2)

    def tell(self, x: Tensor, rebuilt: Tensor, error: Error) -> Tensor:
        return (self.each(x, rebuilt, error) / self.usual[:, None, None]).mean(1, keepdim=True)

    def draw(self, x: Tensor, generator: torch.Generator) -> Task:
        every, height, width = permutations(23), x.shape[2] // 2, x.shape[3] // 2
        made = []
        for i in range(len(x)):
            order, grey = (int(torch.randint(n, (1,), generator=generator)) for n in (23, 4))
            one = reordered(x[i : i + 1], every[order])
            top, left = grey // 2 * height, grey % 2 * width
            one[..., top : top + height, left : left + width] = one[..., top : top + height, left : left + width].mean(
                1, keepdim=True
            )
            made.append(one)
        return Task(torch.cat(made), x)
