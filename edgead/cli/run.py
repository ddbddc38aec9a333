"""Run a bundle on a camera, or a station file: capture, inference, verdict, a record per part, until Ctrl-C, SIGTERM or the end.

camera addresses: 0, usb:1, /dev/video0, rtsp://user:password@host/stream, a video file, a folder of pictures, a pattern like
'pictures/*.png' (in quotes), sim or sim:fps=5,defect_rate=0.2 (a simulated conveyor).

On a terminal each part is a line to read. Otherwise, and with --records, each part is a JSON object on one line.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgead.cli._rates import add_trusted, check_threads
from edgead.typed import shown
from edgead.words import one_line

if TYPE_CHECKING:
    from edgead.config import CameraConfig
    from edgead.line.workshop import Lane
    from edgead.runtime.loop.group import StationGroup
    from edgead.runtime.loop.station import Station
    from edgead.runtime.loop.stats import Stats
    from edgead.runtime.threads import Crew, Death

LONGEST_MS = 1e9
SUMMARY = "inspect what a camera sees, or run a station.yaml"

_LIKE_CONFIG = ("engine", "threshold", "budget_ms", "max_age_ms", "frame_timeout_ms", "realtime")
"""Options that are keys of a camera in a station.yaml, too."""
_BUNDLE_ONLY = (
    "camera",
    *_LIKE_CONFIG,
    "records",
    "save_ng",
    "show",
    "on_ng",
    "threads",
    "allow_unverified",
    "no_cache",
    "trusted",
)


CAMERA_DEFAULTS: dict[str, Any] = {
    "recipes": {},
    "recipe": None,
    "recipe_file": None,
    "sha256": None,
    "engine": None,
    "threshold": None,
    "trigger": SimpleNamespace(source="free"),
    "budget_ms": None,
    "stage_budget_ms": (),
    "on_late": "unknown",
    "fallback_bundle": None,
    "fallback_sha256": None,
    "fallback_engine": None,
    "trigger_delay_ms": 0.0,
    "frame_window_ms": None,
    "max_waiting": 64,
    "frames_per_part": 1,
    "combine": "any",
    "settle_frames": 1,
    "hysteresis": 0.0,
    "frame_timeout_ms": 1000.0,
    "max_age_ms": None,
    "frozen_after": None,
    "realtime": False,
    "selfcheck": SimpleNamespace(every_s=3600.0),
    "drift": SimpleNamespace(every_ms=500.0, max_ng=0.3),
    "plc": None,
}
"""Those of :class:`edgead.config.CameraConfig` (a test compares them)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `edgead run`."""
    parser.add_argument(
        "target",
        type=Path,
        metavar="BUNDLE|station.yaml",
        help="folder written by edgead export, or a station file",
    )
    parser.add_argument("--camera", metavar="ADDRESS", help="where pictures come from (see above)")
    parser.add_argument("--engine", metavar="NAME", help="engine in the bundle (default: the bundle's)")
    parser.add_argument("--threshold", type=float, metavar="X", help="scores at or above are NG (default: the engine's)")
    parser.add_argument(
        "--budget-ms", type=float, metavar="MS", help="from picture to verdict; later is UNKNOWN (default: no limit)"
    )
    parser.add_argument("--records", metavar="FILE", help="append JSON records there; - is standard output (default if piped)")
    parser.add_argument("--save-ng", type=Path, metavar="DIR", help="save pictures and overlays of NG and UNKNOWN parts")
    parser.add_argument("--show", action="store_true", help="show each part in a window")
    parser.add_argument(
        "--on-ng", metavar="CMD", help="program to run for each NG and UNKNOWN part (no shell; EDGEAD_* variables)"
    )
    parser.add_argument("--max-parts", type=int, metavar="N", help="stop after so many verdicts")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the engine (default: all cores)")
    parser.add_argument("--max-age-ms", type=float, metavar="MS", help="older live frames are dropped (default 1000)")
    parser.add_argument("--frame-timeout-ms", type=float, metavar="MS", help="silence that is a fault (default 1000)")
    parser.add_argument(
        "--allow-unverified", action="store_true", help="run an engine that was built ahead of time and never measured"
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="compile the engine anew; otherwise its compiled form is kept for faster starts below $EDGEAD_CACHE or "
        "~/.cache/edgead (EDGEAD_CACHE=off: never)",
    )
    add_trusted(parser)
    parser.add_argument("--realtime", action="store_true", help="play a video file at its own speed, as a camera would")


def run(args: argparse.Namespace) -> int:
    """Inspect until stopped; 0 after a clean stop in which nothing was lost and no thread died."""
    from edgead.bundle import Bundle
    from edgead.errors import BadInput

    check_threads(args.threads)
    if args.max_parts is not None and args.max_parts < 1:
        raise BadInput(f"--max-parts {shown(args.max_parts)} is not 1 or more")
    for name in ("budget_ms", "max_age_ms", "frame_timeout_ms"):
        if (value := getattr(args, name)) is not None and not value <= LONGEST_MS:
            raise BadInput(
                f"--{name.replace('_', '-')} {value:g} is not usable", hint=f"give milliseconds, at most {LONGEST_MS:g}"
            )
    if args.target.suffix.lower() in (".yaml", ".yml"):
        return _run_file(args)
    if args.camera is None:
        if not args.target.is_dir():
            Bundle.open(args.target)  # says that there is none: the first thing to mend
        raise BadInput("--camera is missing: where shall pictures come from?", hint="for example --camera 0, or --camera sim")
    return _run_bundle(args)


def _run_file(args: argparse.Namespace) -> int:
    from edgead.cli._station import run_file
    from edgead.errors import BadInput

    given = [name for name in _BUNDLE_ONLY if getattr(args, name) not in (None, False, [])]
    if given:
        raise BadInput(f"--{given[0].replace('_', '-')} does not go with a station file", hint=f"set it in {args.target}")
    with stopped_by_signals() as stopper:
        return run_file(args.target, args.max_parts, stopper)


def _run_bundle(args: argparse.Namespace) -> int:
    from edgead.clock import MonotonicClock
    from edgead.line.workshop import Workshop
    from edgead.runtime.outlet import say
    from edgead.runtime.supervision.logs import logging_to
    from edgead.signing import read_trusted

    camera = only_camera(args)
    with stopped_by_signals() as stopper, ExitStack() as stack:
        stack.enter_context(logging_to(sys.stderr, level="debug" if args.debug else "warning"))
        keep, unverified = not args.no_cache, args.allow_unverified
        trusted = read_trusted(args.trusted)
        workshop = Workshop(stack, MonotonicClock(), args.threads, allow_unverified=unverified, keep=keep, trusted=trusted)
        lane = workshop.build(camera)
        sinks = _sinks(args, lane, stack)
        stopper.attach(lane.station)
        say(one_line(_headline(args, lane)), sys.stderr)
        stats = lane.station.run(args.max_parts)
    say("\n".join((summary(stats, sinks), *deaths(workshop.crew))), sys.stdout if _human(args) else sys.stderr)
    return exit_code(workshop.crew, [sinks["records"]] if "records" in sinks else [])


def only_camera(args: argparse.Namespace) -> CameraConfig:
    """What a station.yaml says of a camera, by its defaults and the options: not the model itself, since pydantic and all models
    cost a fifth of the way to the first verdict, and not validated: the station says what is wrong with numbers."""
    outputs = [SimpleNamespace(type="log")] if _human(args) else []
    if args.on_ng:
        outputs.append(SimpleNamespace(type="command", on_ng=args.on_ng))
    given = {name: value for name in _LIKE_CONFIG if (value := getattr(args, name)) is not None}
    own = {"name": "camera", "address": args.camera, "bundle": args.target, "outputs": tuple(outputs)}
    return cast("CameraConfig", SimpleNamespace(**{**CAMERA_DEFAULTS, **own, **given}))


def _sinks(args: argparse.Namespace, lane: Lane, stack: ExitStack) -> dict[str, Any]:
    """Records, pictures and window, as far as they are wanted."""
    from edgead.runtime.records.record import RecordFile

    station, scale, recipe = lane.station, lane.scale, lane.bundle.manifest.preprocess
    sinks: dict[str, Any] = {}
    target = args.records or (None if _human(args) else "-")
    if target is not None:
        records = RecordFile(None if target == "-" else Path(target))
        stack.callback(records.close)
        station.on_record(records.write)
        sinks["records"] = records
    if args.save_ng is not None:
        from edgead.runtime.records.pictures import PictureFolder

        pictures = PictureFolder(args.save_ng, scale, recipe)
        station.on_inspection(pictures.save)
        sinks["pictures"] = pictures
    if args.show:
        from edgead.runtime.records.pictures import Window

        station.on_inspection(Window(f"edgead {lane.bundle.manifest.name}", scale, recipe).show, capacity=1)
    return sinks


def _human(args: argparse.Namespace) -> bool:
    """Is standard output for people? Not when it is a pipe, and not when it carries records."""
    return args.records != "-" and sys.stdout.isatty()


class Keeper(Protocol):
    """Where records go."""

    @property
    def lost(self) -> int: ...


class Stopper:
    """Stops a station whenever that is asked for, also while it is still being put together."""

    def __init__(self) -> None:
        self._station: Station | StationGroup | None = None
        self._asked = False

    def attach(self, station: Station | StationGroup) -> None:
        """This is the station; when a stop was asked for before, its run ends at once."""
        self._station = station
        if self._asked:
            station.stop()

    def stop(self) -> None:
        self._asked = True
        if self._station is not None:
            self._station.stop()


@contextmanager
def stopped_by_signals() -> Iterator[Stopper]:
    """SIGINT, SIGTERM and SIGHUP (the terminal is gone) stop the station cleanly; only a second SIGINT interrupts.

    A SIGHUP that was ignored before (nohup) stays ignored. Everything that must be closed well (stores, outputs) belongs inside.
    """
    stopper = Stopper()
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return

    def stop(number: int, frame: object) -> None:
        stopper.stop()
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT] or signal.SIG_DFL)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _headline(args: argparse.Namespace, lane: Lane) -> str:
    from edgead.runtime.redact import redact

    budget = f"budget {args.budget_ms:g} ms" if args.budget_ms else "no budget"
    what = f"{lane.bundle.manifest.name}: {lane.record.name} on {redact(args.camera)}"
    return f"{what}, {lane.rule.describe()}, {budget}; Ctrl-C stops"


def summary(stats: Stats, sinks: dict[str, Any], devices: Mapping[str, Mapping[str, int]] | None = None) -> str:
    """What happened, in a few lines; `devices`: what they count themselves (:attr:`edgead.runtime.loop.stats.Health.devices`)."""
    sinks = {name: sink for name, sink in sinks.items() if sink is not None}
    verdicts = ", ".join(f"{stats.verdicts[name]} {name}" for name in ("OK", "NG", "UNKNOWN"))
    lines = [f"{stats.parts} parts: {verdicts}" + _listed(stats.causes)]
    for counts in (devices or {}).values():
        if "taken" in counts:
            taken = ", ".join(f"{counts.get(f'taken:{name.lower()}', 0)} {name}" for name in ("OK", "NG", "UNKNOWN"))
            lines.append(f"the PLC was told {counts['told']} results and took {counts['taken']}: {taken}")
    lines.append(f"{stats.frames} frames, {sum(stats.drops.values())} dropped" + _listed(stats.drops))
    if latency := stats.latency_ms():
        lines.append("latency from picture to verdict: " + ", ".join(f"{name} {value:.1f} ms" for name, value in latency.items()))
    lost = {name: sink.lost for name, sink in sinks.items() if sink.lost}
    withheld = {name: count for name, count in stats.late_outputs.items() if count}
    undelivered = {
        name: left for name, counts in (devices or {}).items() if (left := counts.get("lost", 0) + counts.get("waiting", 0))
    }
    for what, counts in (
        ("failed", stats.errors),
        ("too slow, missed", stats.undelivered),
        ("told as UNKNOWN, since too late or not recorded", withheld),
        ("lost", lost),
        ("verdicts that did not arrive", undelivered),
    ):
        if counts:
            lines.append(f"{what}:" + _listed(counts))
    if stats.reconnects:
        lines.append(f"camera reconnected {stats.reconnects} times")
    if "pictures" in sinks:
        lines.append(f"{sinks['pictures'].saved} parts saved")
    return "\n".join(lines)


def deaths(crew: Crew) -> list[str]:
    """A line for each thread that died, also when it worked again."""
    return [f"thread died: {name} ({death.count} times, the last time of {death.cause})" for name, death in _deaths(crew)]


def exit_code(crew: Crew, keepers: Sequence[Keeper]) -> int:
    """What the process ends with after a run: 7 when a record was lost, else that of a thread that died (6 of a camera, an output
    or a link, 7 of a store), else 0."""
    from edgead.errors import StorageError

    if any(keeper.lost for keeper in keepers):
        return StorageError.exit_code
    return max((death.exit_code for _, death in _deaths(crew)), default=0)


def _deaths(crew: Crew) -> list[tuple[str, Death]]:
    return [(f"{found.name}, {name}" if found.name else name, d) for found in crew.crews() for name, d in found.deaths().items()]


def _listed(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in sorted(counts.items()))})" if counts else ""
