"""Distil a PDN teacher for EfficientAD from the EfficientNet-Lite0 backbone, on pictures of anything.

All pictures in the folders and in the folders in them are taken; the more kinds of things and surfaces, the better the teacher.
What is no picture is left out and counted. Ctrl-C saves how far it came; the same command goes on from there, and a finished
run goes on with more --minutes or --steps. A PDN-S teacher comes with edgead; this verb makes better or larger ones
(edgead docs teacher has its recipe).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edgead.cli._json import print_json
from edgead.cli._options import JSON, SEED_OF
from edgead.cli._types import NUMBER, PATH, WHOLE
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput
from edgead.words import plain

if TYPE_CHECKING:
    from edgead.families.efficientad.distill import DistillProgress
    from edgead.jobs.distill import Distilled, DistillRequest

INTERRUPTED = 130


@verb(__doc__)
@argument("images", type=PATH, nargs=-1, required=True, metavar="IMAGES_DIR...", help="folders of pictures, and all below")
@option("-o", "--out", type=PATH, required=True, metavar="FILE", help="the teacher, a .safetensors file")
@option("--pdn", type=click.Choice(("small", "medium")), default="small", help="network size (default small)")
@option("--minutes", type=NUMBER, metavar="N", help="train for so long (default 60)")
@option("--steps", type=WHOLE, metavar="N", help="train so many steps instead")
@option("--batch", type=WHOLE, default=4, metavar="N", help="crops in a step (default 4)")
@option("--lr", type=NUMBER, default=1.5e-3, metavar="X", help="peak learning rate (default 0.0015)")
@option("--px", type=WHOLE, default=256, metavar="PX", help="side of a crop in pixels, a multiple of 32 (default 256)")
@option("--bf16/--no-bf16", default=None, help="compute in bfloat16 (default: where the device has it)")
@option("--device", default="cpu", metavar="NAME", help="cpu or cuda (default cpu)")
@SEED_OF
@option("--sources", type=PATH, metavar="FILE", help="JSON: where the pictures come from, stored in the teacher's file")
@JSON
def command(
    images: tuple[Path, ...],
    out: Path,
    pdn: Literal["small", "medium"],
    minutes: float | None,
    steps: int | None,
    batch: int,
    lr: float,
    px: int,
    bf16: bool | None,
    device: str,
    seed: int,
    sources: Path | None,
    as_json: bool,
) -> int:
    from edgead.jobs.distill import DistillRequest

    if minutes is not None and steps is not None:
        raise BadInput("--minutes and --steps: each says how long", hint="give one of them")
    long = 60.0 if minutes is None else minutes
    done = _distill(DistillRequest(images, out, pdn, steps, long, batch, lr, px, bf16, device, seed, sources))
    print_json("distill", done) if as_json else _tell(done)
    return 0 if done.out is not None else INTERRUPTED


def _distill(asked: DistillRequest) -> Distilled:
    """Run with a progress bar."""
    from edgead.cli._console import progress
    from edgead.jobs.distill import distill

    with progress() as bar, _stop_on_signal() as stopped:
        task = bar.add_task("distilling", total=1.0)

        def begins(pictures: int, left_out: tuple[Path, ...], step: int) -> None:
            print(plain(f"{pictures} pictures" + _left_out(left_out)), file=sys.stderr)
            if step:
                print(plain(f"going on after step {step} ({asked.state})"), file=sys.stderr)

        def report(now: DistillProgress) -> None:
            bar.update(task, completed=now.fraction, description=f"step {now.step}, loss {now.loss:.4f}")

        return distill(asked, begins=begins, report=report, stop=stopped)


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM are noted, so that a step is finished before the state is saved."""
    seen: list[int] = []
    before = {number: signal.signal(number, lambda number, _: seen.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _left_out(unreadable: tuple[Path, ...]) -> str:
    if not unreadable:
        return ""
    names = ", ".join(str(path) for path in unreadable[:3]) + (", ..." if len(unreadable) > 3 else "")
    return f"; {len(unreadable)} files left out, which are none: {names}"


def _tell(done: Distilled) -> None:
    if done.out is None:
        print(plain(f"stopped after step {done.steps}; the same command goes on from there ({done.state})"), file=sys.stderr)
        return
    print(plain(f"{done.out}: {done.steps} steps, loss {done.loss:.4f} (1 is nothing learned)"))
    print(plain(f"to go on later, give more --minutes or --steps; else delete {done.state}"))
    print(plain(f"next: edgead train efficientad GOOD_DIR -o OUT --teacher {done.out}"))
