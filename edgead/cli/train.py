"""Train a model on a folder of good pictures: nothing else is needed.

GOOD_DIR is a folder of good pictures (with all below it), or a folder in MVTec layout (train/good, test/good, test/<defect>,
ground_truth/<defect>); with test/ there, AUROC is measured too. Folders of good pictures may be called good, OK, normal, pass...
A part of the good pictures is held out for the threshold and for checking exports.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead import versions
from edgead.errors import BadInput
from edgead.published import DEFAULT, PUBLISHED, check_side, fitting_side, published

if TYPE_CHECKING:
    from edgead.preprocess import PreprocessRecipe
    from edgead.training.alignment import AlignAsked
    from edgead.training.dataset import GoodImages
    from edgead.training.fit import TrainRequest, TrainResult
    from edgead.training.oddest import Oddest
    from edgead.training.tiles import Tiling

SUMMARY = "train a model on a folder of good pictures"

FAMILY_NAMES = ("patchcore", "simplenet", "efficientad")

_OPTIONS = ("backbone", "layers", "weights", "coreset", "steps", "teacher", "pdn", "outside")
"""Arguments that are passed on to the family when given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", choices=FAMILY_NAMES, metavar="MODEL", help=", ".join(FAMILY_NAMES))
    parser.add_argument("good_dir", type=Path, metavar="GOOD_DIR", help="folder of good pictures, or a folder in MVTec layout")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the trained model")
    parser.add_argument("--name", default="", help="name of the part (default: the folder's)")
    parser.add_argument(
        "--size",
        metavar="PX|WxH|native",
        help="model input size (default: chosen by pictures, drawn defects and --budget-ms; with --tiles the pictures' own)",
    )
    parser.add_argument(
        "--budget-ms",
        type=float,
        metavar="MS",
        help="camera picture to verdict on this machine, for the choice of the size (default 30)",
    )
    parser.add_argument("--roi", metavar="X,Y,W,H", help="inspected part of the camera picture, in pixels (default: all)")
    parser.add_argument(
        "--resize", choices=("box", "area", "linear", "antialias"), default="box", help="default box: fast, hardly any aliasing"
    )
    parser.add_argument(
        "--keep-aspect",
        choices=("letterbox", "crop", "no"),
        help="pictures of other proportions than the model's input: fit them in between grey bars, fill it and cut off both "
        "ends, or stretch them (default: stretch, but letterbox when the pictures' own proportions differ)",
    )
    parser.add_argument(
        "--bits", type=int, metavar="N", help="that 16-bit pictures really use, 8 to 16 (default: by their largest value)"
    )
    align = parser.add_argument_group("parts that move and turn (docs/alignment.md)")
    align.add_argument(
        "--align",
        choices=("template", "edges", "silhouette"),
        help="find the part in each picture by its grey levels, its edges or its outline on a plain background, and shift and "
        "turn it to where it lies in a reference picture; --roi is in that picture then",
    )
    align.add_argument(
        "--align-region", metavar="X,Y,W,H", help="what holds the part in the reference (default: --roi, else looked for)"
    )
    align.add_argument(
        "--align-reference",
        type=Path,
        metavar="FILE",
        help="good picture (default: a typical one; the first one with --align-region or --roi)",
    )
    align.add_argument(
        "--align-angle", type=float, metavar="DEG", help="parts are turned by at most so much to either side (default 180: any)"
    )
    align.add_argument("--align-shift", type=int, metavar="PX", help="parts are shifted by at most so much (default: anywhere)")
    parser.add_argument("--heldout", type=float, default=0.15, help="share of good pictures held out (default 0.15, at least 2)")
    parser.add_argument(
        "--threshold-from",
        choices=("all", "heldout"),
        default="all",
        help="all good pictures, those of training scored by models that have not seen them (default), or the held-out ones "
        "alone: a guaranteed rate, from few pictures",
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        metavar="FILE",
        help="a good picture that is none, as training names it; may be given again",
    )
    parser.add_argument("--seed", type=seed_of, default=0, help="of the split and the training")
    tiles = parser.add_argument_group("big pictures")
    tiles.add_argument("--tiles", metavar="PX|WxH", help="look at overlapping tiles of this size, such as 256")
    tiles.add_argument("--overlap", type=int, metavar="PX", help="of neighbouring tiles (default: an eighth of a tile)")
    tiles.add_argument(
        "--coarse",
        type=int,
        metavar="N",
        help="look at the whole picture at 1/N of its size first, then only at tiles that are not clearly good",
    )
    backbone = parser.add_argument_group("patchcore and simplenet")
    backbone.add_argument(
        "--backbone", metavar="NAME", help=f"{DEFAULT} (default), {', '.join(n for n in PUBLISHED if n != DEFAULT)}"
    )
    backbone.add_argument(
        "--layers", metavar="A,B", help="feature layers, e.g. blocks.4,blocks.10, layer2,layer3 or, of a transformer, blocks.11"
    )
    backbone.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights of the backbone (default: as edgead weights list shows, or fetched)"
    )
    parser.add_argument_group("patchcore").add_argument(
        "--coreset",
        type=_coreset,
        metavar="SHARE|ROWS",
        help="up to 1.0: share of all patches that is kept; a whole number: rows (default 0.01)",
    )
    parser.add_argument_group("simplenet and efficientad").add_argument("--steps", type=int, help="training steps")
    student = parser.add_argument_group("efficientad")
    student.add_argument("--teacher", type=Path, metavar="FILE", help="PDN teacher made by: edgead distill (default: shipped)")
    student.add_argument("--pdn", choices=("small", "medium"), help="network size (default small)")
    student.add_argument("--outside", type=Path, metavar="DIR", help="pictures of anything else, for the penalty")


