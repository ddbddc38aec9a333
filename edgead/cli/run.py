"""Run a bundle on a camera, or a station file: capture, inference, verdict, a record per part, until Ctrl-C, SIGTERM or the end.

camera addresses: 0, usb:1, /dev/video0, rtsp://user:password@host/stream, a video file, a folder of pictures, a pattern like
'pictures/*.png' (in quotes), 'folder:DIR?fps=5' (at a pace), hot:DIR (each new file), sim or sim:fps=5,defect_rate=0.2 (a
simulated conveyor).

With --camera and no bundle, the only bundle in this folder runs. On a terminal each part is a line to read. Otherwise, and with
--records, each part is a JSON object on one line.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgead.cli._json import print_json
from edgead.cli._options import JSON, THREADS, TRUSTED, refuse
from edgead.cli._types import NUMBER, PATH, Parsed, whole
from edgead.cli._verb import argument, debugging, option, verb
from edgead.errors import BadInput
from edgead.words import one_line

if TYPE_CHECKING:
    from edgead.config.camera import CameraConfig
    from edgead.line.service import Station

LONGEST_MS = 1e9


def _milliseconds(text: str) -> float:
    value: float = NUMBER.function(text)
    if value > LONGEST_MS:
        raise BadInput(f"{value:g} is not usable", hint=f"give milliseconds, at most {LONGEST_MS:g}")
    return value


MS = Parsed(_milliseconds, "number")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One bundle on one camera, as the options say it; None: not given."""

    bundle: Path
    camera: str
    engine: str | None
    threshold: float | None
    budget_ms: float | None
    max_age_ms: float | None
    frame_timeout_ms: float | None
    realtime: bool
    on_ng: str | None
    records: str | None
    save_ng: Path | None
    show: bool
    as_json: bool

    @property
    def human(self) -> bool:
        """Is standard output for people? Not when it is a pipe, and not when it carries records or the result."""
        return self.records != "-" and not self.as_json and sys.stdout.isatty()


@verb(__doc__)
@argument(
    "target", type=PATH, required=False, metavar="BUNDLE|station.yaml", help="folder written by edgead export, or a station file"
)
@option("--camera", metavar="ADDRESS", help="where pictures come from (see above)")
@option("--engine", metavar="NAME", help="engine in the bundle (default: the bundle's)")
@option("--threshold", type=NUMBER, metavar="X", help="scores at or above are NG (default: the engine's)")
@option("--budget-ms", type=MS, metavar="MS", help="from picture to verdict; later is UNKNOWN (default: no limit)")
@option("--records", metavar="FILE", help="append JSON records there; - is standard output (default if piped)")
@option("--save-ng", type=PATH, metavar="DIR", help="save pictures and overlays of NG and UNKNOWN parts")
@option("--show", is_flag=True, help="show each part in a window")
@option("--on-ng", metavar="CMD", help="program to run for each NG and UNKNOWN part (no shell; EDGEAD_* variables)")
@option("--max-parts", type=whole(1), metavar="N", help="stop after so many verdicts")
@THREADS
@option("--max-age-ms", type=MS, metavar="MS", help="older live frames are dropped (default 1000)")
@option("--frame-timeout-ms", type=MS, metavar="MS", help="silence that is a fault (default 1000)")
@option("--allow-unverified", is_flag=True, help="run an engine that was built ahead of time and never measured")
@option(
    "--no-cache",
    is_flag=True,
    help="compile the engine anew; otherwise its compiled form is kept for faster starts below $EDGEAD_CACHE or "
    "~/.cache/edgead (EDGEAD_CACHE=off: never)",
)
@TRUSTED
@option("--realtime", is_flag=True, help="play a video file at its own speed, as a camera would")
@JSON
def command(
    target: Path | None,
    max_parts: int | None,
    threads: int | None,
    allow_unverified: bool,
    no_cache: bool,
    trusted: tuple[Path, ...],
    as_json: bool,
    camera: str | None,
    **given: Any,
) -> int:
    """Inspect until stopped; 0 after a clean stop in which nothing was lost and no thread died."""
    if target is not None and target.suffix.lower() in (".yaml", ".yml"):
        refuse(*_BUNDLE_ONLY, why="not with a station file", hint=f"set it in {target}")
        return _run_file(target, max_parts, as_json)
    if camera is None:
        _name_what_is_missing(target)
    if as_json and given["records"] == "-":
        raise BadInput("--records -: standard output is for the result of --json", hint="give a file")
    wanted = Wanted(bundle=target or only_bundle(Path()), camera=camera, as_json=as_json, **given)
    return _run_bundle(wanted, max_parts, threads, allow_unverified=allow_unverified, keep=not no_cache, trusted=trusted)


_BUNDLE_ONLY = (
    "camera",
    "engine",
    "threshold",
    "budget_ms",
    "max_age_ms",
    "frame_timeout_ms",
    "realtime",
    "records",
    "save_ng",
    "show",
    "on_ng",
    "threads",
    "allow_unverified",
    "no_cache",
    "trusted",
)


def _name_what_is_missing(target: Path | None) -> NoReturn:
    """Raises EdgeadError: there is no camera, and perhaps no bundle."""
    if target is None:
        raise BadInput("BUNDLE|station.yaml is missing: what shall run?", hint="edgead run part.edgead --camera 0")
    if not target.is_dir():
        from edgead.bundle import Bundle

        Bundle.open(target)  # says that there is none: the first thing to mend
    raise BadInput("--camera is missing: where shall pictures come from?", hint="for example --camera 0, or --camera sim")


