"""Distil a PDN teacher for EfficientAD from the EfficientNet-Lite0 backbone, on pictures of anything.

All pictures in the folders and in the folders in them are taken; the more kinds of things and surfaces, the better the teacher.
What is no picture is left out and counted. Ctrl-C saves how far it came; the same command goes on from there, and a finished
run goes on with more --minutes or --steps. A PDN-S teacher comes with edgead; this verb makes better or larger ones
(docs/teacher.md has its recipe).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgead.cli.train import seed_of
from edgead.errors import BadInput
from edgead.words import plain

SUMMARY = "distil a teacher network for EfficientAD from pictures of anything"

INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGES_DIR", help="folders of pictures, searched with their subfolders"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the teacher, a .safetensors file")
    parser.add_argument("--pdn", choices=("small", "medium"), default="small", help="network size (default small)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="train for so long (default 60)")
    length.add_argument("--steps", type=int, help="train so many steps")
    parser.add_argument("--batch", type=int, default=4, help="crops in a step (default 4)")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="peak learning rate (default 0.0015)")
    parser.add_argument("--px", type=int, default=256, help="side of a crop in pixels, a multiple of 32 (default 256)")
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, help="compute in bfloat16 (default: where the device has it)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--seed", type=seed_of, default=0, help="of crops, order and initial weights (default 0)")
    parser.add_argument("--sources", type=Path, metavar="JSON", help="where the pictures come from, stored in the teacher's file")


def run(args: argparse.Namespace) -> int:
    state = args.out.with_suffix(".state")
    if args.out.exists() and not state.exists():
        raise BadInput(f"{args.out} exists", hint="choose another -o, or remove it yourself")
    if args.out.suffix != ".safetensors":
        raise BadInput(f"{args.out} does not end in .safetensors", hint=f"give -o {args.out.with_suffix('.safetensors')}")
    for folder in args.images:
        if not folder.is_dir():
            raise BadInput(f"{folder} is not a folder", hint="give folders of pictures")
    sources = _read_sources(args.sources)
    from edgead.optional import require

    for module in ("torch", "safetensors"):
        require(module, extra="train", why="Distilling")
    from edgead.families.efficientad.distill import Distiller, DistillRecipe
    from edgead.models.learning.outside import find_pictures

    if args.steps is not None and args.steps < 1:
        raise BadInput(f"{args.steps} steps make no teacher", hint="give --steps 1 or more")
    minutes = 60.0 if args.minutes is None else args.minutes
    bf16 = _bf16(args.bf16, args.device)
    recipe = DistillRecipe(args.pdn, args.batch, args.lr, args.seed, args.steps or 0, minutes, bf16, args.px)
    files, unreadable = find_pictures(args.images)
    print(plain(f"{len(files)} pictures" + _left_out(unreadable)), file=sys.stderr)
    distiller = Distiller(files, recipe, state, args.device)
    if distiller.step:
        print(plain(f"going on after step {distiller.step} ({state})"), file=sys.stderr)
    if not _train(distiller):
        print(plain(f"stopped after step {distiller.step}; the same command goes on from there ({state})"), file=sys.stderr)
        return INTERRUPTED
    distiller.save_teacher(args.out, sources)
    print(plain(f"{args.out}: {distiller.step} steps, loss {distiller.loss:.4f} (1 is nothing learned)"))
    print(plain(f"to go on later, give more --minutes or --steps; else delete {state}"))
    print(plain(f"next: edgead train efficientad GOOD_DIR -o OUT --teacher {args.out}"))
    return 0


def _train(distiller: Any) -> bool:
    """Run with a progress bar; whether it came to its end."""
    from edgead.cli._console import progress

    with progress() as bar, _stop_on_signal() as stopped:
        task = bar.add_task("distilling", total=1.0, completed=distiller.fraction())

        def report(now: Any) -> None:
            bar.update(task, completed=now.fraction, description=f"step {now.step}, loss {now.loss:.4f}")

        done: bool = distiller.run(report, stop=stopped)
        return done


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


def _bf16(wanted: bool | None, device: str) -> bool:
    import torch

    from edgead.machine import cpu_flags

    if device != "cpu" and not (device.split(":")[0] == "cuda" and torch.cuda.is_available()):
        raise BadInput(f"this PyTorch has no device {device!r}", hint="give --device cpu")
    if wanted is None:
        return device != "cpu" or "avx512_bf16" in cpu_flags()
    return wanted


def _left_out(unreadable: list[Path]) -> str:
    if not unreadable:
        return ""
    names = ", ".join(str(path) for path in unreadable[:3]) + (", ..." if len(unreadable) > 3 else "")
    return f"; {len(unreadable)} files left out, which are none: {names}"


def _read_sources(path: Path | None) -> list[Any]:
    if path is None:
        return []
    try:
        sources = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as JSON ({error})", hint="give a JSON list") from error
    if not isinstance(sources, list):
        raise BadInput(f"{path} holds no list", hint="give a JSON list, such as the sources.json of benchmarks/teacher_corpus.py")
    return sources