def run(args: argparse.Namespace) -> int:
    from edgead.cli._console import console, progress
    from edgead.optional import require

    _check(args)
    for module in ("torch", "safetensors", "sklearn"):
        require(module, extra="train", why="Training")
    from edgead.training.fit import train

    request = _request(args)
    former = {version.path for version in versions.former(request.out)}

    with progress() as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
            bars.update(tasks[stage], completed=done)

        try:
            result = train(request, report)
        except KeyboardInterrupt:
            bars.stop()
            print(f"edgead train: interrupted, nothing was written to {request.out}", file=sys.stderr)
            return 130
    console().print(_summary(request, result), markup=False, soft_wrap=True)
    if kept := [version for version in versions.former(request.out) if version.path not in former]:
        back = f"edgead bundle restore {request.out}"
        console().print(f"the model that was there is kept as {kept[-1].path}; to put it back: {back}", markup=False)
    return 0


def _check(args: argparse.Namespace) -> None:
    """What can be known before torch is imported and pictures are read. Raises BadInput, StorageError."""
    from edgead.bundle import check_target
    from edgead.layout import find_good, good_pictures, leave_out

    backbone = published(args.backbone or DEFAULT).name
    if (tile := _tiling_asked(args)) is not None:
        check_side(backbone, *tile)
    elif args.size not in (None, "native"):
        check_side(backbone, *parse_size(args.size))
    _budget(args)
    _check_align(args)
    _recipe(args, 256, 256) if args.size in (None, "native") else _recipe(args, *parse_size(args.size))
    good, root = find_good(args.good_dir)
    leave_out(good_pictures(good), args.leave_out or ())
    for flag, path in (("--weights", args.weights), ("--teacher", args.teacher), ("--outside", args.outside)):
        if path is not None and not (path.is_dir() if flag == "--outside" else path.is_file()):
            kind = "folder" if flag == "--outside" else "file"
            what = f"is not a {kind}" if path.exists() else "does not exist"
            raise BadInput(f"{flag} {path} {what}", hint=f"give a {kind}, or leave {flag} out")
    check_target(args.out, "model.json", "a trained model")
    for folder in (good, root / "test" if root is not None else good):
        if args.out.resolve().is_relative_to(folder.resolve()):
            raise BadInput(
                f"-o {args.out} lies in {folder}, a folder of pictures: the next training would take the model's for such",
                hint="choose another -o",
            )