def only_bundle(folder: Path) -> Path:
    """The bundle in a folder, where there is one. Raises BadInput: there is none, or there are several."""
    found = sorted(path for path in folder.glob("*.edgead") if path.is_dir())
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(f"there is no bundle in {folder.absolute()}", hint="name one: edgead run part.edgead --camera 0")
    named = ", ".join(map(str, found))
    raise BadInput(f"which bundle? Here are {len(found)}: {named}", hint=f"name one: edgead run {found[0]} --camera 0")


def _run_file(file: Path, max_parts: int | None, as_json: bool) -> int:
    """What a station.yaml says, until it is stopped."""
    from edgead.config.reading import read_station
    from edgead.line.service import Station, exit_code
    from edgead.line.stopping import stopped_by_signals
    from edgead.runtime.outlet import say
    from edgead.runtime.supervision.logs import logging_to

    with stopped_by_signals() as stopper:
        config = read_station(file)
        watch = config.supervision
        with logging_to(sys.stderr, level=watch.level, form="auto" if watch.log == "text" else "json", secrets=config.secrets):
            with Station.of(config) as station:
                stopper.attach(station)
                station.run(max_parts)
            from edgead.cli._told import died, ran, summary

            outcomes = station.outcomes()
            texts = [f"{found.name}: {summary(found.stats, found.kept, found.health.devices)}" for found in outcomes]
            say("\n".join((*texts, *died(station.crew))), sys.stderr)
    if as_json:
        print_json("run", ran(outcomes, station.crew))
    return exit_code(station.crew, [found.kept["records"] for found in outcomes if "records" in found.kept])


def _run_bundle(
    wanted: Wanted, max_parts: int | None, threads: int | None, *, allow_unverified: bool, keep: bool, trusted: tuple[Path, ...]
) -> int:
    from edgead.line.service import Station, exit_code
    from edgead.line.stopping import stopped_by_signals
    from edgead.runtime.outlet import say
    from edgead.runtime.supervision.logs import logging_to
    from edgead.signing import read_trusted

    with stopped_by_signals() as stopper, ExitStack() as stack:
        stack.enter_context(logging_to(sys.stderr, level="debug" if debugging() else "warning"))
        keys = read_trusted(trusted)
        made = Station.of_bundle(camera_of(wanted), threads=threads, allow_unverified=allow_unverified, keep=keep, trusted=keys)
        station = stack.enter_context(made)
        sinks = _sinks(wanted, station, stack)
        stopper.attach(station)
        say(one_line(_headline(wanted, station)), sys.stderr)
        station.run(max_parts)
    from edgead.cli._told import died, ran, summary  # not on the way to the first verdict

    outcome = replace(station.outcomes()[0], kept=sinks)
    say("\n".join((summary(outcome.stats, sinks), *died(station.crew))), sys.stdout if wanted.human else sys.stderr)
    if wanted.as_json:
        print_json("run", ran([outcome], station.crew))
    return exit_code(station.crew, [sinks["records"]] if "records" in sinks else [])


def camera_of(wanted: Wanted) -> CameraConfig:
    """What a station.yaml says of a camera, by its defaults and the options. Not validated as a file is (pydantic alone costs a
    fifth of the way to the first verdict): the station says what is wrong with numbers."""
    from edgead.config.camera import CameraConfig
    from edgead.settings import DeviceSettings

    outputs: list[DeviceSettings] = []
    if wanted.human:
        from edgead.runtime.outputs.log import LogSettings

        outputs.append(LogSettings())
    if wanted.on_ng:
        from edgead.runtime.outputs.command import CommandSettings

        outputs.append(CommandSettings(on_ng=wanted.on_ng))
    names = ("engine", "threshold", "budget_ms", "max_age_ms", "frame_timeout_ms", "realtime")
    given = {name: value for name in names if (value := getattr(wanted, name)) is not None}
    return CameraConfig(name="camera", address=wanted.camera, bundle=wanted.bundle, outputs=tuple(outputs), **given)


def _sinks(wanted: Wanted, station: Station, stack: ExitStack) -> dict[str, Any]:
    """Records, pictures and window, as far as they are wanted."""
    from edgead.runtime.records.record import RecordFile

    lane = station.lanes[0]
    sinks: dict[str, Any] = {}
    target = wanted.records or (None if wanted.human or wanted.as_json else "-")
    if target is not None:
        records = RecordFile(None if target == "-" else Path(target))
        stack.callback(records.close)
        station.on_record(records.write)
        sinks["records"] = records
    recipe = lane.bundle.manifest.preprocess
    if wanted.save_ng is not None:
        from edgead.runtime.records.pictures import PictureFolder

        pictures = PictureFolder(wanted.save_ng, lane.scale, recipe)
        station.on_inspection(pictures.save)
        sinks["pictures"] = pictures
    if wanted.show:
        from edgead.runtime.records.pictures import Window

        station.on_inspection(Window(f"edgead {lane.bundle.manifest.name}", lane.scale, recipe).show, capacity=1)
    return sinks


def _headline(wanted: Wanted, station: Station) -> str:
    from edgead.runtime.redact import redact

    lane = station.lanes[0]
    budget = f"budget {wanted.budget_ms:g} ms" if wanted.budget_ms else "no budget"
    what = f"{lane.bundle.manifest.name}: {lane.record.name} on {redact(wanted.camera)}"
    return f"{what}, {lane.rule.describe()}, {budget}; Ctrl-C stops"
