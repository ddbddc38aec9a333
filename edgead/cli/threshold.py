"""Choose the thresholds of a bundle anew on the line, from new good pictures; every engine on its own answers.

The pictures are the camera's own, as it gives them: not those the model was trained on, or the promise is worth nothing. Without
defects the threshold promises a false-reject rate (--max-false-reject); with them, a miss rate (--max-miss) or the least cost
(--cost-ratio). Rates are shares (0.001) or percent (0.1%). What is not given stays as it is: by score or by area, regions,
minimal area. Earlier thresholds stay in the bundle. With nothing but BUNDLE it shows them. Needs neither torch nor onnx.

regions, in parts (0 to 1) of the width and height of the picture that the bundle looks at (its region of interest):
  include=0.1,0.1,0.8,0.5       look only at this rectangle: x,y,width,height (or at several such)
  exclude=0,0,1,0.1             do not look at this one
  exclude=0,0,0.5,0,0,0.5       six or more numbers are the corners x,y of a polygon
  include=0.4,0.4,0.2,0.2@1.8   this one has a pixel threshold of its own
  none                          look everywhere again
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._rates import area, band, check_threads, rate, region
from edgead.errors import BadInput, BundleError, EdgeadError, StorageError

if TYPE_CHECKING:
    from edgead.bundle import Bundle, EngineRecord
    from edgead.jobs.choosing import Task
    from edgead.thresholds.pictures import Asked
    from edgead.types import Engine

SUMMARY = "choose a bundle's thresholds on the line, with a guarantee"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="NAME.edgead folder")
    parser.add_argument("--engine", metavar="NAME", help="one engine (default: all that open here)")
    parser.add_argument("--good", type=Path, action="append", metavar="DIR", help="folder of good pictures; may be given again")
    parser.add_argument("--defects", type=Path, action="append", metavar="DIR", help="folder of defects; may be given again")
    wish = parser.add_argument_group("what is wished")
    wish.add_argument("--max-false-reject", type=rate, metavar="RATE", help="good parts that may be NG (default: as before; 1%%)")
    wish.add_argument("--max-miss", type=rate, metavar="RATE", help="defects that may be OK")
    wish.add_argument("--cost-ratio", type=float, metavar="X", help="a miss costs so many false rejects: the cheapest threshold")
    wish.add_argument(
        "--defect-rate",
        type=rate,
        metavar="RATE",
        help="defective parts on the line, for --cost-ratio (default: as given)",
    )
    wish.add_argument("--set", type=float, metavar="VALUE", help="this threshold, by hand (of pixels when by area)")
    wish.add_argument(
        "--unknown-band",
        type=band,
        metavar="BAND",
        help="UNKNOWN instead of OK from where good parts reach a larger rate (5%%), or from LOW:HIGH, or between --max-miss "
        "and --max-false-reject (rates); none",
    )
    pixels = parser.add_argument_group("pixels and areas of the anomaly map")
    pixels.add_argument("--by", choices=("score", "area"), help="what decides: the score, or the area of a defect")
    pixels.add_argument("--pixel-threshold", type=float, metavar="X", help="this one; the minimal area is chosen instead")
    pixels.add_argument(
        "--min-area", type=area, metavar="N", help="connected map pixels that are NG, or a share of the map (0.5%%); default 1"
    )
    pixels.add_argument("--region", type=region, action="append", metavar="R", help="where to look (above); may be given again")
    parser.add_argument("--history", action="store_true", help="show the thresholds and all earlier ones")
    parser.add_argument("--undo", action="store_true", help="take the last change back")
    parser.add_argument("--dry-run", action="store_true", help="change nothing")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of one inference (default: the engine's choice)")


def run(args: argparse.Namespace) -> int:
    from edgead.bundle import Bundle
    from edgead.thresholds.choose import utc_now

    _check(args)
    bundle = Bundle.open(args.bundle)
    records = bundle.manifest.engines if args.engine is None else (bundle.manifest.engine(args.engine),)
    if args.history or not (args.undo or _asks(args)):
        from edgead.cli._thresholds import show_history

        show_history(records, args.history)
        return 0
    if not args.dry_run and not os.access(bundle.path, os.W_OK):
        raise StorageError(f"{bundle.path} is not writable", hint="run it as the bundle's owner, or look first with --dry-run")
    now = utc_now()
    changed = _undone(records, now) if args.undo else _chosen(args, bundle, records, now)
    _write(args, bundle, changed)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what contradicts itself before anything is opened."""
    wishes = [name for name in ("max_false_reject", "max_miss", "cost_ratio", "set") if getattr(args, name) is not None]
    alone = [name for name in ("cost_ratio", "set") if name in wishes]
    pictures = bool(args.good or args.defects)

    def flag(name: str) -> str:
        return "--" + name.replace("_", "-")

    if alone and len(wishes) > 1:
        raise BadInput(f"{flag(alone[0])} does not go together with {flag(next(w for w in wishes if w != alone[0]))}")
    if args.set is not None and args.pixel_threshold is not None:
        raise BadInput("--set and --pixel-threshold are two thresholds", hint="with --by area, --set is the pixel threshold")
    if args.undo and (pictures or _asks(args)):
        raise BadInput("--undo goes alone", hint="take the change back first, then choose anew")
    if args.max_false_reject is not None and not args.good:
        raise BadInput("--max-false-reject needs good pictures", hint="give --good DIR")
    if args.max_miss is not None and not args.defects:
        raise BadInput("--max-miss needs pictures of defects", hint="give --defects DIR")
    if args.cost_ratio is not None and not (args.good and args.defects):
        raise BadInput("--cost-ratio needs good pictures and defects", hint="give --good DIR and --defects DIR")
    if args.defect_rate is not None and args.cost_ratio is None:
        raise BadInput("--defect-rate says nothing without --cost-ratio")
    if args.defects and not args.good and args.max_miss is None and args.set is None:
        raise BadInput("--defects alone choose no threshold", hint="give --good DIR too, or --max-miss RATE")
    if isinstance(args.unknown_band, float) and not args.good:
        raise BadInput("an UNKNOWN band from a rate needs good pictures", hint="give --good DIR, or the band as LOW:HIGH")
    if args.unknown_band == "rates" and (args.max_miss is None or args.max_false_reject is None):
        raise BadInput("--unknown-band rates lies between two rates", hint="give --max-miss and --max-false-reject")
    if args.by == "score" and (args.pixel_threshold is not None or args.min_area is not None or args.region):
        raise BadInput("pixel thresholds, areas and regions decide nothing by score", hint="leave out --by score")
    check_threads(args.threads)


