"""Choose the thresholds of a bundle anew on the line, from new good pictures; every engine on its own answers.

The pictures are the camera's own, as it gives them: not those the model was trained on, or the promise is worth nothing. Without
defects the threshold promises a false-reject rate (--max-false-reject); with them, a miss rate (--max-miss) or the least cost
(--cost-ratio). Rates are shares (0.001) or percent (0.1%). What is not given stays as it is: by score or by area, regions,
minimal area. Earlier thresholds stay in the bundle. With nothing but BUNDLE it shows them. Needs neither torch nor onnx.
Running stations take a new threshold at their next start, or with --apply now: between two parts, checked as at a start. What it
would have changed: edgead records DIR --replay VALUE.

regions, in parts (0 to 1) of the width and height of the picture that the bundle looks at (its region of interest):
  include=0.1,0.1,0.8,0.5       look only at this rectangle: x,y,width,height (or at several such)
  exclude=0,0,1,0.1             do not look at this one
  exclude=0,0,0.5,0,0,0.5       six or more numbers are the corners x,y of a polygon
  include=0.4,0.4,0.2,0.2@1.8   this one has a pixel threshold of its own
  none                          look everywhere again
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import ENGINE, JSON, THREADS, refuse
from edgead.cli._types import NUMBER, PATH, Parsed
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput
from edgead.thresholds.written import Band, area, band, rate, region

if TYPE_CHECKING:
    from edgead.bundle import Bundle
    from edgead.decision import Region
    from edgead.jobs.threshold import Written

RATE = Parsed(rate, "rate")
WISH, PIXELS = "what is wished", "pixels and areas of the anomaly map"


@verb(__doc__)
@argument("bundle", type=PATH, metavar="BUNDLE", help="NAME.edgead folder")
@ENGINE
@option("--good", type=PATH, multiple=True, metavar="DIR", help="folder of good pictures; may be given again")
@option("--defects", type=PATH, multiple=True, metavar="DIR", help="folder of defects; may be given again")
@option("--max-false-reject", type=RATE, metavar="RATE", group=WISH, help="good parts that may be NG (default: as before; 1%)")
@option("--max-miss", type=RATE, metavar="RATE", group=WISH, help="defects that may be OK")
@option("--cost-ratio", type=NUMBER, metavar="X", group=WISH, help="a miss costs so many false rejects: the cheapest threshold")
@option(
    "--defect-rate",
    type=RATE,
    metavar="RATE",
    group=WISH,
    help="defective parts on the line, for --cost-ratio (default: as given)",
)
@option("--set", "value", type=NUMBER, metavar="VALUE", group=WISH, help="this threshold, by hand (of pixels when by area)")
@option(
    "--unknown-band",
    type=Parsed(band, "band"),
    metavar="BAND",
    group=WISH,
    help="UNKNOWN instead of OK from where good parts reach a larger rate (5%), or from LOW:HIGH, or between --max-miss "
    "and --max-false-reject (rates); none",
)
@option("--by", type=click.Choice(("score", "area")), group=PIXELS, help="what decides: the score, or the area of a defect")
@option("--pixel-threshold", type=NUMBER, metavar="X", group=PIXELS, help="this one; the minimal area is chosen instead")
@option(
    "--min-area",
    type=Parsed(area, "area"),
    metavar="N",
    group=PIXELS,
    help="connected map pixels that are NG, or a share of the map (0.5%); default 1",
)
@option(
    "--region",
    "regions",
    type=Parsed(region, "region"),
    multiple=True,
    metavar="R",
    group=PIXELS,
    help="where to look (above); may be given again",
)
@option("--history", is_flag=True, help="show the thresholds and all earlier ones")
@option("--undo", is_flag=True, help="take the last change back")
@option(
    "--apply", is_flag=True, help="stations that run take it now, between two parts (alone: take the bundle's present thresholds)"
)
@option("--dry-run", is_flag=True, help="change nothing")
@THREADS
@JSON
def command(
    bundle: Path,
    engine: str | None,
    good: tuple[Path, ...],
    defects: tuple[Path, ...],
    max_false_reject: float | None,
    max_miss: float | None,
    cost_ratio: float | None,
    defect_rate: float | None,
    value: float | None,
    unknown_band: Band | None,
    by: str | None,
    pixel_threshold: float | None,
    min_area: int | float | None,
    regions: tuple[Region | None, ...],
    history: bool,
    undo: bool,
    apply: bool,
    dry_run: bool,
    threads: int | None,
    as_json: bool,
) -> int:
    from edgead.jobs.choosing import ThresholdRequest
    from edgead.jobs.threshold import apply_thresholds, choose_thresholds, undo_thresholds

    where = _regions(regions)
    request = ThresholdRequest(
        bundle, engine, good, defects, max_false_reject, max_miss, cost_ratio, defect_rate, value, unknown_band, by,
        pixel_threshold, min_area, where, dry_run, threads,
    )  # fmt: skip
    if undo and request.asks:
        raise BadInput("--undo goes alone", hint="take the change back first, then choose anew")
    if apply:
        refuse("dry_run", "history", why="with --apply stations take a threshold", hint="look first, then apply it")
    if apply and not undo and not request.asks:
        refuse("threads", why="no engine is asked when thresholds are applied", hint="leave it out")
        return _apply(bundle, as_json)
    if history and (undo or request.asks):
        raise BadInput("--history goes alone", hint="look first, then choose anew or take the change back")
    if undo:
        refuse("threads", why="no engine is asked when a change is taken back", hint="leave it out")
    if not undo and not request.asks:
        refuse("dry_run", "threads", why="nothing is chosen", hint="say what to choose: --good DIR, --set VALUE")
        return _history(bundle, engine, history, as_json)
    with told_progress() as progress:
        written = undo_thresholds(bundle, engine, dry_run=dry_run) if undo else choose_thresholds(request, progress)
    if apply:
        apply_thresholds(written.bundle)
    if as_json:
        from edgead.cli._thresholds import Thresholds

        print_json("threshold", replace(Thresholds.after(written), applied=apply))
    else:
        _tell(written, apply)
    return 0


def _apply(path: Path, as_json: bool) -> int:
    """The thresholds that the bundle has."""
    from edgead.bundle import Bundle
    from edgead.cli._thresholds import Thresholds
    from edgead.jobs.threshold import apply_thresholds

    refuse("engine", why="stations take the thresholds of all engines", hint="leave it out")
    bundle = Bundle.open(path)
    apply_thresholds(bundle)
    if as_json:
        print_json("threshold", replace(Thresholds.of(bundle, bundle.manifest.engines), applied=True))
    else:
        _tell_applied(bundle)
    return 0


def _tell_applied(bundle: Bundle) -> None:
    from edgead.cli._console import console

    signed = "" if bundle.is_signed else "; those that want a signature wait for edgead sign, and --apply again"
    console().print(
        f"stations that run {bundle.path} take it now, or say in their notices why not{signed}", markup=False, soft_wrap=True
    )


def _regions(given: tuple[Region | None, ...]) -> tuple[Region, ...] | None:
    """None where the present ones stay."""
    if None in given and len(given) > 1:
        raise BadInput("--region none goes alone", hint="the regions given replace all that were there")
    return tuple(one for one in given if one is not None) if given else None


def _history(path: Path, engine: str | None, all_of_them: bool, as_json: bool) -> int:
    from edgead.bundle import Bundle
    from edgead.cli._thresholds import Thresholds, show_history

    bundle = Bundle.open(path)
    records = bundle.manifest.engines if engine is None else (bundle.manifest.engine(engine),)
    if as_json:
        print_json("threshold", Thresholds.of(bundle, records))
    else:
        show_history(records, all_of_them)
    return 0


def _tell(written: Written, applied: bool) -> None:
    from edgead.cli._console import console
    from edgead.cli._thresholds import show

    def line(text: str) -> None:
        console().print(text, markup=False)

    bundle, chosen = written.bundle, written.chosen
    if chosen is None:
        for before, after in written.pairs:
            line(f"{after.name}: back from {before.threshold.rule.describe()}")
            line(f"  to {after.threshold.rule.describe()} ({after.threshold.method})")
    else:
        for one in chosen.left_out:
            line(f"left out, its threshold stays: {one.engine}: {one.why}")
        show(chosen)
    if written.dry_run:
        line("nothing was changed (--dry-run)")
        return
    signed = "; its signature was of the thresholds before: edgead sign it again" if written.unsigned else ""
    undo = "" if chosen is None else f"; to take it back: edgead threshold {bundle.path} --undo"
    when = "" if applied else "; a running station takes it at its next start, or now with --apply"
    line(f"wrote {bundle.path}{when}{undo}{signed}")
    line(f"its sha256 is now {bundle.digest} (where a station file names it)")
    for warning in written.warnings():
        line(f"warning: {warning}")
    if applied:
        _tell_applied(bundle)