def _budget(args: argparse.Namespace) -> bool:
    """Whether the size is to be chosen. Raises BadInput when a budget for that is given, and nothing is."""
    given = "--size" if args.size is not None else "--tiles" if args.tiles is not None else None
    if given is None:
        if args.budget_ms is not None and not 0 < args.budget_ms < math.inf:
            raise BadInput(f"a budget of {args.budget_ms:g} ms is not usable", hint="give milliseconds above 0, such as 30")
        return True
    if args.budget_ms is not None:
        raise BadInput(
            f"--budget-ms chooses the input size, and {given} gives it",
            hint=f"leave one of them out; edgead export --budget-ms finds the fastest engine of a model trained with {given}",
        )
    return False


def _check_align(args: argparse.Namespace) -> None:
    """Raises BadInput."""
    given = [name for name in ("region", "reference", "angle", "shift") if getattr(args, f"align_{name}") is not None]
    if args.align is None:
        if given:
            raise BadInput(
                f"--align-{given[0]} says how parts are found, and they are not looked for",
                hint="give --align template, edges or silhouette too",
            )
        return
    if args.align_region is not None:
        parse_roi(args.align_region, "--align-region")
    if args.align_angle is not None and not 0 <= args.align_angle <= 180:
        raise BadInput(
            f"parts cannot be turned by {args.align_angle:g} degrees to either side", hint="give --align-angle 0 to 180"
        )
    if args.align_shift is not None and args.align_shift < 1:
        raise BadInput(f"parts cannot be shifted by {args.align_shift} px", hint="give --align-shift 1 or more")
    if args.align_reference is not None and not args.align_reference.is_file():
        raise BadInput(f"--align-reference {args.align_reference} is not a file", hint="give a good picture")
    native = args.size == "native" or (args.size is None and args.tiles is not None)
    if native and args.roi is None and args.align_region is None:
        raise BadInput(
            "the size of what the model looks at is not known before the part is found",
            hint="give --size, --roi or --align-region",
        )


def _align(args: argparse.Namespace) -> AlignAsked | None:
    from edgead.training.alignment import AlignAsked

    if args.align is None:
        return None
    region = None if args.align_region is None else parse_roi(args.align_region, "--align-region")
    angle = 180.0 if args.align_angle is None else args.align_angle
    return AlignAsked(args.align, region, angle, args.align_shift, args.align_reference)


def _recipe(args: argparse.Namespace, width: int, height: int) -> PreprocessRecipe:
    from edgead.preprocess import PreprocessRecipe

    roi = parse_roi(args.roi) if args.roi else None
    aspect = "stretch" if args.keep_aspect in (None, "no") else args.keep_aspect
    return PreprocessRecipe(width, height, roi, args.resize, aspect=aspect, bits=16 if args.bits is None else args.bits)


def _request(args: argparse.Namespace) -> TrainRequest:
    from edgead.survey import settle
    from edgead.training.dataset import native_size
    from edgead.training.fit import TrainRequest
    from edgead.training.sizing import Sizing

    roi = parse_roi(args.roi) if args.roi else None
    if roi is None and args.align_region is not None:
        roi = parse_roi(args.align_region, "--align-region")
    tiling = _tiling(args)
    backbone = args.backbone or DEFAULT
    size = args.size or ("native" if tiling else str(fitting_side(backbone, 256)))
    width, height = native_size(args.good_dir, roi) if size == "native" else parse_size(size)
    if tiling is None:
        check_side(backbone, width, height)
    aspect = "stretch" if args.keep_aspect == "no" else args.keep_aspect
    recipe = _recipe(args, width, height)
    options = {name: value for name in _OPTIONS if (value := getattr(args, name)) is not None}
    if "layers" in options:
        options["layers"] = tuple(options["layers"].split(","))
    return TrainRequest(
        args.model, args.good_dir, args.out, recipe, options, args.name, args.heldout, args.seed, tiling,
        lambda asked, survey: settle(asked, survey, aspect, args.bits),
        sizing=Sizing(args.budget_ms) if _budget(args) else None,
        crossfit=args.threshold_from == "all", leave_out=tuple(args.leave_out or ()), align=_align(args),
    )  # fmt: skip


