"""What the demo tells at its end: one screen, and the same as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from edgead import __version__, machine
from edgead.bundle import Bundle
from edgead.families import method
from edgead.jobs.measure import Result
from edgead.runtime.loop.stats import Stats
from edgead.types import Inspection

VERDICTS = ("OK", "NG", "UNKNOWN")
COLUMNS, INDENT = 100, " " * 11


@dataclass(frozen=True, slots=True)
class Facts:
    """What the demo found out.

    Attributes:
        edgead: its version.
        model: the method that was trained.
        bundle: what was exported.
        metrics: of the trained model on the labelled pictures, by name.
        engines: as `edgead bench` tells of them.
        confusion: truth (good, defect) -> verdict -> number of parts.
        missed: kind of defect -> parts with it that were OK.
        station: the station's counters.
        steps_s: seconds that each step took.
        elapsed_s: the whole demo.
        machine: facts of this machine.
    """

    edgead: str
    model: str
    bundle: Path
    metrics: dict[str, float]
    engines: tuple[Result, ...]
    confusion: dict[str, dict[str, int]]
    missed: dict[str, int]
    station: dict[str, Any]
    steps_s: dict[str, float]
    elapsed_s: float
    machine: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything that the demo found out.

    Attributes:
        out: the demo's folder.
        model: the method that was trained.
        bundle: what it exported.
        metrics: of the trained model on the labelled pictures.
        results: of the benchmark.
        inspections: of the station, each with a frame whose `source` is the truth.
        stats: the station's counters.
        steps_s: seconds that each step took.
        elapsed_s: the whole demo.
    """

    out: Path
    model: str
    bundle: Bundle
    metrics: dict[str, float]
    results: Sequence[Result]
    inspections: Sequence[Inspection]
    stats: Stats
    steps_s: dict[str, float]
    elapsed_s: float

    def confusion(self) -> dict[str, dict[str, int]]:
        """Truth ("good", "defect") -> verdict -> number of parts."""
        counts = Counter((_truth(i), i.verdict.value) for i in self.inspections)
        return {truth: {verdict: counts[truth, verdict] for verdict in VERDICTS} for truth in ("good", "defect")}

    def missed(self) -> dict[str, int]:
        """Kind of defect -> number of parts with it that were OK."""
        kinds = Counter(i.frame.source for i in self.inspections if i.frame and _truth(i) == "defect" and i.verdict.value == "OK")
        return dict(sorted(kinds.items()))

    def facts(self) -> Facts:
        return Facts(
            edgead=__version__,
            model=self.model,
            bundle=self.bundle.path,
            metrics=self.metrics,
            engines=tuple(self.results),
            confusion=self.confusion(),
            missed=self.missed(),
            station=self.stats.to_json(),
            steps_s=self.steps_s,
            elapsed_s=round(self.elapsed_s, 1),
            machine=machine.facts(),
        )

    def text(self) -> str:
        """One screen of at most 100 columns."""
        return "\n".join([*self._accuracy(), "", *self._engines(), "", *self._conveyor(), "", *self._next()])

    def _accuracy(self) -> list[str]:
        record = self.bundle.manifest.engine()
        preset = method(self.model)[1]
        about = wrap(f"{preset.title}: {preset.summary.rstrip('.')}. {preset.source}".rstrip(), COLUMNS - len(INDENT))
        return [
            f"edgead demo, {self.elapsed_s:.0f} s on {machine.cpu_model()}, {machine.usable_cores()} cores",
            "",
            f"method     {about[0]}",
            *(f"{INDENT}{line}" for line in about[1:]),
            *worth(self.model, self.metrics),
            f"threshold  {record.threshold.value:.4g}, {record.threshold.method}",
        ]

    def _engines(self) -> list[str]:
        manifest = self.bundle.manifest
        titles = f"{'p50 ms':>8}{'p99 ms':>8}{'parts/s':>9}{'cold ms':>9}{'MiB':>6}"
        lines = [f"{'engine':<18}{'score error':>12}{'flips':>9}{'AUROC':>7}" + titles]
        for result in sorted(self.results, key=lambda r: r.stages["total"].p50_ms):
            record, total = manifest.engine(result.engine), result.stages["total"]
            name = result.engine + (" *" if result.engine == manifest.default_engine else "")
            parity = record.parity
            if parity is None:  # built ahead of time for another machine: the demo builds none of those
                continue
            flips = f"{parity.label_flips} of {parity.frames}"
            auroc = "-" if record.auroc is None else f"{record.auroc:.3f}"
            lines.append(
                f"{name:<18}{parity.score_error:>12.1e}{flips:>9}{auroc:>7}{total.p50_ms:>8.1f}{total.p99_ms:>8.1f}"
                f"{result.throughput_per_s:>9.1f}{result.cold_start_ms or 0:>9.0f}{result.resident_mb or 0:>6.0f}"
            )
        return [*lines, "each verified against the trained model; * the one that ran"]

    def _conveyor(self) -> list[str]:
        confusion, latency = self.confusion(), self.stats.latency_ms()
        lines = [f"{'conveyor':<11}{self.stats.parts} parts" + "".join(f"{verdict:>9}" for verdict in VERDICTS)]
        for truth, row in confusion.items():
            total = f"{sum(row.values())} {truth}"
            lines.append(f"{'':<11}{total:<{len(str(self.stats.parts)) + 6}}" + "".join(f"{row[v]:>9}" for v in VERDICTS))
        missed = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in self.missed().items())
        times = f"p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms from picture to verdict"
        lines.append(f"{'':<11}missed: {missed or 'none'}; {times}")
        return lines

    def _next(self) -> list[str]:
        out = _short(self.out)
        return [
            f"look at    {out}/caught.png, what was caught",
            f"then       edgead run {out}/{self.bundle.path.name} --camera sim:fps=5",
            f"your part  {own_training(self.model)}",
            "           edgead export model -o part.edgead && edgead run part.edgead --camera 0",
        ]


def worth(model: str, metrics: Mapping[str, float]) -> list[str]:
    """What a model is worth on the labelled pictures, and that it is nothing where brightness alone tells as much."""
    good, defects = round(metrics["test_good"]), round(metrics["test_defects"])
    image, brightness, pixel = (metrics[f"{name}_auroc"] for name in ("image", "brightness", "pixel"))
    lines = [
        f"model      {model}, image AUROC {image:.3f} (brightness alone {brightness:.3f}), pixel AUROC {pixel:.3f},",
        f"{INDENT}on {good} good and {defects} defective pictures",
    ]
    if image <= brightness:
        lines.append(f"{INDENT}no more than brightness tells: it learned nothing on these parts (edgead docs methods)")
    return lines


def own_training(model: str) -> str:
    """The command that trains it on somebody's own parts."""
    defects = " --defects FOLDER_OF_DEFECTS" if method(model)[0].needs_defects else ""
    return f"edgead train {model} FOLDER_OF_GOOD_PICTURES{defects} -o model"


def _truth(inspection: Inspection) -> str:
    return "good" if inspection.frame is not None and inspection.frame.source == "good" else "defect"


def _short(path: Path) -> str:
    """Relative to here when it is below here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
