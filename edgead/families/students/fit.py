"""Fit Uninformed Students (Bergmann et al. 2020) on good pictures: in closed form, or as networks that are trained.

Closed form. Students are last layers over the teacher's hidden activations h, each fitted by ridge regression to what the teacher
says, on all pictures but those of one group (a jackknife), so that they differ where good pictures say little. What the teacher
says is W_T h + b_T, so all is known once the covariance C of h is, group by group: the teacher's deviations and their principal
axes (of which `channels` are kept), and each student, W_i = W_T C_i (C_i + l I)^-1. One pass over the pictures gives them.

Error and disagreement are standardised on held-out good pictures, and added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.families.contract import FitData
from edgead.families.efficientad.network import load_teacher
from edgead.families.efficientad.pdn import build_pdn
from edgead.families.students.moments import Moments, principal
from edgead.families.students.network import Closed, Scale, Students, Trained
from edgead.families.students.options import StudentsOptions
from edgead.families.students.teachers import distilled
from edgead.models.learning.steps import run, split
from edgead.models.rows import to_pixels


def fit(data: FitData, options: StudentsOptions) -> Students:
    """Students of good images. It tells the stages "teacher", "students" and "statistics".

    Raises:
        BadInput: unusable size, sides, stride, or weights.
    """
    config = config_of(options)
    train_on, held = split(len(data.images), data.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        detector = Students(config, data.size).to(data.device)
        generator = torch.Generator().manual_seed(data.seed)
        for scale in detector.scales:
            if isinstance(scale, Closed):
                _fit_closed(scale, detector, data, options, train_on, generator)
            elif isinstance(scale, Trained):
                _train(scale, detector, data, options, (train_on, held or train_on), generator)
            assert isinstance(scale, Scale)
            _standardise(scale, detector, data, held or train_on)
    return detector.cpu().requires_grad_(False).eval()


def config_of(options: StudentsOptions) -> dict[str, Any]:
    """The detector's configuration."""
    config = {"kind": options.kind, "channels": options.channels, "students": options.students, "score": options.score_by}
    if options.kind == "patches":
        config |= {"sides": [int(one) for one in options.sides], "stride": options.stride}
    return config


def _inputs(detector: Students, data: FitData, chosen: Sequence[int]) -> Tensor:
    return detector.normalize(to_pixels([data.images[i] for i in chosen]).to(data.device))


