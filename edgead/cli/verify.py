"""Check on this device that a bundle's engines still answer as the trained model did.

The golden frames in the bundle are asked again. FP32 engines must be within 1e-3 of the trained model (relative to the range of
its maps), INT8 engines within 1.5 times what was measured at export plus 0.01, and no clear frame may change its label. Exit
code 0 when all pass, 4 when one does not. Golden frames that are there as the camera gave them go through the recipe first; and
of golden defects that were NG at export, one at least must still be NG by the threshold in force. Needs neither torch nor onnx.

An engine that was built ahead of time for this device is measured here for the first time; what is found goes into the bundle,
and from then on `edgead run` takes it. On another kind of machine than the one that chose the bundle's default engine, all that
passed are timed, and the fastest becomes the default (--keep-default: not).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._rates import add_trusted, check_threads
from edgead.errors import BadInput, EngineError, MissingExtra, ParityFailed

if TYPE_CHECKING:
    from edgead.bundle import Bundle
    from edgead.engines.verify import Verification

SUMMARY = "check on this device that a bundle answers as the trained model did"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="NAME.edgead folder")
    parser.add_argument("--engine", metavar="NAME", default="all", help="one engine (default: all whose backend is installed)")
    add_trusted(parser)
    parser.add_argument("--threads", type=int, help="CPU threads of one inference (default: the engine's choice)")
    parser.add_argument("--keep-default", action="store_true", help="do not choose the default engine anew for this machine")


def run(args: argparse.Namespace) -> int:
    from edgead.bundle import Bundle
    from edgead.cli._console import console
    from edgead.engines.cuda import NoGpu
    from edgead.engines.verify import note, verify_engine
    from edgead.signing import read_trusted

    check_threads(args.threads)
    if args.keep_default and args.engine != "all":
        raise BadInput("--keep-default does not go with --engine", hint="with --engine no default is chosen")
    bundle = Bundle.open(args.bundle, trusted=read_trusted(args.trusted))
    opened = bundle.digest
    known = [record.name for record in bundle.manifest.engines]
    names = known if args.engine == "all" else [bundle.manifest.engine(args.engine).name]
    results: list[Verification] = []
    missing: dict[str, MissingExtra | EngineError] = {}
    for name in names:
        try:
            results.append(verify_engine(bundle, name, args.threads))
        except (MissingExtra, NoGpu) as error:
            missing[bundle.manifest.engine(name).backend] = error
    if not results:
        raise next(iter(missing.values()))
    show(results)
    console().print(f"{bundle.manifest.golden} golden frames; errors relative to the range of the trained model's maps")
    if camera := len(bundle.manifest.golden_camera):
        console().print(f"the recipe makes of {camera} of them, as the camera gave them, what it made at export")
    reached = {result.name: result.reach for result in results if result.reach is not None and result.reach.defects}
    if reached:
        counts = ", ".join(f"{name} {found.caught} of {found.defects}" for name, found in reached.items())
        console().print(f"golden defects that are NG by the thresholds in force: {counts}", markup=False)
    for name, found in reached.items():
        if found.warning:
            console().print(f"warning: {name}: {found.warning}", markup=False)
    for skipped in missing.values():
        console().print(f"left out: {skipped} -> {skipped.hint}", markup=False)
    first = [r.name for r in results if r.passed and bundle.manifest.engine(r.name).parity is None]
    if first:
        signed = " (its signature was of the bundle before: sign it again)" if bundle.is_signed else ""
        bundle = note(bundle, results)
        console().print(f"measured for the first time, noted in the bundle: {', '.join(first)}{signed}", markup=False)
    passed = [result.name for result in results if result.passed]
    if args.engine == "all" and not args.keep_default:
        bundle = _choose(bundle, passed, args.threads)
    if bundle.digest != opened:
        console().print(f"the bundle's sha256 is now {bundle.digest} (where a station file names it)", markup=False)
    failed = [result.name for result in results if not result.passed]
    if failed:
        raise ParityFailed(
            f"{', '.join(failed)} of {args.bundle} does not answer as the trained model did",
            hint="do not run it here; use another --engine, or export on this device",
        )
    blind = [(result.name, result.reach.fault) for result in results if result.reach is not None and result.reach.fault]
    if blind:
        raise ParityFailed(
            f"{blind[0][0]} of {args.bundle}: {blind[0][1]}",
            hint=f"edgead threshold {args.bundle} --history shows how it came about; --undo takes the last change back",
        )
    return 0


def _choose(bundle: Bundle, names: list[str], threads: int | None) -> Bundle:
    """The default engine for this machine, when it was chosen on another and the bundle is not signed as it is."""
    from edgead.cli._console import console
    from edgead.engines import choice
    from edgead.errors import StorageError

    if len(names) < 2 or not choice.chosen_elsewhere(bundle):
        return bundle
    if bundle.is_signed:
        console().print("the default engine was chosen on another machine and stays: the bundle is signed", markup=False)
        return bundle
    stats = choice.measure(bundle, names, threads)
    before = bundle.manifest.default_engine
    try:
        bundle = choice.choose(bundle, stats)
    except StorageError as error:
        console().print(f"the default engine stays {before}: {error}", markup=False)
        return bundle
    now = bundle.manifest.default_engine
    times = ", ".join(f"{name} {found.min_ms:.1f} ms" for name, found in stats.items())
    told = f"stays {now}" if now == before else f"is {now} from now on, it was {before}"
    console().print(f"the default engine was chosen on another machine; here: {times}: it {told}", markup=False)
    return bundle


def show(results: list[Verification]) -> None:
    """One line an engine, with the limits it is held to."""
    from rich import box
    from rich.table import Column, Table

    from edgead.cli._console import console

    columns = (Column(name, justify="right") for name in ("score err (limit)", "map err (limit)", "flips"))
    table = Table("engine", *columns, "result", box=box.SIMPLE_HEAD, pad_edge=False)
    for result in results:
        parity = result.parity
        flips = f"{parity.label_flips} of {parity.frames}"
        if parity.label_flips:
            flips += f" ({result.clear_flips} clear)"
        table.add_row(
            result.name,
            f"{parity.score_error:.1e} ({result.score_limit:.2g})",
            f"{parity.map_error:.1e} ({result.map_limit:.2g})",
            flips,
            "same answer" if result.passed else "DIFFERS",
        )
    console().print(table)
