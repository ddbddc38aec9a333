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

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import ENGINE, JSON, THREADS, TRUSTED
from edgead.cli._types import PATH
from edgead.cli._verb import argument, option, verb

if TYPE_CHECKING:
    from edgead.engines.verify import Verification
    from edgead.jobs.verify import DefaultEngine, VerifyResult


@verb(__doc__)
@argument("bundle", type=PATH, metavar="BUNDLE", help="NAME.edgead folder")
@ENGINE
@TRUSTED
@THREADS
@option("--keep-default", is_flag=True, help="do not choose the default engine anew for this machine")
@JSON
def command(
    bundle: Path, engine: str | None, trusted: tuple[Path, ...], threads: int | None, keep_default: bool, as_json: bool
) -> int:
    from edgead.jobs.verify import VerifyRequest, verify

    request = VerifyRequest(bundle, engine, trusted, threads, keep_default)
    with told_progress() as progress:
        result = verify(request, progress)
    if as_json:
        print_json("verify", result)
    else:
        _tell(result)
    result.check()
    return 0


def _tell(result: VerifyResult) -> None:
    from edgead.cli._console import console

    def line(text: str) -> None:
        console().print(text, markup=False)

    show(result.engines)
    line(f"{result.golden} golden frames; errors relative to the range of the trained model's maps")
    if result.camera:
        line(f"the recipe makes of {result.camera} of them, as the camera gave them, what it made at export")
    reached = {found.name: found.reach for found in result.engines if found.reach is not None and found.reach.defects}
    if reached:
        counts = ", ".join(f"{name} {found.caught} of {found.defects}" for name, found in reached.items())
        line(f"golden defects that are NG by the thresholds in force: {counts}")
    for name, found in reached.items():
        if found.warning:
            line(f"warning: {name}: {found.warning}")
    for skipped in {one.backend: one for one in result.left_out}.values():
        line(f"left out: {skipped.why} -> {skipped.hint}")
    if result.noted:
        signed = " (its signature was of the bundle before: sign it again)" if result.unsigned else ""
        line(f"measured for the first time, noted in the bundle: {', '.join(result.noted)}{signed}")
    if result.default is not None:
        line(_default(result.default))
    if result.changed:
        line(f"the bundle's sha256 is now {result.sha256} (where a station file names it)")


def _default(found: DefaultEngine) -> str:
    if not found.least_ms:
        return f"the default engine was chosen on another machine; it stays {found.before}: {found.kept}"
    times = ", ".join(f"{name} {ms:.1f} ms" for name, ms in found.least_ms.items())
    told = f"stays {found.now}" if found.now == found.before else f"is {found.now} from now on, it was {found.before}"
    return f"the default engine was chosen on another machine; here: {times}: it {told}"


def show(results: Sequence[Verification]) -> None:
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
