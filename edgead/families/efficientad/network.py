"""EfficientAD (Batzner, Heckler, König 2024): a student that knows only good parts disagrees with its teacher on defects.

Two maps are averaged. The *student-teacher* map compares the student's first 384 channels with a frozen PDN teacher: local
defects. The *student-autoencoder* map compares the student's other 384 channels with an autoencoder that sees the whole picture
through a bottleneck of 64 numbers: parts that are missing or in the wrong place. Parameter names are those of anomalib's
checkpoints (``teacher.*``, ``student.*``, ``ae.encoder.*``, ``ae.decoder.*``, ``mean_std.*``, ``quantiles.*``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.families.efficientad.pdn import TEACHER_CHANNELS, build_pdn, pad_map
from edgead.families.efficientad.small import SmallMap
from edgead.models.backbones import TORCHVISION_MEAN, TORCHVISION_STD, read_state
from edgead.models.detector import Detector

SIZE_MULTIPLE = 32
SMALLEST_PX = 128
DEFAULT_TEACHER = Path(__file__).parent / "data" / "pdn_small_teacher.safetensors"


class Encoder(nn.Module):
    """Six convolutions, N x 3 x H x W -> N x 64 x 1 x 1 (table 8). The last kernel covers what is left: 8 x 8 at 256 px as in the
    paper, H/32 x W/32 at any other size, so that the bottleneck always is one vector; `last_kernel` fixes it."""

    def __init__(self, image_size: tuple[int, int], last_kernel: int | None = None) -> None:
        super().__init__()
        for i, (c_in, c_out) in enumerate(((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)), 1):
            self.add_module(f"enconv{i}", nn.Conv2d(c_in, c_out, 4, 2, 1))
        self.enconv6 = nn.Conv2d(64, 64, last_kernel or (image_size[0] // 32, image_size[1] // 32))

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 6):
            x = F.relu(getattr(self, f"enconv{i}")(x))
        code: Tensor = self.enconv6(x)
        return code


class Decoder(nn.Module):
    """Eight convolutions with bilinear upsampling and dropout, N x 64 x 1 x 1 -> N x 384 x (H/4 - 8) x (W/4 - 8) (table 8).

    The sizes in between are those of the paper at 256 px (3, 8, 15, 32, 63, 127, 56) and follow the picture's size elsewhere.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        h, w = image_size
        steps = ((64, 1), (32, 0), (16, 1), (8, 0), (4, 1), (2, 1), (4, 8))
        self.grids = [(h // stride - less, w // stride - less) for stride, less in steps]
        for i in range(1, 7):
            self.add_module(f"deconv{i}", nn.Conv2d(64, 64, 4, 1, 2))
        self.deconv7 = nn.Conv2d(64, 64, 3, 1, 1)
        self.deconv8 = nn.Conv2d(64, TEACHER_CHANNELS, 3, 1, 1)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        for i, grid in enumerate(self.grids, 1):
            x = F.interpolate(x, grid, mode="bilinear", align_corners=False)
            x = F.relu(getattr(self, f"deconv{i}")(x))
            if i <= 6:
                x = self.dropout(x)
        out: Tensor = self.deconv8(x)
        return out


class Autoencoder(nn.Module):
    """Predicts the teacher's normalised output of a whole picture through 64 numbers."""

    def __init__(self, image_size: tuple[int, int], last_kernel: int | None = None) -> None:
        super().__init__()
        self.encoder = Encoder(image_size, last_kernel)
        self.decoder = Decoder(image_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(x))
        return out


class MeanStd(nn.Module):
    """Mean and standard deviation of each teacher channel over the training pictures, 1 x 384 x 1 x 1."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, TEACHER_CHANNELS, 1, 1))
        self.register_buffer("std", torch.ones(1, TEACHER_CHANNELS, 1, 1))


class Quantiles(nn.Module):
    """The 0.9 and 0.995 quantiles (a, b) of both maps on held-out good pictures: they become 0 and 0.1 in the final map."""

    qa_st: Tensor
    qb_st: Tensor
    qa_ae: Tensor
    qb_ae: Tensor

    def __init__(self) -> None:
        super().__init__()
        for kind in ("st", "ae"):
            self.register_buffer(f"qa_{kind}", torch.tensor(0.0))
            self.register_buffer(f"qb_{kind}", torch.tensor(0.1))


class ToPicture(nn.Module):
    """From a PDN's grid to the picture, N x 1 x h x w -> N x 1 x H x W: a border of zeros where `padded`, then bilinear.

    It has no weights. `pad` and `stretch` are its two steps (what lies between them is the map at feature resolution).
    """

    def __init__(self, image_size: tuple[int, int], padded: bool) -> None:
        super().__init__()
        self.image_size, self.padded = image_size, padded

    def pad(self, difference: Tensor) -> Tensor:
        """As large a grid as covers the picture (56 -> 64 cells at 256 px)."""
        return pad_map(difference) if self.padded else difference

    def stretch(self, grid: Tensor) -> Tensor:
        """The grid over the whole picture."""
        return F.interpolate(grid, self.image_size, mode="bilinear", align_corners=False)

    def forward(self, difference: Tensor) -> Tensor:
        return self.stretch(self.pad(difference))


class EfficientAd(Detector):
    """EfficientAD-S or -M.

    Config: ``{"size": "small" | "medium", "shared_trunk": bool}``. With a shared trunk (optional, false) the student's hidden
    layers are the teacher's, so they are computed once. For imported models also ``last_kernel`` (of the encoder, 8 whatever
    the picture's size) and ``pad_maps`` (false: the unpadded map is stretched over the picture; "normalized": padded after
    normalisation).
    Height and width are multiples of 32, at least 128 (256 in the paper).
    """

    family = "efficientad"
    mean: Tensor
    std: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        check_image_size(image_size)
        super().__init__(config, image_size)
        size = str(config["size"])
        self.shared_trunk = bool(config.get("shared_trunk", False))
        self.teacher = build_pdn(size)
        self.student = build_pdn(size, 2 * TEACHER_CHANNELS)
        self.ae = Autoencoder(image_size, config.get("last_kernel"))
        self.mean_std = MeanStd()
        self.quantiles = Quantiles()
        self.to_picture = ToPicture(image_size, bool(config.get("pad_maps", True)))
        self.register_buffer("mean", torch.tensor(TORCHVISION_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(TORCHVISION_STD).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> EfficientAd:
        """The architecture with random weights.

        Raises:
            BadInput: unknown PDN size, or an image size that is not a multiple of 32 from 128 up.
        """
        return cls(config, image_size)

    def normalize(self, pixels: Tensor) -> Tensor:
        """N x 3 x H x W RGB 0..255 -> normalised as ImageNet networks expect."""
        normalized: Tensor = (pixels - self.mean) / self.std
        return normalized

    def describe(self, normalized: Tensor) -> Tensor:
        """The teacher's output with mean 0 and deviation 1 per channel over the training pictures, N x 384 x h x w."""
        described: Tensor = (self.teacher(normalized) - self.mean_std.mean) / self.mean_std.std
        return described

    def unenlarged(self) -> Detector:
        return SmallMap(self)

    def seen(self, pixels: Tensor) -> Tensor:
        return self.describe(self.normalize(pixels))

    def differences(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared difference of student and teacher, and of student and autoencoder: N x 1 x (H/4 - 8) x (W/4 - 8) each.

        Teacher minus student is computed by one last layer over both networks' hidden activations. That is exact, and keeps its
        precision in INT8, where subtracting two large, nearly equal outputs would leave mostly rounding.

        Args:
            pixels: float32, N x 3 x H x W, RGB, 0 to 255.
        """
        x, std = self.normalize(pixels), self.mean_std.std.flatten()
        w_teacher, b_teacher = _last_weights(self.teacher)
        w_teacher, b_teacher = w_teacher / std.view(-1, 1, 1, 1), (b_teacher - self.mean_std.mean.flatten()) / std
        w_student, b_student = _last_weights(self.student)
        w_st, b_st = w_student[:TEACHER_CHANNELS], b_student[:TEACHER_CHANNELS]
        hidden: Tensor = self.student[:-1](x)
        if self.shared_trunk:
            difference = F.conv2d(hidden, w_teacher - w_st, b_teacher - b_st)
        else:
            both = torch.cat([self.teacher[:-1](x), hidden], 1)
            difference = F.conv2d(both, torch.cat([w_teacher, -w_st], 1), b_teacher - b_st)
        unforeseen = self.ae(x) - F.conv2d(hidden, w_student[TEACHER_CHANNELS:], b_student[TEACHER_CHANNELS:])
        return difference.square().mean(1, keepdim=True), unforeseen.square().mean(1, keepdim=True)

    def raw_maps(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Both :meth:`differences` at the picture's size, before quantile normalisation: float32 N x 1 x H x W each."""
        map_st, map_ae = self.differences(pixels)
        return self.to_picture(map_st), self.to_picture(map_ae)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.get("pad_maps") == "normalized":
            anomaly_map = self.to_picture(self._combine(*self.differences(pixels)))
        else:
            anomaly_map = self._combine(*self.raw_maps(pixels))
        return anomaly_map.squeeze(1), anomaly_map.amax((1, 2, 3))

    def _combine(self, map_st: Tensor, map_ae: Tensor) -> Tensor:
        q = self.quantiles
        normal_st = 0.1 * (map_st - q.qa_st) / (q.qb_st - q.qa_st)
        normal_ae = 0.1 * (map_ae - q.qa_ae) / (q.qb_ae - q.qa_ae)
        return 0.5 * (normal_st + normal_ae)


def last_layer(pdn: nn.Sequential) -> nn.Conv2d:
    """The convolution without activation that ends a PDN."""
    last = pdn[-1]
    assert isinstance(last, nn.Conv2d)
    return last


def _last_weights(pdn: nn.Sequential) -> tuple[Tensor, Tensor]:
    last = last_layer(pdn)
    assert last.bias is not None
    return last.weight, last.bias


def check_image_size(image_size: tuple[int, int]) -> None:
    """Raise BadInput unless height and width are multiples of 32 and at least 128."""
    if any(px % SIZE_MULTIPLE or px < SMALLEST_PX for px in image_size):
        near = " x ".join(str(max(SMALLEST_PX, round(px / SIZE_MULTIPLE) * SIZE_MULTIPLE)) for px in image_size)
        raise BadInput(
            f"EfficientAD cannot take pictures of {image_size[0]} x {image_size[1]} px",
            hint=f"height and width must be multiples of 32 from 128 up, e.g. {near}",
        )


def load_teacher(path: Path | None, size: str) -> dict[str, Tensor]:
    """The weights of a PDN teacher, float32, named as in :func:`edgead.families.efficientad.pdn.build_pdn`.

    Args:
        path: a teacher made by ``edgead distill`` (``.safetensors``), or a ``.pth`` state dict of tensors with conv1, conv2, ...
            as in anomalib's ``pretrained_teacher_small.pth``, or with numbered layers as in nelson1425/EfficientAD; None takes
            the packaged PDN-S.
        size: ``"small"`` or ``"medium"``.

    Raises:
        BadInput: no such file, not readable, or of another network or size.
    """
    if path is None:
        if size != "small":
            raise BadInput(f"there is no packaged teacher of size {size}", hint="give one with --teacher, or choose size small")
        if not DEFAULT_TEACHER.is_file():
            raise BadInput(f"the packaged teacher is missing ({DEFAULT_TEACHER})", hint="install edgead again, or give --teacher")
        path = DEFAULT_TEACHER
    network = build_pdn(size)
    wanted = network.state_dict()
    state = _named(read_state(path), network)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in wanted.items()}:
        raise BadInput(
            f"{path} is no PDN teacher of size {size} with {TEACHER_CHANNELS} channels{_recorded_size(path)}",
            hint="make one with: edgead distill IMAGES_DIR -o teacher.safetensors, or choose the other size",
        )
    return {name: tensor.float() for name, tensor in state.items()}


def _named(state: dict[str, Tensor], network: nn.Sequential) -> dict[str, Tensor]:
    """Names like ``0.weight`` (nn.Sequential without names) become ``conv1.weight``; a common prefix is dropped."""
    state = {name.removeprefix("teacher.").removeprefix("model.teacher."): tensor for name, tensor in state.items()}
    if all(name.split(".")[0].isdigit() for name in state):
        children = [name for name, _ in network.named_children()]
        order = {number: f"conv{i}" for i, number in enumerate(sorted({int(name.split(".")[0]) for name in state}), 1)}
        renamed = {f"{order[int(name.split('.')[0])]}.{name.split('.')[1]}": tensor for name, tensor in state.items()}
        return renamed if set(order.values()) <= set(children) else state
    return state


def _recorded_size(path: Path) -> str:
    if path.suffix != ".safetensors":
        return ""
    try:
        with safe_open(path, "pt") as file:
            size = (file.metadata() or {}).get("size")
    except (SafetensorError, OSError):
        return ""
    return f" (it says: {size})" if size else ""