def seed_of(text: str) -> int:
    """A number that NumPy, PyTorch and scikit-learn all take as a seed, for argparse."""
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {(1 << 32) - 1}")
    return int(text)


def _coreset(text: str) -> float | int:
    """``1`` is one row, ``1.0`` and ``100%`` are all patches."""
    try:
        return int(text) if text.isdigit() else float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share such as 0.01 nor a number of rows") from None


def _tiling_asked(args: argparse.Namespace) -> tuple[int, int] | None:
    """Width and height of a tile. Raises BadInput."""
    if args.tiles is not None:
        return parse_size(args.tiles)
    if args.overlap is not None or args.coarse is not None:
        raise BadInput("--overlap and --coarse say how tiles are used, and there are none", hint="give --tiles 256 too")
    return None


def _tiling(args: argparse.Namespace) -> Tiling | None:
    from edgead.training.tiles import Tiling

    if (asked := _tiling_asked(args)) is None:
        return None
    width, height = asked
    return Tiling(height, width, args.overlap, args.coarse)


def _told_of_tiles(tiling: Tiling, figures: dict[str, float]) -> str:
    told = f"{figures['tiles']:.0f} of {tiling.width} x {tiling.height} px, overlapping by {tiling.shared} px or more"
    if "tiles_run_good" not in figures:
        return told
    found = f"{figures['drawn_found']:.0f} of {figures['drawn']:.0f} drawn defects"
    return f"{told}; {figures['tiles_run_good']:.0%} of them run on good pictures, none lost of {found} that the tiles find"


def parse_size(text: str) -> tuple[int, int]:
    """ "256" -> (256, 256), "320x256" -> (320, 256): width and height in pixels. Raises BadInput."""
    width, times, height = text.lower().partition("x")
    try:
        return int(width), int(height if times else width)
    except ValueError:
        raise BadInput(f"{text!r} is not a size", hint="give --size 256 or --size 320x256 (width x height)") from None


