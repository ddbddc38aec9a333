"""Run a bundle on a camera: capture, inference, verdict, one record per part, until Ctrl-C, SIGTERM or the end of the source.

camera addresses: 0, usb:1, /dev/video0, rtsp://user:password@host/stream, a video file, a folder of pictures, a pattern like
'pictures/*.png' (in quotes), sim or sim:fps=5,defect_rate=0.2 (a simulated conveyor).

On a terminal each part is a line to read. Otherwise, and with --records, each part is a JSON object on one line.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from edgead.bundle import Bundle, EngineRecord
    from edgead.runtime.overlay import HeatScale
    from edgead.runtime.station import Station
    from edgead.runtime.stats import Stats
    from edgead.types import Engine, Output

SUMMARY = "inspect what a camera sees"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `edgead run`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder written by edgead export")
    parser.add_argument("--camera", required=True, metavar="ADDRESS", help="where pictures come from (see above)")
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
    parser.add_argument(
        "--max-age-ms", type=float, default=1000.0, metavar="MS", help="older live frames are dropped (default 1000)"
    )
    parser.add_argument(
        "--frame-timeout-ms", type=float, default=1000.0, metavar="MS", help="silence that is a fault (default 1000)"
    )
    parser.add_argument("--realtime", action="store_true", help="play a video file at its own speed, as a camera would")


def run(args: argparse.Namespace) -> int:
    """Inspect until stopped; 0 after a clean stop."""
    from edgead.bundle import Bundle
    from edgead.engines import open_engine
    from edgead.errors import BadInput

    for name in ("max_parts", "threads"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise BadInput(f"--{name.replace('_', '-')} {value} is not 1 or more")
    bundle = Bundle.open(args.bundle)
    record = bundle.manifest.engine(args.engine)
    with ExitStack() as stack:
        engine = open_engine(bundle, args.engine, args.threads)
        stack.callback(engine.close)
        scale = prove(bundle, record, engine)
        station = _station(args, bundle, record, engine, stack)
        sinks = _sinks(args, station, scale, bundle, stack)
        with _stopped_by_signals(station):
            print(_headline(args, bundle, record, station), file=sys.stderr)
            stats = station.run(args.max_parts)
    _summary(stats, sinks, sys.stdout if _human(args) else sys.stderr)
    return 0


def prove(bundle: Bundle, record: EngineRecord, engine: Engine) -> HeatScale:
    """Ask the engine about two golden frames (this also warms it up), and learn from them all what calm maps look like.

    Raises:
        ParityFailed: it does not answer here as the trained model did.
    """
    import numpy as np

    from edgead.engines.verify import judge, trained_threshold
    from edgead.errors import ParityFailed
    from edgead.parity import Answers, ask
    from edgead.runtime.overlay import HeatScale

    golden = bundle.golden()
    reference = golden.reference
    order = np.argsort(reference.scores)
    chosen = sorted({int(order[0]), int(order[-1])})
    asked = ask(engine, [golden.images[i] for i in chosen])
    answers = Answers(reference.scores.copy(), reference.maps.copy())  # frames that are not asked count as equal
    answers.scores[chosen], answers.maps[chosen] = asked.scores, asked.maps
    if not judge(record, golden, answers, trained_threshold(bundle)).passed:
        pairs = ", ".join(f"{a:.4g} instead of {e:.4g}" for a, e in zip(asked.scores, reference.scores[chosen], strict=True))
        raise ParityFailed(
            f"engine {record.name} does not answer as the trained model did: golden frames score {pairs}",
            hint=f"edgead verify {bundle.path} tells more; use another --engine, or export on this device",
        )
    return HeatScale(float(np.median(reference.maps)), record.threshold.value)


def _station(args: argparse.Namespace, bundle: Bundle, record: EngineRecord, engine: Engine, stack: ExitStack) -> Station:
    from edgead.budget import LatencyBudget
    from edgead.clock import MonotonicClock
    from edgead.runtime.cameras import open_camera
    from edgead.runtime.station import Station
    from edgead.types import Camera

    clock = MonotonicClock()

    def reopen() -> Camera:
        return open_camera(args.camera, clock=clock, realtime=args.realtime)

    outputs = _outputs(args)
    camera = reopen()
    stack.callback(camera.close)
    station = Station(
        camera,
        engine,
        bundle.manifest.preprocess,
        record.threshold.value if args.threshold is None else args.threshold,
        LatencyBudget(args.budget_ms),
        outputs,
        clock,
        reopen=reopen,
        frame_timeout_s=args.frame_timeout_ms / 1000,
        max_age_s=args.max_age_ms / 1000,
        engine_name=record.name,
    )
    stack.callback(station.close)
    return station


def _outputs(args: argparse.Namespace) -> list[Output]:
    from edgead.runtime.outputs.command import CommandOutput
    from edgead.runtime.outputs.log import LogOutput

    outputs: list[Output] = [LogOutput(sys.stdout)] if _human(args) else []
    if args.on_ng:
        outputs.append(CommandOutput(args.on_ng))
    return outputs


def _sinks(args: argparse.Namespace, station: Station, scale: HeatScale, bundle: Bundle, stack: ExitStack) -> dict[str, Any]:
    """Records, pictures and window, as far as they are wanted."""
    from edgead.runtime.overlay import HeatScale
    from edgead.runtime.records import RecordFile

    roi = bundle.manifest.preprocess.roi
    if args.threshold is not None:
        scale = HeatScale(scale.calm, args.threshold)
    sinks: dict[str, Any] = {}
    target = args.records or (None if _human(args) else "-")
    if target is not None:
        records = RecordFile(None if target == "-" else Path(target))
        stack.callback(records.close)
        station.on_record(records.write)
        sinks["records"] = records
    if args.save_ng is not None:
        from edgead.runtime.pictures import PictureFolder

        pictures = PictureFolder(args.save_ng, scale, roi)
        station.on_inspection(pictures.save)
        sinks["pictures"] = pictures
    if args.show:
        from edgead.runtime.pictures import Window

        station.on_inspection(Window(f"edgead {bundle.manifest.name}", scale, roi).show, capacity=1)
    return sinks


def _human(args: argparse.Namespace) -> bool:
    """Is standard output for people? Not when it is a pipe, and not when it carries records."""
    return args.records != "-" and sys.stdout.isatty()


@contextmanager
def _stopped_by_signals(station: Station) -> Iterator[None]:
    """SIGINT and SIGTERM stop the station cleanly; a second SIGINT interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        station.stop()
        signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _headline(args: argparse.Namespace, bundle: Bundle, record: EngineRecord, station: Station) -> str:
    from edgead.runtime.redact import redact

    budget = f"budget {args.budget_ms:g} ms" if args.budget_ms else "no budget"
    threshold = record.threshold.value if args.threshold is None else args.threshold
    where = redact(args.camera)
    return f"{bundle.manifest.name}: {record.name} on {where}, NG at score {threshold:.4g} and above, {budget}; Ctrl-C stops"


def _summary(stats: Stats, sinks: dict[str, Any], stream: TextIO) -> None:
    """What happened, in a few lines."""
    verdicts = ", ".join(f"{stats.verdicts[name]} {name}" for name in ("OK", "NG", "UNKNOWN"))
    lines = [f"{stats.parts} parts: {verdicts}" + _listed(stats.causes)]
    lines.append(f"{stats.frames} frames, {sum(stats.drops.values())} dropped" + _listed(stats.drops))
    if latency := stats.latency_ms():
        lines.append("latency from picture to verdict: " + ", ".join(f"{name} {value:.1f} ms" for name, value in latency.items()))
    lost = {name: sink.lost for name, sink in sinks.items() if sink.lost}
    for title, counts in (("failed", stats.errors), ("too slow, missed", stats.undelivered), ("lost", lost)):
        if counts:
            lines.append(f"{title}:" + _listed(counts))
    if stats.reconnects:
        lines.append(f"camera reconnected {stats.reconnects} times")
    if "pictures" in sinks:
        lines.append(f"{sinks['pictures'].saved} parts saved")
    print("\n".join(lines), file=stream)


def _listed(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in sorted(counts.items()))})" if counts else ""