def _asks(args: argparse.Namespace) -> bool:
    """Is anything to be chosen?"""
    names = (
        "good", "defects", "max_false_reject", "max_miss", "cost_ratio", "set", "unknown_band",
        "by", "pixel_threshold", "min_area", "region",
    )  # fmt: skip
    return any(getattr(args, name) is not None for name in names)


def _chosen(
    args: argparse.Namespace, bundle: Bundle, records: tuple[EngineRecord, ...], now: str
) -> list[tuple[EngineRecord, EngineRecord]]:
    """Old and new record of every engine, shown."""
    import numpy as np

    from edgead.bundle import ON_THE_LINE
    from edgead.cli._thresholds import Named, Row, show
    from edgead.jobs.choosing import task_for
    from edgead.thresholds.choose import choose
    from edgead.thresholds.pictures import digest_of

    shape, grid = _map_sizes(bundle)
    tasks = {record.name: task_for(args, record, shape, grid) for record in records}
    good, defects = _ask(args, bundle, tasks)
    digest = digest_of([*good.digests, *defects.digests]) if good.digests or defects.digests else ""
    rows: list[Row] = []
    none = np.empty(0)
    files = tuple(good.digests.values()), tuple(defects.digests.values())
    for name, task in tasks.items():
        if (good.count or defects.count) and name not in good.statistics and name not in defects.statistics:
            continue  # it does not open here
        statistics = good.statistics.get(name, none), defects.statistics.get(name, none)
        choice = choose(*statistics, task.wish, task.above)
        facts = choice.chosen(task.wish, ON_THE_LINE, now, digest)
        found = dataclasses.replace(task.finish(choice), method=choice.method, chosen=facts)
        found.rule.check(shape)
        before = int(np.count_nonzero(statistics[0] >= task.record.threshold.rule.level)) if task.comparable(found) else None
        rows.append(Row(task.record, found, choice, before, Named.of(choice, *statistics, *files)))
    show(rows, good, defects, grid or shape)
    return [(row.record, row.record.changed(row.threshold)) for row in rows]


