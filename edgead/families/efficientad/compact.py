"""An EfficientAD that gives the same answers with less work: what its rewrites change, and what is exported.

Only squared norms of two differences are told, never the differences, so much of the network is free to change:

- Normalisation, the teacher's statistics and the quantiles are folded into weights and two gains; both maps are added on the
  PDN's grid, and enlarged once.
- A difference may be rotated (:meth:`CompactEfficientAd.rotated`): its norm does not change with all of an orthogonal basis, and
  hardly with a smaller one that is well chosen.
- A convolution may be the product of two thin ones (:meth:`CompactEfficientAd.factorised`); what that changes in the hidden
  activations is taken back, as far as a linear map can, by the convolution that comes next.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.families.efficientad.network import EfficientAd, last_layer
from edgead.families.efficientad.pdn import TEACHER_CHANNELS
from edgead.families.efficientad.small import SmallMap
from edgead.models.detector import Detector

ROWS = 512
"""Places of each picture that enter a least squares fit."""

RIDGE = 2e-3
"""Added to the diagonal of least squares, as a share of the mean variance: about what rounding to 8 bits will add. With less, a
fit uses directions that hardly vary, and enlarges the noise in them."""


class CompactEfficientAd(Detector):
    """Made by :meth:`of`, never loaded or saved.

    Attributes:
        trunks: the hidden layers of teacher and student, or one when they share them: zero-mean BGR pixels -> N x C x h' x w'.
        stem: the first layers of both as one, N x 3 x H x W -> twice the channels, half of which each trunk takes; or None.
        lasts: the last layer behind each trunk. Their first `rank` outputs add up to teacher minus student; the other outputs
            of the student's, added to the autoencoder's, are autoencoder minus student.
        rank: of teacher minus student.
        gains: what the squared norms of the two differences weigh in the map; offset: what is added to it.
    """

    family = "efficientad"
    mean: Tensor
    gains: Tensor
    offset: Tensor

    def __init__(self, master: EfficientAd) -> None:
        super().__init__(master.config, master.image_size)
        self.to_picture = copy.deepcopy(master.to_picture)
        bgr = master.std.flatten().flip(0)
        self.register_buffer("mean", master.mean.flip(1))
        pdns = [master.student] if master.shared_trunk else [master.teacher, master.student]
        self.stem: nn.Module | None = None
        self.trunks = nn.ModuleList(copy.deepcopy(pdn[:-1]) for pdn in pdns)
        self.ae = copy.deepcopy(master.ae)
        for first in (*(trunk.get_submodule("conv1") for trunk in self.trunks), self.ae.encoder.get_submodule("enconv1")):
            assert isinstance(first, nn.Conv2d)
            first.weight = nn.Parameter(first.weight.flip(1) / bgr.view(1, 3, 1, 1))
        self.lasts, self.rank = _last_layers(master), TEACHER_CHANNELS
        q = master.quantiles
        spans = torch.stack([q.qb_st - q.qa_st, q.qb_ae - q.qa_ae])
        self.register_buffer("gains", 0.05 / spans / TEACHER_CHANNELS)
        self.register_buffer("offset", -(0.05 * torch.stack([q.qa_st, q.qa_ae]) / spans).sum())

    def unenlarged(self) -> Detector:
        return SmallMap(self)

    @classmethod
    def of(cls, detector: Detector) -> CompactEfficientAd:
        """A new one from a trained EfficientAD, or a copy of one; the same answers up to rounding."""
        if isinstance(detector, cls):
            return copy.deepcopy(detector)
        assert isinstance(detector, EfficientAd)
        with torch.no_grad():
            return cls(detector).eval().requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self._answer(image.to(torch.float32).permute(0, 3, 1, 2))

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self._answer(pixels.flip(1))

    def _answer(self, bgr: Tensor) -> tuple[Tensor, Tensor]:
        local, whole = self.differences(bgr)
        grid = self.gains[0] * _energy(local) + self.gains[1] * _energy(whole)
        if self.config.get("pad_maps") == "normalized":
            anomaly_map = self.to_picture(grid + self.offset)
        else:
            anomaly_map = self.to_picture(grid) + self.offset
        return anomaly_map.squeeze(1), anomaly_map.amax((1, 2, 3))

    def differences(self, bgr: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher minus student and autoencoder minus student, each in its basis: N x R x h x w.

        Args:
            bgr: float32 N x 3 x H x W, 0 to 255.
        """
        x = bgr - self.mean
        hidden = self.hidden(x)
        told: Tensor = self.lasts[-1](hidden[-1])
        local, whole = told[:, : self.rank], told[:, self.rank :]
        for last, one in zip(list(self.lasts)[:-1], hidden, strict=False):
            local = local + last(one)
        return local, self.ae(x) + whole

    def hidden(self, x: Tensor) -> list[Tensor]:
        """What each trunk gives for zero-mean BGR pixels; any crop will do, since a PDN has no padding."""
        parts = [x] * len(self.trunks) if self.stem is None else self.stem(x).chunk(len(self.trunks), 1)
        return [trunk(part) for trunk, part in zip(self.trunks, parts, strict=True)]

    def with_one_stem(self) -> CompactEfficientAd:
        """The first convolutions of both trunks as one."""
        made = copy.deepcopy(self)
        convs: list[Any] = [trunk.get_submodule("conv1") for trunk in made.trunks]
        both = _conv(torch.cat([c.weight for c in convs]), torch.cat([c.bias for c in convs]))
        made.stem = nn.Sequential(both, nn.ReLU(), nn.AvgPool2d(2, 2))
        made.trunks = nn.ModuleList(trunk[3:] for trunk in made.trunks)  # type: ignore[index]
        return made

    def rotated(self, local: Tensor, whole: Tensor) -> CompactEfficientAd:
        """Each difference as its products with the rows of a basis (R x channels): only these are computed."""
        made = copy.deepcopy(self)
        both = torch.cat([F.pad(local, (0, whole.shape[1])), F.pad(whole, (local.shape[1], 0))])
        bases = [local] * (len(made.lasts) - 1) + [both]
        made.lasts = nn.ModuleList(_rotated(last, basis) for last, basis in zip(made.lasts, bases, strict=True))
        made.ae.decoder.deconv8 = _rotated(made.ae.decoder.deconv8, whole)
        made.rank = len(local)
        return made

    def factorised(self, layer: str, rank: int, pixels: Tensor) -> CompactEfficientAd:
        """One layer of each trunk as two thin ones (:func:`thin`), and the layers behind it fitted to what comes now.

        Args:
            layer: name of a convolution of the PDN that is not its last one.
            rank: channels between the two.
            pixels: zero-mean BGR pictures or crops to fit on, N x 3 x H x W.

        Raises:
            BadInput: with this rank it is no less work, or the layer has been factorised already.
        """
        made = copy.deepcopy(self)
        inputs = [pixels] * len(made.trunks) if self.stem is None else self.stem(pixels).chunk(len(made.trunks), 1)
        for index, (trunk, then) in enumerate(zip(made.trunks, inputs, strict=True)):
            assert isinstance(trunk, nn.Sequential)
            names = [name for name, _ in trunk.named_children()]
            now, fit = then, False
            for place, name in enumerate(names):
                old = trunk[place]
                if name == layer:
                    trunk[place], fit = thin(old, rank, then), True
                elif fit and isinstance(old, nn.Conv2d):
                    trunk[place], fit = _after(old, *_linear_fit(_rows(now), _rows(then))), False
                now, then = trunk[place](now), old(then)
            made.lasts[index] = _after(made.lasts[index], *_linear_fit(_rows(now), _rows(then)))
        return made


