"""Teach a backbone to see small changes on your own good pictures (SPot-the-Difference), for all models that take --weights.

GOOD_DIR: folders of good pictures, or in MVTec layout (their training pictures are taken). It starts from the published weights
and stays near them. What it brings is small and not sure (edgead docs pretraining):
compare the two models on labelled defects. Ctrl-C writes nothing; with --checkpoint the same command goes on from there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import JSON, SEED_OF
from edgead.cli._types import NUMBER, PATH, WHOLE
from edgead.cli._verb import argument, option, verb
from edgead.published import DEFAULT
from edgead.words import plain


@verb(__doc__)
@argument("good", type=PATH, nargs=-1, required=True, metavar="GOOD_DIR...", help="folders of good pictures")
@option("-o", "--out", type=PATH, required=True, metavar="FILE", help="the weights, a .safetensors file")
@option("--backbone", default=DEFAULT, metavar="NAME", help=f"EfficientNet-Lite or ResNet (default {DEFAULT})")
@option("--weights", type=PATH, metavar="FILE", help="start from these (default: the published ones)")
@option("--layers", metavar="NAME,...", help="whose features are looked at (default: the usual ones)")
@option("--steps", type=WHOLE, default=300, metavar="N", help="steps of training (default 300: minutes on two cores)")
@option("--batch", type=WHOLE, default=8, metavar="N", help="pictures in a step (default 8)")
@option("--lr", type=NUMBER, default=1e-4, metavar="X", help="peak learning rate (default 0.0001)")
@option("--anchor", type=NUMBER, default=1.0, metavar="X", help="how strongly it stays near where it started (default 1)")
@option("--px", type=WHOLE, default=224, metavar="PX", help="side of a view in pixels, a multiple of 32 (default 224)")
@option("--device", default="cpu", metavar="NAME", help="cpu or cuda (default cpu)")
@option(
    "--checkpoint",
    type=PATH,
    metavar="FILE",
    help="kept every minute of a long training, which goes on from it when it is started again; removed at its end",
)
@SEED_OF
@JSON
def command(
    good: tuple[Path, ...],
    out: Path,
    backbone: str,
    weights: Path | None,
    layers: str | None,
    steps: int,
    batch: int,
    lr: float,
    anchor: float,
    px: int,
    device: str,
    checkpoint: Path | None,
    seed: int,
    as_json: bool,
) -> int:
    from edgead.jobs.pretrain import PretrainRequest, pretrain

    named = None if layers is None else tuple(name.strip() for name in layers.split(",") if name.strip())
    asked = PretrainRequest(good, out, backbone, weights, named, steps, batch, lr, anchor, px, seed, device, checkpoint)
    try:
        with told_progress() as progress:
            done = pretrain(asked, progress)
    except KeyboardInterrupt:
        kept = "" if checkpoint is None or not checkpoint.exists() else f"; {checkpoint} holds how far it came"
        print(plain(f"edgead pretrain: interrupted, nothing was written to {out}{kept}"), file=sys.stderr)
        return 130
    if as_json:
        print_json("pretrain", done)
        return 0
    copies = f", {done.left_out} left out (copies, or beyond the most)" if done.left_out else ""
    print(plain(f"{done.out}: {done.backbone}, taught on {done.pictures} pictures{copies}; best at step {done.step} of {steps}"))
    print(f"small changes on held-out pictures: {done.apart_before:.4f} before, {done.apart_after:.4f} now (more is clearer)")
    print(f"features went {done.moved:.2f} of their deviations from where they were")
    also = "" if backbone == DEFAULT else f" --backbone {backbone}"
    print(plain(f"next: edgead train MODEL GOOD_DIR -o DIR{also} --weights {done.out}, and compare on labelled defects"))
    return 0
