"""InTra's inpainting transformer (Pirnay, Chai 2022): a hidden patch is told from the patches around it by attention alone.

The paper rebuilds each patch in a graph of its own, from the window of 7 x 7 patches around it. Here all patches of the picture are one
sequence, some of them hidden, and a constant attention mask lets each see its window only: the same layers, a fortieth of the work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput


class Attention(nn.Module):
    """Self-attention whose queries and keys are told by two-layer networks (the paper's feature attention).

    Args:
        width: D of a token.
        heads: that share it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = (
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width // 2)) for _ in range(2)
        )
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens N x T x D, and what is added to the T x T products before the softmax -> N x T x D."""
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        weight = torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + mask, -1)
        out: Tensor = self.out((weight @ v).transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention and a two-layer network, each with a norm before and a way around it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.before(x), mask)
        out: Tensor = x + self.mlp(self.between(x))
        return out


class InpaintingTransformer(nn.Module):
    """Pictures in 0..1 with hidden patches -> rebuilt pictures.

    Args:
        size: of the pictures, px; multiples of `patch`.
        patch: side of a patch, px.
        width: D of a token.
        blocks: of attention; block i of the second half gets the output of block N - 1 - i of the first added to its input.
        heads: of each block.
        window: a token sees those at most window // 2 away along each axis; 0: all.

    Raises:
        BadInput: patches do not fill the picture, or heads do not share the width.
    """

    def __init__(
        self, size: tuple[int, int], patch: int = 16, width: int = 128, blocks: int = 6, heads: int = 4, window: int = 7
    ) -> None:
        super().__init__()
        if size[0] % patch or size[1] % patch:
            raise BadInput(f"patches of {patch} px do not fill {size[1]} x {size[0]} px", hint=f"give multiples of {patch} px")
        if width % (2 * heads):
            raise BadInput(f"{heads} heads do not share a width of {width}", hint=f"give a multiple of {2 * heads}")
        self.patch, self.grid = patch, (size[0] // patch, size[1] // patch)
        tokens = self.grid[0] * self.grid[1]
        self.embed = nn.Linear(3 * patch * patch, width)
        self.place = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.hidden = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(blocks)])
        self.norm, self.tell = nn.LayerNorm(width), nn.Linear(width, 3 * patch * patch)
        self.register_buffer("far", window_mask(self.grid, window), persistent=False)

    far: Tensor

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """N x 3 x H x W and bool N x tokens, True where a patch is hidden -> N x 3 x H x W."""
        seen = (~hidden).to(x.dtype)[:, :, None]
        tokens = self.embed(self.cut(x) - 0.5) * seen + self.hidden * (1.0 - seen) + self.place
        kept: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if i >= len(self.blocks) - len(self.blocks) // 2:
                tokens = tokens + kept[len(self.blocks) - 1 - i]
            tokens = block(tokens, self.far)
            kept.append(tokens)
        return torch.sigmoid(self.joined(self.tell(self.norm(tokens))))

    def cut(self, x: Tensor) -> Tensor:
        """Patches of pictures as rows: N x 3 x H x W -> N x tokens x 3 patch^2."""
        return F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)

    def joined(self, rows: Tensor) -> Tensor:
        """And back."""
        return F.pixel_shuffle(rows.transpose(1, 2).unflatten(2, self.grid), self.patch)


def window_mask(grid: tuple[int, int], window: int) -> Tensor:
    """What is added to products of queries and keys: 0 within the window around a token, -1e4 beyond; T x T.

    At the border a window is shifted inwards, as the paper's are, so that each token sees as many others.
    """
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    if not window:
        return torch.zeros(grid[0] * grid[1], grid[0] * grid[1])
    near = torch.ones(grid[0] * grid[1], grid[0] * grid[1], dtype=torch.bool)
    for place, length in ((rows.flatten(), grid[0]), (columns.flatten(), grid[1])):
        first = (place - window // 2).clamp(0, max(0, length - window))
        near &= (place[None] >= first[:, None]) & (place[None] < first[:, None] + window)
    return torch.where(near, 0.0, -1e4)