def parse_roi(text: str, flag: str = "--roi") -> tuple[int, int, int, int]:
    """ "10,20,300,200" -> (10, 20, 300, 200): x, y, width, height in pixels. Raises BadInput."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        what = "a region of interest" if flag == "--roi" else "a region"
        raise BadInput(f"{text!r} is not {what}", hint=f"give {flag} x,y,width,height in pixels") from None
    return x, y, width, height


def _summary(request: TrainRequest, result: TrainResult) -> str:
    from edgead.cli._sizing import over, told
    from edgead.layout import is_bad

    images, figures = result.images, result.metrics
    recipe = images.recipe
    how = "" if recipe.aspect == "stretch" else f", proportions kept ({recipe.aspect})"
    rows = [
        ("model", f"{request.family}, {recipe.width} x {recipe.height} px{how}"),
        ("read", f"{images.folder}: {images.found.told()}"),
        *(("", line) for line in images.survey.lines()),
        *(("left out", line) for line in _left_out(images)),
        ("good images", f"{len(images.train)} trained on, {len(images.heldout)} held out"),
    ]
    sizing = None if result.size is None else result.size.to_json()
    if sizing is not None:
        rows += [("input size" if i == 0 else "", line) for i, line in enumerate(told(sizing))]
    if images.aligned is not None:
        rows += [("aligned" if i == 0 else "", line) for i, line in enumerate(images.aligned.lines())]
        rows.append(("", f"picture of it: {request.out / 'aligned.png'}"))
    if request.tiling is not None:
        rows.append(("tiles", _told_of_tiles(request.tiling, figures)))
    rows += [*_of_threshold(result), *_of_labels(result)]
    if result.oddest:
        rows += [("oddest pictures" if i == 0 else "", _odd(one, result)) for i, one in enumerate(result.oddest)]
    named = [f"the folder {images.folder.name} is called as one of defects: is it one of good pictures?"]
    named = named if is_bad(images.folder.name) else []
    slow = [line for line in (over(sizing),) if line] if sizing is not None else []
    rows += [("warning", line) for line in (*named, *slow, *images.survey.warnings(recipe), *map(str, result.findings))]
    rows += [
        ("took", f"{result.elapsed_s:.1f} s"),
        ("trained model", str(request.out)),
        ("next", f"edgead export {request.out}"),
    ]
    return "\n".join(f"{name:<18}{value}" for name, value in rows)


def _left_out(images: GoodImages) -> list[str]:
    from edgead.layout import listed, skipped_lines

    lines = skipped_lines(images.found.skipped)
    if images.left_out:
        lines.append(
            f"{len(images.left_out)} as asked for ({listed(str(f.relative_to(images.folder)) for f in images.left_out)})"
        )
    if images.duplicates:
        names = listed(file.name for file in images.duplicates)
        lines.append(f"{len(images.duplicates)} exact copies of others ({names})")
    return lines


def _of_threshold(result: TrainResult) -> list[tuple[str, str]]:
    """The threshold, the pictures that set it, and those that it rejects."""
    from edgead.layout import listed
    from edgead.thresholds.choose import FEW

    images, scored = result.images, result.scored
    rows = [("threshold", f"{result.threshold.value:.6g} ({result.threshold.method})")]
    order, names = scored.order(), [str(file.relative_to(images.folder)) for file in scored.files]
    over = int((scored.scores >= result.threshold.value).sum())
    setter = int(order[min(over, len(order) - 1)])
    by = f"set by {names[setter]} ({scored.scores[setter]:.6g})"
    if (without := scored.without([setter])) is not None:
        by += f"; without it the threshold would be {without:.6g}"
    if over:
        by += f"; {over} NG: {listed(f'{names[i]} ({scored.scores[i]:.6g})' for i in order[:over])}"
    rows.append(("", by))
    if odd := scored.odd():
        told = f"{listed(names[i] for i in odd)}: {'a score' if len(odd) == 1 else 'scores'} that chance does not explain"
        if (without := scored.without(odd)) is not None:
            told += f"; without {'it' if len(odd) == 1 else 'them'} the threshold would be {without:.6g}"
        rows.append(("odd pictures", f"{told}; no good parts? take them away: --leave-out {names[odd[0]]}"))
    if scored.why and result.threshold.chosen is not None:
        rows.append(("", f"from the held-out pictures alone: {scored.why}"))
    if len(scored.scores) < FEW:
        rows.append(("", f"rough: from {len(scored.scores)} pictures; give {FEW} or more, or check it on real defects"))
    return rows


def _of_labels(result: TrainResult) -> list[tuple[str, str]]:
    """What labelled pictures, or drawn defects without such, say of the model."""
    from edgead.layout import skipped_lines

    figures, rows = result.metrics, []
    if result.labels is not None:
        rows.append(("labelled", result.labels.told()))
        rows += [("left out", line) for line in skipped_lines(result.labels.skipped)]
    if "image_auroc" in figures:
        counts = f"{figures['test_good']:.0f} good, {figures['test_defects']:.0f} defective test images"
        rows.append(
            ("image AUROC", f"{figures['image_auroc']:.4f} ({counts}; brightness alone {figures['brightness_auroc']:.4f})")
        )
    if "caught" in figures:
        rejected = f", {figures['rejected']:.1%} of good rejected" if "rejected" in figures else ""
        rows.append(("at the threshold", f"{figures['caught']:.1%} of defects caught{rejected}"))
    if "pro" in figures:
        rows.append(("pixel AUROC, PRO", f"{figures['pixel_auroc']:.4f}, {figures['pro']:.4f}"))
    if "drawn_caught" in figures:
        told = f"{figures['drawn_caught']:.0%} of {figures['drawn_count']:.0f} caught, AUROC {figures['drawn_auroc']:.4f}"
        rows.append(("drawn defects", f"{told} (no labelled ones; a third of them faint)"))
    return rows


def _odd(one: Oddest, result: TrainResult) -> str:
    where = "held out" if one.heldout else "trained on"
    mark = ": unlike all others, is it a defect?" if one.odd else ""
    name = one.file.relative_to(result.images.folder)
    if one.odd and one.without is not None:
        mark += f"; without it the threshold would be {one.without:.4g}"
    return f"{name}: {one.times:.2f} times as far from the others as usual, score {one.score:.4g}, {where}{mark}"