@torch.no_grad()
def _fit_closed(
    scale: Closed,
    detector: Students,
    data: FitData,
    options: StudentsOptions,
    train_on: Sequence[int],
    generator: torch.Generator,
) -> None:
    state = load_teacher(None, "small")
    names = {name: state[name] for name in state if not name.startswith("conv4.")}
    scale.trunk.load_state_dict(names)
    weight = state["conv4.weight"].flatten(1).double()
    groups, few = min(options.students, len(train_on)), options.patches < weight.shape[1]
    parts = [Moments(weight.shape[1], few, data.device) for _ in range(groups)]
    order = [train_on[i] for i in torch.randperm(len(train_on), generator=generator).tolist()]
    each = max(1, options.patches // len(order))
    for done, index in enumerate(order):
        hidden = scale.trunk(_inputs(detector, data, [index]))
        rows = F.unfold(hidden, scale.apart.kernel_size)[0].T
        kept = torch.randperm(len(rows), generator=generator)[:each].to(rows.device)
        parts[done % groups].add(rows[kept])
        data.report("teacher", (done + 1) / len(order))
    said, bias = principal(weight, Moments.of(parts), options.channels)
    students = []
    for i in range(options.students):
        others = [part for n, part in enumerate(parts) if n != i % groups]
        students.append(Moments.of(others or parts).imitated(said, bias, options.ridge))
        data.report("students", (i + 1) / options.students)
    average = [torch.stack(parts).mean(0) for parts in zip(*students, strict=True)]
    apart = [(said - average[0], bias - average[1]), *((w - average[0], b - average[1]) for w, b in students)]
    scale.apart.weight.copy_(torch.cat([w for w, _ in apart]).view_as(scale.apart.weight))
    assert scale.apart.bias is not None
    scale.apart.bias.copy_(torch.cat([b for _, b in apart]))


def _train(
    scale: Trained,
    detector: Students,
    data: FitData,
    options: StudentsOptions,
    parts: tuple[Sequence[int], Sequence[int]],
    generator: torch.Generator,
) -> None:
    """The teacher first, then the students, which learn together from the same pictures and start apart."""
    train_on, held = parts
    side = scale.form.side
    if options.kind == "thin":
        _pdn_teacher(scale.teacher, detector, data, train_on)
    else:
        scale.teacher.load_state_dict(distilled(side, data, options, generator))
        _standard_last(scale.teacher, detector, data, train_on)
    scale.teacher.eval().requires_grad_(False)
    batch = min(options.batch, len(train_on))
    count = options.epochs * math.ceil(len(train_on) / batch) or options.steps
    students = scale.students
    optimizer = torch.optim.Adam(students.parameters(), options.lr, weight_decay=options.weight_decay)

    def loss(chosen: Sequence[int]) -> Tensor:
        x = _inputs(detector, data, chosen)
        with torch.no_grad():
            said = scale.teacher(x)
        return sum((F.mse_loss(student(x), said) for student in students), torch.zeros(())) / len(students)

    def step(i: int) -> float:
        for group in optimizer.param_groups:
            group["lr"] = options.lr * (0.5 * (1.0 + math.cos(math.pi * i / count)) if options.falls else 1.0)
        chosen = [train_on[n] for n in torch.randperm(len(train_on), generator=generator)[:batch].tolist()]
        found = loss(chosen)
        optimizer.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(found.detach())

    run(
        step, count, {"students": students, "optimizer": optimizer}, generator, report=data.report,
        heldout=_without_gradient(lambda: sum(float(loss([i])) for i in held) / len(held)), checkpoint=data.checkpoint,
        stage="students" if options.kind == "thin" else f"students of {side} px", curves=data.curves,
    )  # fmt: skip


def _without_gradient(what: Callable[[], float]) -> Callable[[], float]:
    return torch.no_grad()(what)


@torch.no_grad()
def _pdn_teacher(teacher: nn.Module, detector: Students, data: FitData, train_on: Sequence[int]) -> None:
    """The packaged PDN, whose last layer says the principal axes of its standardised outputs."""
    state = load_teacher(None, "small")
    pdn = build_pdn("small")
    pdn.load_state_dict(state)
    pdn.to(data.device)
    outputs = Moments(len(state["conv4.bias"]), device=data.device)
    for done, index in enumerate(train_on):
        outputs.add(pdn(_inputs(detector, data, [index]))[0].flatten(1).T)
        data.report("teacher", (done + 1) / len(train_on))
    axes, shift = principal(torch.eye(len(state["conv4.bias"]), dtype=torch.float64), outputs, _channels(teacher))
    last = state["conv4.weight"].double()
    said = {
        "conv4.weight": (axes @ last.flatten(1)).view(-1, *last.shape[1:]),
        "conv4.bias": axes @ state["conv4.bias"].double() + shift,
    }
    teacher.load_state_dict({**state, **{name: one.float() for name, one in said.items()}})


@torch.no_grad()
def _standard_last(teacher: nn.Module, detector: Students, data: FitData, train_on: Sequence[int]) -> None:
    """Each channel has mean 0 and deviation 1 over the good pictures, by the last layer's weights."""
    last = list(teacher.children())[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    total = Moments(last.out_channels, device=data.device)
    for done, index in enumerate(train_on):
        total.add(teacher(_inputs(detector, data, [index]))[0].flatten(1).T)
        data.report("teacher", (done + 1) / len(train_on))
    mean, deviation = total.mean(), total.covariance().diagonal().clamp_min(1e-12).sqrt()
    deviation = deviation.float().to(data.device)
    last.weight.div_(deviation.view(-1, 1, 1, 1))
    last.bias.sub_(mean.float().to(data.device)).div_(deviation)


def _channels(network: nn.Module) -> int:
    last = list(network.children())[-1]
    assert isinstance(last, nn.Conv2d)
    return last.out_channels


@torch.no_grad()
def _standardise(scale: Scale, detector: Students, data: FitData, held: Sequence[int]) -> None:
    """Error and disagreement of held-out good pictures get mean 0 and deviation 1."""
    found: list[tuple[Tensor, Tensor]] = []
    for done, index in enumerate(held):
        found.append(scale.told(_inputs(detector, data, [index])))
        data.report("statistics", (done + 1) / len(held))
    for i, ones in enumerate(zip(*found, strict=True)):
        cells = torch.cat([one.flatten() for one in ones])
        scale.center[i] = cells.mean()
        scale.spread[i] = cells.std().clamp_min(1e-6)