def thin(conv: nn.Module, rank: int, seen: Tensor) -> nn.Sequential:
    """A convolution of kh x kw without padding as one of kh x 1 with `rank` outputs and one of 1 x kw.

    Both are fitted to what the convolution sees: the first spans the principal columns of the weights under the second moment of
    the inputs, the second is what least squares makes of them (Jaderberg et al. 2014, scheme 2, with data). What lies between is
    rounded to 8 bits by one grid for all channels. So the columns are mixed by a rotation and each reaches as far: left as they
    are, some hardly vary and some reach far on defects only, and the rounding is felt in the scores.

    Args:
        seen: inputs to fit on, N x C x h x w.

    Raises:
        BadInput: the two would be no less work, or it is no convolution.
    """
    if not isinstance(conv, nn.Conv2d):
        raise BadInput("this layer has been factorised already", hint="start from the trained model")
    (out, channels), (kh, kw) = conv.weight.shape[:2], conv.kernel_size
    most = (conv.weight.numel() - 1) // (channels * kh + out * kw)
    if rank > most:
        raise BadInput(f"a rank of {rank} is no less work than the layer itself", hint=f"give at most {most}")
    second = _covariance(unfolded for one in seen for unfolded in F.unfold(one[None], (kh, 1)))
    columns = conv.weight.permute(1, 2, 0, 3).reshape(channels * kh, out * kw)  # (c, i) x (o, j)
    mixed = torch.linalg.qr(torch.randn(rank, rank, generator=torch.Generator().manual_seed(0))).Q
    axes = torch.linalg.eigh(columns.T @ second @ columns).eigenvectors[:, -rank:] @ mixed
    weight = (columns @ axes).T.reshape(-1, channels, kh, 1)
    between = torch.cat([F.conv2d(one, weight).flatten(1) for one in seen], 1)
    low, high = between.aminmax(dim=1)
    middle, reach = (high + low) / 2, (high - low) / 2
    reach = reach.clamp_min(1e-4 * float(reach.max()))
    first = _conv(weight / reach.view(-1, 1, 1, 1), -middle / reach)
    rows = [(_sample(F.unfold(first(one[None]), (1, kw))), _sample(conv(one[None]).flatten(2))) for one in seen]
    weight, bias = _least_squares(torch.cat([x for x, _ in rows]), torch.cat([y for _, y in rows]))
    return nn.Sequential(first, _conv(weight.reshape(out, -1, 1, kw), bias))


