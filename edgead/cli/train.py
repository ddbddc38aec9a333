"""Train a model on a folder of good pictures: nothing else is needed.

GOOD_DIR is a folder of good pictures (with all below it), or a folder in MVTec layout (train/good, test/good, test/<defect>,
ground_truth/<defect>); with test/ there, AUROC is measured too. Folders of good pictures may be called good, OK, normal, pass...
A part of the good pictures is held out for the threshold and for checking exports.

MODEL auto tries the plausible methods, judges them on the same unseen good pictures and on defects drawn onto these (--labelled:
on real ones), and keeps the best; with --budget-ms the best that has an engine in time, and its bundle beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgead.cli._console import told_progress
from edgead.cli._family import family_options, given_to
from edgead.cli._json import print_json
from edgead.cli._options import JSON, SEED_OF, refuse
from edgead.cli._types import FRAME, NUMBER, PATH, RECTANGLE, SIZE, WHOLE, Parsed, size
from edgead.cli._verb import argument, option, verb
from edgead.families import methods
from edgead.families.contract import LITE, PAPER

ALIGN, BIG, AUTO = "parts that move and turn (edgead docs alignment)", "big pictures", "auto (edgead docs methods)"
LOOKED = (
    "size", "budget_ms", "roi", "resize", "keep_aspect", "bits", "tiles", "overlap", "coarse", "align", "align_region",
    "align_reference", "align_angle", "align_shift",
)  # fmt: skip
"""Parameters that are attributes of :class:`edgead.jobs.train.Looked`."""


def _size(text: str) -> tuple[int, int] | str:
    return text if text == "native" else size(text)


@verb(__doc__)
@family_options
@argument("model", metavar="MODEL", help=f"auto, or one of: {', '.join(methods())}")
@argument("good_dir", type=PATH, metavar="GOOD_DIR", help="folder of good pictures, or a folder in MVTec layout")
@option("-o", "--out", type=PATH, required=True, metavar="DIR", help="folder for the trained model")
@option("--name", default="", metavar="TEXT", help="name of the part (default: the folder's)")
@option(
    "--size",
    type=Parsed(_size, "size"),
    metavar="PX|WxH|native",
    help="model input size (default: chosen by pictures, drawn defects and --budget-ms; with --tiles the pictures' own)",
)
@option(
    "--budget-ms",
    type=NUMBER,
    metavar="MS",
    help="camera picture to verdict on this machine, for the choice of the size (default 30)",
)
@option("--roi", type=RECTANGLE, metavar="X,Y,W,H", help="inspected part of the camera picture, in pixels (default: all)")
@option(
    "--resize",
    type=click.Choice(("box", "area", "linear", "antialias")),
    default="box",
    help="default box: fast, hardly any aliasing",
)
@option(
    "--keep-aspect",
    type=click.Choice(("letterbox", "crop", "no")),
    help="pictures of other proportions than the model's input: fit them in between grey bars, fill it and cut off both "
    "ends, or stretch them (default: stretch, but letterbox when the pictures' own proportions differ)",
)
@option("--bits", type=WHOLE, metavar="N", help="that 16-bit pictures really use, 8 to 16 (default: by their largest value)")
@option(
    "--align",
    type=click.Choice(("template", "edges", "silhouette")),
    group=ALIGN,
    help="find the part in each picture by its grey levels, its edges or its outline on a plain background, and shift and "
    "turn it to where it lies in a reference picture; --roi is in that picture then",
)
@option(
    "--align-region",
    type=RECTANGLE,
    metavar="X,Y,W,H",
    group=ALIGN,
    help="what holds the part in the reference (default: --roi, else looked for)",
)
@option(
    "--align-reference",
    type=PATH,
    metavar="FILE",
    group=ALIGN,
    help="good picture (default: a typical one; the first one with --align-region or --roi)",
)
@option(
    "--align-angle",
    type=NUMBER,
    metavar="DEG",
    group=ALIGN,
    help="parts are turned by at most so much to either side (default 180: any)",
)
@option(
    "--align-shift",
    type=WHOLE,
    metavar="PX",
    group=ALIGN,
    help="parts are shifted by at most so much (default: anywhere)",
)
@option(
    "--heldout",
    type=NUMBER,
    default=0.15,
    metavar="SHARE",
    help="share of good pictures held out (default 0.15, at least 2)",
)
@option(
    "--threshold-from",
    type=click.Choice(("all", "heldout")),
    default="all",
    help="all good pictures, those of training scored by models that have not seen them (default), or the held-out ones "
    "alone: a guaranteed rate, from few pictures",
)
@option(
    "--leave-out",
    multiple=True,
    metavar="FILE",
    help="a good picture that is none, as training names it; may be given again",
)
@option(
    "--defects",
    type=PATH,
    multiple=True,
    metavar="DIR",
    help="folder of defects to learn from, for models that do; masks: NAME_mask.png beside, or ground_truth/; may be given again",
)
@option(
    "--preset",
    type=click.Choice((LITE, PAPER)),
    help="lite: trained in minutes on two cores; paper: sizes and schedule of the method's paper, for a GPU (default: lite on "
    "the CPU, paper elsewhere where there is one)",
)
@option("--device", default="cpu", metavar="NAME", help="cpu or cuda: what trains (default cpu)")
@option(
    "--checkpoint",
    type=PATH,
    metavar="FILE",
    help="kept every minute of a long training, which goes on from it when it is started again; removed at its end",
)
@option(
    "--report",
    type=PATH,
    metavar="FILE",
    help="draw how the loss went, scores and threshold, and the oddest good pictures with their maps: a .html or .md file (needs "
    "edgead[report])",
)
@SEED_OF
@option("--tiles", type=SIZE, metavar="PX|WxH", group=BIG, help="look at overlapping tiles of this size, such as 256")
@option("--overlap", type=WHOLE, metavar="PX", group=BIG, help="of neighbouring tiles (default: an eighth of a tile)")
@option(
    "--coarse",
    type=WHOLE,
    metavar="N",
    group=BIG,
    help="look at the whole picture at 1/N of its size first, then only at tiles that are not clearly good",
)
@option(
    "--labelled",
    type=PATH,
    metavar="DIR",
    group=AUTO,
    help="real defects to choose by: test/good and test/DEFECT...; they decide from 10 on (default: drawn ones)",
)
@option("--minutes", type=NUMBER, metavar="M", group=AUTO, help="begin no training that would end after so many (default 10)")
@option(
    "--frame", type=FRAME, metavar="WxH", group=AUTO, help="size of the camera's pictures, for --budget-ms (default 1920x1080)"
)
@JSON
def command(
    model: str,
    good_dir: Path,
    out: Path,
    name: str,
    heldout: float,
    threshold_from: str,
    leave_out: tuple[str, ...],
    defects: tuple[Path, ...],
    preset: str | None,
    device: str,
    checkpoint: Path | None,
    report: Path | None,
    labelled: Path | None,
    minutes: float | None,
    frame: tuple[int, int] | None,
    seed: int,
    as_json: bool,
    **asked: Any,
) -> int:
    from edgead.jobs.train import Looked, train, train_request

    if model == "auto":
        refuse(*(name for name in asked if name not in LOOKED), "defects", "preset", "checkpoint", "report", "tiles", "overlap",
               "coarse", why="for one method, and auto tries several",
               hint="leave it out, or name a method instead of auto")  # fmt: skip
        from edgead.cli._auto import told_auto

        budget_ms = asked.pop("budget_ms")
        if budget_ms is None:
            refuse("frame", why="for an engine in time, and there is no --budget-ms", hint="give --budget-ms, or leave it out")
        return told_auto(
            good_dir, out, Looked(**{attribute: asked[attribute] for attribute in LOOKED if attribute != "budget_ms"}), as_json,
            name=name, heldout=heldout, seed=seed, all_good=threshold_from == "all", left_out=leave_out, device=device,
            budget_ms=budget_ms, frame=frame, labelled=labelled, **({} if minutes is None else {"minutes": minutes}),
        )  # fmt: skip
    refuse("labelled", "minutes", "frame", why="for edgead train auto only", hint="leave it out, or give auto as MODEL")
    if report is not None:
        from edgead.export.report import check_report

        check_report(report)
    looked = Looked(**{attribute: asked.pop(attribute) for attribute in LOOKED})
    request = train_request(
        model,
        good_dir,
        out,
        looked,
        given_to(model, asked),
        name=name,
        heldout=heldout,
        seed=seed,
        all_good=threshold_from == "all",
        left_out=leave_out,
        defects=defects,
        preset=preset,
        device=device,
        checkpoint=checkpoint,
    )
    try:
        with told_progress() as progress:
            made = train(request, progress)
    except KeyboardInterrupt:
        kept = "" if checkpoint is None or not checkpoint.exists() else f"; {checkpoint} holds how far it came"
        print(f"edgead train: interrupted, nothing was written to {out}{kept}", file=sys.stderr)
        return 130
    if report is not None:
        from edgead.jobs.trained_page import write_page

        write_page(report, made)
    from edgead.cli._trained import Model, summary

    if as_json:
        print_json("train", Model.of(made))
        return 0
    from edgead.cli._console import console

    console().print(summary(made), markup=False, soft_wrap=True)
    if report is not None:
        console().print(f"{'report':<18}{report}", markup=False, soft_wrap=True)
    if made.kept is not None:
        back = f"edgead bundle restore {out}"
        console().print(f"the model that was there is kept as {made.kept}; to put it back: {back}", markup=False)
    return 0
