"""What lies between encoder and decoder, so that a network cannot hand on everything that it sees.

A neck is made for a code of C channels and h x w cells. Its `forward` (B x C x h x w -> the same shape) is what is exported:
nothing in it is drawn, and nothing moves. Products with its memory have the constant on the left, which keeps them out of INT8
(:mod:`edgead.calibration.int8.products`): their differences go through a softmax.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.parts.convnets import LEAK

MOST_LOG_VARIANCE = 8.0
EDGE = 1e-2
"""A remembered row's weight is dropped over this share of the threshold, not at it: there an engine's last bit would bring a row
or leave it out (error of an FP32 engine, by `benchmarks.methods`: 3e-4 of a map's range on elpv when it was dropped at once)."""


class Neck(nn.Module):
    """None: all of the code goes on.

    Attributes:
        relative: the penalty of :meth:`learn` is a share of the loss, not an amount.
    """

    relative = False

    def __init__(self, channels: int, grid: tuple[int, int], values: int) -> None:
        """
        Args:
            channels, grid: of the code.
            values: of a picture, 3 H W.
        """
        super().__init__()
        self.channels, self.grid, self.values = channels, grid, values

    def forward(self, code: Tensor) -> Tensor:
        return code

    def learn(self, code: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `forward`, in training -> what the decoder gets, and a penalty that is added to the loss."""
        return self(code), code.new_zeros(())

    def distance(self, code: Tensor) -> Tensor:
        """How far a code is from what the neck knows, B x 1 x h x w or B x 1 x 1 x 1: 0 where it knows nothing."""
        return code.new_zeros(len(code), 1, 1, 1)

    @property
    def tells(self) -> bool:
        """Whether it has a :meth:`distance`."""
        return type(self).distance is not Neck.distance


class Vector(Neck):
    """All cells through one vector of d numbers."""

    def __init__(self, channels: int, grid: tuple[int, int], values: int, vector: int = 100) -> None:
        super().__init__(channels, grid, values)
        cells = channels * grid[0] * grid[1]
        self.to_vector, self.to_cells = nn.Linear(cells, vector), nn.Linear(vector, cells)

    def forward(self, code: Tensor) -> Tensor:
        return self.back(self.to_vector(code.flatten(1)))

    def back(self, vector: Tensor) -> Tensor:
        """B x d -> cells."""
        return F.leaky_relu(self.to_cells(vector), LEAK).view(-1, self.channels, *self.grid)


class Vae(Vector):
    """A vector that is drawn around its mean in training, with as small a divergence from a normal distribution as pays off
    (Kingma & Welling 2014); in the graph the mean itself.

    -log p(x) = values / 2 (e / s^2 + log s^2) with e the error and s^2 the variance of the picture around its reconstruction. The
    best s^2 is e itself (Rybkin et al. 2021), so that the loss is e (1 + 2 KL beta / values) up to a factor: with a fixed
    variance the divergence either vanishes or wins.
    """

    relative = True

    def __init__(self, channels: int, grid: tuple[int, int], values: int, vector: int = 100, beta: float = 1.0) -> None:
        super().__init__(channels, grid, values, vector)
        self.beta = beta
        self.log_variance = nn.Linear(channels * grid[0] * grid[1], vector)

    def learn(self, code: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        flat = code.flatten(1)
        mean = self.to_vector(flat)
        log_variance = self.log_variance(flat).clamp(-MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)
        drawn = torch.randn(mean.shape, generator=generator).to(mean.device)
        divergence = -0.5 * (1.0 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
        return self.back(mean + drawn * (0.5 * log_variance).exp()), 2.0 * self.beta * divergence / self.values


class Memory(Neck):
    """Each cell as a mixture of few remembered ones (MemAE, Gong et al. 2019): softmax of cosines times `temperature`, weights up
    to `shrink` / rows are dropped (over :data:`EDGE` of that, not at once). Without a temperature the softmax of cosines is
    nearly even, and every cell comes back as the mean.

    Args:
        rows: that are remembered.
        temperature: 1 as in the paper.
        shrink: 1 to 3 in the paper, with a temperature; above e^2 nothing would be left without one.
        entropy: weight of the mean entropy of the weights.
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        values: int,
        rows: int = 200,
        temperature: float = 10.0,
        shrink: float = 1.0,
        entropy: float = 2e-4,
    ) -> None:
        super().__init__(channels, grid, values)
        self.temperature, self.threshold, self.entropy = temperature, shrink / rows, entropy
        self.rows = nn.Parameter(torch.randn(rows, channels))

    def cosines(self, code: Tensor) -> Tensor:
        """Of each cell with each row, B x rows x h w."""
        return torch.matmul(unit(self.rows, 1), unit(code.flatten(2), 1))

    def address(self, code: Tensor) -> Tensor:
        """The weights, B x rows x h w, of sum 1."""
        weights = (self.temperature * self.cosines(code)).softmax(1)
        share = ((weights - self.threshold) / max(EDGE * self.threshold, 1e-12)).clamp(0.0, 1.0)
        kept = weights * share.detach()  # learned as if they were dropped at once
        return kept / kept.sum(1, keepdim=True).clamp_min(1e-6)

    def read(self, weights: Tensor) -> Tensor:
        """Weights -> cells."""
        return torch.unflatten(torch.matmul(self.rows.T, weights), 2, self.grid)

    def forward(self, code: Tensor) -> Tensor:
        return self.read(self.address(code))

    def learn(self, code: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        weights = self.address(code)
        entropy = -(weights * (weights + 1e-6).log()).sum(1).mean()
        return self.read(weights), self.entropy * entropy

    def distance(self, code: Tensor) -> Tensor:
        """1 - cosine to the nearest row."""
        return torch.unflatten(1.0 - self.cosines(code).amax(1, keepdim=True), 2, self.grid)


class Convex(Vector):
    """One vector a picture, as a convex mixture of remembered ones (memory augmented GAN, Yang et al. 2021): P(z) = softmax(z
    M^T) M.

    Args:
        vector: numbers of a code.
        rows: of M.
        projection: weight of |z - P(z)|^2.
    """

    def __init__(
        self, channels: int, grid: tuple[int, int], values: int, vector: int = 64, rows: int = 50, projection: float = 0.1
    ) -> None:
        super().__init__(channels, grid, values, vector)
        self.projection = projection
        self.rows = nn.Parameter(torch.randn(rows, vector))

    def vectors(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """z and P(z), B x d."""
        z = self.to_vector(code.flatten(1))
        weights = self.logits(z).T.softmax(0)  # rows x B
        return z, torch.matmul(self.rows.T, weights).T

    def logits(self, z: Tensor) -> Tensor:
        """Of the weights of the rows, B x rows."""
        return torch.matmul(self.rows, z.T).T

    def forward(self, code: Tensor) -> Tensor:
        return self.back(self.vectors(code)[1])

    def learn(self, code: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z, projected = self.vectors(code)
        return self.back(projected), self.projection * (z - projected).square().mean()

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mixtures of random weights, few of them large -> weights B x rows and vectors B x d."""
        logits = 3.0 * torch.randn(count, len(self.rows), generator=generator).to(self.rows.device)
        weights = logits.softmax(1)
        return weights, weights @ self.rows

    def distance(self, code: Tensor) -> Tensor:
        z, projected = self.vectors(code)
        return (z - projected).square().mean(1).view(-1, 1, 1, 1)


class Prototypes(Neck):
    """Few rows of unit length that move towards the cells nearest to them while it is trained (MNAD, Park et al. 2020). The
    decoder gets the cell and what is read for it, softmax(q p^T) p: W q + W' (softmax(q p^T) p) by two 1 x 1 products that are
    added.

    Args:
        rows: that are remembered; 10 in the paper.
        compact: weight of |q - nearest row|^2.
        separate: weight of max(0, |q - nearest| - |q - next| + 1).
    """

    rows: Tensor

    def __init__(
        self, channels: int, grid: tuple[int, int], values: int, rows: int = 10, compact: float = 0.01, separate: float = 0.01
    ) -> None:
        super().__init__(channels, grid, values)
        self.compact, self.separate = compact, separate
        self.query = nn.Conv2d(channels, channels, 1)
        self.of_query, self.of_row = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1, bias=False)
        self.register_buffer("rows", F.normalize(torch.rand(rows, channels)))

    def queries(self, code: Tensor) -> Tensor:
        """B x C x h w, of unit length."""
        return unit(self.query(code).flatten(2), 1)

    def answer(self, q: Tensor) -> Tensor:
        weights = torch.matmul(self.rows, q).softmax(1)
        read = torch.matmul(self.rows.T.contiguous(), weights)
        both: Tensor = self.of_query(torch.unflatten(q, 2, self.grid)) + self.of_row(torch.unflatten(read, 2, self.grid))
        return both

    def forward(self, code: Tensor) -> Tensor:
        return self.answer(self.queries(code))

    def learn(self, code: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        q = self.queries(code)
        flat = q.transpose(1, 2).flatten(0, 1)  # cells x C
        two = torch.matmul(flat, self.rows.T).topk(2, 1).indices
        near, next_near = ((flat - self.rows[two[:, i]]).square().sum(1) for i in (0, 1))
        apart = ((near + 1e-6).sqrt() - (next_near + 1e-6).sqrt() + 1.0).clamp_min(0.0)
        answer = self.answer(q)
        if self.training:
            self.move(flat.detach())
        return answer, self.compact * near.mean() + self.separate * apart.mean()

    @torch.no_grad()
    def move(self, q: Tensor) -> None:
        """Each row towards the cells nearest to it, by their softmax over all cells relative to the largest of its own."""
        products = torch.matmul(q, self.rows.T)
        nearest = products.argmax(1)
        over_cells = products.softmax(0)
        rows = self.rows.clone()
        for m in range(len(rows)):
            own = nearest == m
            if bool(own.any()):
                weights = over_cells[own, m]
                rows[m] = F.normalize(rows[m] + (weights / weights.max()) @ q[own], dim=0)
        self.rows = rows

    def distance(self, code: Tensor) -> Tensor:
        """|q - nearest row|^2 of unit vectors."""
        products = torch.matmul(self.rows, self.queries(code))
        return torch.unflatten(2.0 - 2.0 * products.amax(1, keepdim=True), 2, self.grid)


def unit(x: Tensor, dim: int) -> Tensor:
    """x by its length along `dim`; zeros stay zeros."""
    return x / x.square().sum(dim, keepdim=True).clamp_min(1e-6).sqrt()