def _map_sizes(bundle: Bundle) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Height, width of the engines' maps, and of the trained model's where these are larger (the engines tell theirs at the
    network's own resolution): areas are counted on those, else None."""
    from edgead.decision import tells_no_map

    if (size := bundle.manifest.map_size) is None:
        raise BundleError(f"{bundle.path} does not state the size of its maps", hint="export it again")
    height, width = size
    trained_height, trained_width = bundle.golden().reference.maps.shape[-2:]
    smaller = (height, width) != (trained_height, trained_width) and not tells_no_map((height, width))
    return (height, width), (trained_height, trained_width) if smaller else None


def _ask(args: argparse.Namespace, bundle: Bundle, tasks: Mapping[str, Task]) -> tuple[Asked, Asked]:
    """What the engines that open here make of the good pictures and of the defects."""
    from edgead.cli._console import progress
    from edgead.thresholds.pictures import Asked, ask_pictures, list_pictures

    files = [list_pictures(folders or []) for folders in (args.good, args.defects)]
    if not any(files):
        return Asked({}, {}, 0), Asked({}, {}, 0)
    with ExitStack() as stack:
        engines = _open(args, bundle, tasks, stack)
        asked = {name: (engine, tasks[name].statistic) for name, engine in engines.items()}
        bar = stack.enter_context(progress())
        ticking = bar.add_task("asking the engines", total=sum(map(len, files)))
        recipe = bundle.manifest.preprocess

        def ask(some: list[Path], trained_on: frozenset[str] = frozenset()) -> Asked:
            return ask_pictures(some, recipe, asked, lambda: bar.advance(ticking), trained_on)

        good, defects = ask(files[0], bundle.trained_on()), ask(files[1])
    if good.known and good.count < 2:
        raise BadInput(
            f"{len(good.known)} of the {len(files[0])} good pictures are those that the model was trained on, e.g. "
            f"{good.known[0]}: it knows them by heart, so they say nothing about new parts, and guarantee nothing",
            hint="give pictures of good parts that were taken since",
        )
    for digest, file in defects.digests.items():
        if digest in good.digests:
            raise BadInput(
                f"{file} is also among the good pictures, as {good.digests[digest]}", hint="a picture is one or the other"
            )
    return good, defects


def _open(args: argparse.Namespace, bundle: Bundle, tasks: Mapping[str, Task], stack: ExitStack) -> dict[str, Engine]:
    """The engines that open here; those that do not are told of, unless one was asked for by name.

    Raises:
        EdgeadError: the wished engine, or none at all, opens here.
    """
    from edgead.cli._console import console
    from edgead.engines import open_engine

    engines: dict[str, Engine] = {}
    left_out: dict[str, EdgeadError] = {}
    for name in tasks:
        try:
            engines[name] = open_engine(bundle, name, args.threads)
            stack.callback(engines[name].close)
        except EdgeadError as error:  # not installed, not registered, or not for this device
            left_out[name] = error
    if not engines:
        raise next(iter(left_out.values()))
    for name, why in left_out.items():
        console().print(f"left out, its threshold stays: {name}: {why}", markup=False)
    return engines


def _undone(records: tuple[EngineRecord, ...], now: str) -> list[tuple[EngineRecord, EngineRecord]]:
    """Old and new record of the engines that the last change was for."""
    from edgead.cli._console import console

    changes = {record.name: record.threshold.chosen.at for record in records if record.history and record.threshold.chosen}
    last = max(changes.values(), default="")
    found = [record for record in records if not last or changes.get(record.name) == last]
    pairs = [(record, record.undone(now)) for record in found]
    for before, after in pairs:
        console().print(f"{after.name}: back from {before.threshold.rule.describe()}", markup=False)
        console().print(f"  to {after.threshold.rule.describe()} ({after.threshold.method})", markup=False)
    return pairs


def _write(args: argparse.Namespace, bundle: Bundle, pairs: list[tuple[EngineRecord, EngineRecord]]) -> None:
    from edgead.bundle import rewrite_manifest
    from edgead.cli._console import console

    if args.dry_run:
        console().print("nothing was changed (--dry-run)")
        return
    manifest = bundle.manifest
    for _, record in pairs:
        manifest = manifest.with_engine(record)
    signed = "; its signature was of the thresholds before: edgead sign it again" if bundle.is_signed else ""
    bundle = rewrite_manifest(bundle, manifest)
    undo = "" if args.undo else f"; to take it back: edgead threshold {bundle.path} --undo"
    console().print(f"wrote {bundle.path}; a running station takes it at its next start{undo}{signed}", markup=False)
    console().print(f"its sha256 is now {bundle.digest} (where a station file names it)", markup=False)
    _tell_reach(bundle, [record for _, record in pairs])


def _tell_reach(bundle: Bundle, records: list[EngineRecord]) -> None:
    """Warn of thresholds by which every defect would be OK."""
    from edgead.cli._console import console
    from edgead.engines.golden import reach

    if not (bundle.manifest.golden and bundle.manifest.measured.get("threshold")):
        return
    golden = bundle.golden()
    for record in records:
        found = reach(bundle, record, golden)
        if found.fault:
            console().print(f"warning: {record.name}: {found.fault}; edgead verify and run refuse it", markup=False)
        elif found.warning:
            console().print(f"warning: {record.name}: {found.warning}", markup=False)