def _last_layers(master: EfficientAd) -> nn.ModuleList:
    """The last layers of :class:`CompactEfficientAd`, the teacher's statistics folded in."""
    teacher, student, std = last_layer(master.teacher), last_layer(master.student), master.mean_std.std.flatten()
    assert teacher.bias is not None and student.bias is not None
    weight, bias = teacher.weight / std.view(-1, 1, 1, 1), (teacher.bias - master.mean_std.mean.flatten()) / std
    if not master.shared_trunk:
        return nn.ModuleList([_conv(weight, bias), _conv(-student.weight, -student.bias)])
    nothing = torch.zeros_like(student.weight[TEACHER_CHANNELS:])
    both = torch.cat([weight, nothing]), torch.cat([bias, torch.zeros_like(bias)])
    return nn.ModuleList([_conv(both[0] - student.weight, both[1] - student.bias)])


def _conv(weight: Tensor, bias: Tensor, padding: Any = 0) -> nn.Conv2d:
    out, channels, kh, kw = weight.shape
    made = nn.Conv2d(channels, out, (kh, kw), padding=padding)
    made.weight, made.bias = (nn.Parameter(one.contiguous(), requires_grad=False) for one in (weight, bias))
    return made


def _energy(difference: Tensor) -> Tensor:
    return difference.square().sum(1, keepdim=True)


def _rotated(conv: Any, basis: Tensor) -> nn.Conv2d:
    return _conv(torch.einsum("ro,ocij->rcij", basis, conv.weight), basis @ conv.bias, conv.padding)


def _after(conv: Any, matrix: Tensor, shift: Tensor) -> nn.Conv2d:
    """conv(matrix x + shift) as one convolution; it has no padding."""
    bias = torch.einsum("ocij,c->o", conv.weight, shift) + conv.bias
    return _conv(torch.einsum("ocij,cd->odij", conv.weight, matrix), bias)


def _sample(x: Tensor) -> Tensor:
    """N x C x L -> at most `ROWS` places of each picture, evenly spread, n x C."""
    kept = torch.linspace(0, x.shape[2] - 1, min(ROWS, x.shape[2])).round().long()
    return x[:, :, kept].transpose(1, 2).flatten(0, 1)


def _rows(x: Tensor) -> Tensor:
    return _sample(x.flatten(2))


def _covariance(blocks: Iterable[Tensor]) -> Tensor:
    """Of blocks C x n each."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for block in blocks:
        count, total, products = count + block.shape[1], total + block.sum(1), products + block @ block.T
    mean = total / count
    return products / count - mean[:, None] * mean


def _least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """W (M x D) and b (M) that minimise |y - W x - b|^2 + l |W|^2 over n x D and n x M rows."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    covariance = (x.T @ x).double()
    covariance.diagonal().add_(RIDGE * float(covariance.diagonal().mean()) + 1e-12)
    weight = torch.cholesky_solve((x.T @ y).double(), torch.linalg.cholesky(covariance)).T.float()
    return weight, mean_y - weight @ mean_x


def _linear_fit(now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
    """The linear map, near the identity, that brings the rows `now` to the rows `then`: C x C and C."""
    matrix, shift = _least_squares(now, then - now)
    return matrix + torch.eye(len(matrix)), shift
