"""Measure latency, throughput, cold start and memory of bundles on this machine, side by side.

Every part takes the station's own path: resize, inference, decision. Engines take turns in short bursts, so that whatever
else the machine does hits all alike. Latency runs from the frame's arrival to the verdict, one part at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import ENGINE, JSON, THREADS
from edgead.cli._types import FRAME, PATH, whole
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput

if TYPE_CHECKING:
    from edgead.jobs.measure import Candidate, Result

COLD_RUNS = 3


@verb(__doc__)
@argument("bundles", type=PATH, nargs=-1, required=True, metavar="BUNDLE...", help="NAME.edgead folders")
@ENGINE
@option("--rounds", type=whole(1), default=20, metavar="N", help="bursts of 10 parts per engine (default 20)")
@option("--warmup", type=whole(1), default=10, metavar="N", help="parts per engine that are not counted (default 10)")
@THREADS
@option(
    "--frame",
    type=FRAME,
    metavar="WxH",
    help="camera picture (default 1920x1080; of a model that finds the part in it, its reference picture's size)",
)
@option(
    "--throughput",
    is_flag=True,
    help="also parts per second with several pictures at once, one a core (OpenVINO), for going through recorded pictures: "
    "more of them in the same time, but each one alone takes longer, so not for a line",
)
@option("--no-cache", is_flag=True, help="compile engines anew at each start (see edgead run)")
@option("--plot", type=PATH, metavar="FILE", help="draw how many parts take how long, as .svg or .png (needs edgead[report])")
@option("--no-cold", is_flag=True, help="leave out cold start and memory, which need fresh processes")
@JSON
def command(
    bundles: tuple[Path, ...],
    engine: str | None,
    rounds: int,
    warmup: int,
    threads: int | None,
    frame: tuple[int, int] | None,
    throughput: bool,
    no_cache: bool,
    plot: Path | None,
    no_cold: bool,
    as_json: bool,
) -> int:
    if as_json and len(bundles) > 1 and bundles[-1].suffix == ".json":
        raise BadInput(f"{bundles[-1]} is no bundle", hint=f"--json prints: edgead bench ... --json > {bundles[-1]}")
    drawn = None if plot is None else Plot(plot, several=len(bundles) > 1)
    from edgead.jobs.bench import BenchRequest, bench

    runs = 0 if no_cold else COLD_RUNS
    request = BenchRequest(bundles, engine, rounds, warmup, threads, frame, throughput, not no_cache, runs)
    with told_progress() as progress:
        report = bench(request, progress) if drawn is None else bench(request, progress, drawn)
    if drawn is not None:
        drawn.write()
    if as_json:
        print_json("bench", report)
        return 0
    from edgead.cli._console import console

    show(report.results)
    for skipped in report.skipped:
        console().print(f"left out: {skipped.bundle} {skipped.engine}: {skipped.why}", markup=False)
    width, height = report.settings.frame or (0, 0)
    console().print(f"{report.results[0].samples} parts per engine of {width} x {height} px, threads: {threads or 'default'}")
    console().print(f"{report.machine['cpu']}, {report.machine['cores']} cores", markup=False)  # some names alone are a line
    return 0


class Plot:
    """Keeps single latencies and draws them.

    Args:
        file: for the picture.
        several: bundles, so that their names are told, too.

    Raises:
        BadInput: the file cannot be one.
        MissingExtra: matplotlib is not installed.
    """

    def __init__(self, file: Path, *, several: bool) -> None:
        from edgead.export.figures import check_available

        self._file, self._several = file, several
        if file.suffix.lower() not in (".svg", ".png") or file.is_dir() or not file.absolute().parent.is_dir():
            raise BadInput(
                f"--plot: {file} cannot be written", hint="a name that ends with .svg or .png, in a folder that is there"
            )
        check_available()
        self._totals_ms: dict[str, Sequence[float]] = {}

    def __call__(self, candidate: Candidate, totals_ms: Sequence[float]) -> None:
        name = f"{candidate.bundle.path.name} {candidate.name}" if self._several else candidate.name
        self._totals_ms[name] = totals_ms

    def write(self) -> None:
        """Raises StorageError."""
        from edgead.bundle import storage_errors
        from edgead.disk import write_file
        from edgead.export.figures import latency_distribution

        with storage_errors(self._file, hint="free space, or choose another file"):
            write_file(self._file, latency_distribution(self._totals_ms, self._file.suffix.lower()[1:]))


TITLES = (("resize", "infer", "decide", "p50", "p95", "p99", "max"), ("parts/s", "many/s", "load", "cold", "MiB"))
"""Of two tables: both fit a terminal of 80 columns."""


def show(results: Sequence[Result]) -> None:
    """One line per engine in each table, the fastest first, aligned but never cut: a pipe or a narrow terminal loses nothing."""
    from rich.text import Text

    from edgead.cli._console import console

    several = len({result.bundle for result in results}) > 1
    names = {id(result): f"{Path(result.bundle).name} {result.engine}" if several else result.engine for result in results}
    width = max(len(name) for name in names.values())
    out = console()
    about = (
        "milliseconds (stages: medians; p50 to max: frame's arrival to verdict)",
        "parts a second: one after the other, several at once (--throughput);\n"
        "load, cold (process start to first verdict): milliseconds; MiB: memory",
    )
    for told, titles, cells in zip(about, TITLES, (_times, _rates), strict=True):
        out.print(f"{told}\n", markup=False)
        out.print(Text(f"{'engine':<{width}}" + "".join(f"{title:>8}" for title in titles), style="bold"))
        for result in sorted(results, key=lambda r: r.stages["total"].p50_ms):
            out.print(Text(f"{names[id(result)]:<{width}}" + "".join(f"{cell:>8}" for cell in cells(result))))
        out.print()


def _times(result: Result) -> list[str]:
    total = result.stages["total"]
    medians = [f"{result.stages[stage].p50_ms:.2f}" for stage in ("resize", "inference", "decision")]
    spread = [f"{value:.1f}" for value in (total.p50_ms, total.p95_ms, total.p99_ms, total.max_ms)]
    return [*medians, *spread]


def _rates(result: Result) -> list[str]:
    cold = "-" if result.cold_start_ms is None else f"{result.cold_start_ms:.0f}"
    memory = "-" if result.resident_mb is None else f"{result.resident_mb:.0f}"
    many = "-" if result.many_per_s is None else f"{result.many_per_s:.1f}"
    return [f"{result.throughput_per_s:.1f}", many, f"{result.load_ms:.0f}", cold, memory]
