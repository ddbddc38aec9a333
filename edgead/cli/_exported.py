"""What `edgead export` tells of a bundle that it wrote: engines, warnings, what was refused, what became of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.bundle import Bundle, Threshold
from edgead.cli._console import console
from edgead.engines import choice
from edgead.jobs.several import Rival
from edgead.parity import ParityReport
from edgead.typed import plain

if TYPE_CHECKING:
    from edgead.jobs.export import ExportResult
    from edgead.jobs.several import Best


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine of the bundle.

    Attributes:
        name, backend, precision: of it.
        parity: against the trained model; null: it was built ahead of time, and is measured by `edgead verify`.
        auroc: on the labelled pictures; null without.
        threshold: for its answers.
        latency_ms: the median here; null when it was not timed.
        kept_float: layers that INT8 leaves in float.
    """

    name: str
    backend: str
    precision: str
    parity: ParityReport | None
    auroc: float | None
    threshold: Threshold
    latency_ms: float | None
    kept_float: int


@dataclass(frozen=True, slots=True)
class Exported:
    """The bundle that was made; `edgead inspect --json` shows its whole manifest.

    Attributes:
        bundle: its folder.
        sha256: of it.
        default_engine: the one that `run` takes.
        engines: those that answer as the trained model does.
        refused: engine -> why it is not in the bundle.
        wanted: of these, the ones that were asked for by name; then the exit code is 4.
        kept: where the bundle that was there is now; null: none was.
        search: what a search for a budget found; empty without.
        differing: graphs that are not those of the bundle to be like; null without.
        no_gain: engines of lower precision that won no time here, in words.
        models: those among which this one was chosen, the best one first; empty for one alone.
    """

    bundle: str
    sha256: str
    default_engine: str
    engines: tuple[Engine, ...]
    refused: Mapping[str, str]
    wanted: tuple[str, ...]
    kept: Path | None
    search: Mapping[str, Any]
    differing: tuple[str, ...] | None
    no_gain: tuple[str, ...] = ()
    models: tuple[Rival, ...] = ()

    @classmethod
    def of(cls, result: ExportResult, models: tuple[Rival, ...] = ()) -> Exported:
        """What is told of a result."""
        bundle = result.bundle
        manifest, measured = bundle.manifest, bundle.manifest.measured
        kept = _kept_float(bundle)
        engines = tuple(
            Engine(one.name, one.backend, one.precision, one.parity, one.auroc, one.threshold,
                   measured.latency_ms.get(one.name), kept.get(one.name, 0))
            for one in manifest.engines
        )  # fmt: skip
        refused = {refusal.engine: refusal.why for refusal in measured.refused}
        search = plain(measured.search) if measured.search.candidates else {}
        return cls(
            str(bundle.path), bundle.digest, manifest.default_engine, engines, refused, result.wanted, result.kept, search,
            result.differing, tuple(choice.no_gain(manifest)), models,
        )  # fmt: skip


def _kept_float(bundle: Bundle) -> dict[str, int]:
    """Engine -> layers that the guard returned to float."""
    return {name: len(told.keep_float) for told in bundle.manifest.measured.guard for name in told.engines}


def tell_former(result: ExportResult) -> None:
    """What became of the bundle that was there, and of what the line had tuned in it."""
    bundle = result.bundle
    for name, why in (bundle.manifest.measured.carried or {}).items():
        told = f"NOT carried over: {why}; choose them anew: edgead threshold {bundle.path} --good DIR" if why else "carried over"
        console().print(f"{name}: thresholds tuned on the line {told}", markup=False)
    if result.kept is not None:
        back = f"edgead bundle restore {bundle.path}"
        console().print(f"the bundle that was there is kept as {result.kept}; to put it back: {back}", markup=False)


def compare(path: Path, result: ExportResult) -> None:
    """Whether the graphs are those of the bundle at `path`, and if not, what may be the reason."""
    from edgead.bundle import Bundle

    if not result.differing:
        console().print(f"the same graphs as in {path}, byte for byte", markup=False)
        return
    there, here = Bundle.open(path).manifest.tools, result.bundle.manifest.tools
    others = [f"{n} {v} there, {here.get(n, 'none')} here" for n, v in there.items() if here.get(n) != v]
    console().print(
        f"warning: {', '.join(result.differing)} not the same as in {path}: another model, other pictures"
        + (f", or other versions ({'; '.join(others)})" if others else ", or another machine"),
        markup=False,
    )


def show_rivals(best: Best) -> None:
    """The table of models, and what their comparison is worth."""
    from rich import box
    from rich.table import Column, Table

    from edgead.cli._searched import WIDEST

    columns = (Column(name, justify="right", no_wrap=True) for name in ("family", "AUROC", "p99 ms", "engine"))
    table = Table(Column("model", no_wrap=True), *columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for one in best.rivals:
        if one.auroc is not None:
            p99_ms = "" if one.p99_ms is None else f"{one.p99_ms:.1f}"
            table.add_row(f"{one.model}{' *' if one.chosen else ''}", one.family, f"{one.auroc:.4f}", p99_ms, one.engine)
    console(width=max(console().width, WIDEST)).print(table)
    for one in best.rivals:
        if one.auroc is None:
            console().print(f"{one.model}: out: {one.why}", markup=False, soft_wrap=True)
    if not best.alike:
        console().print(
            "warning: the models were not all judged on the same labelled pictures, so this is a rough comparison: "
            "--labelled DIR gives all of them the same",
            markup=False,
        )


def warn(bundle: Bundle) -> None:
    """Whether golden defects are found at all, what was taken for good and for defects, what must be said of the model, what
    calibration noticed about its pictures, and what the guard had to do."""
    from edgead.engines.golden import reach

    found = reach(bundle, bundle.manifest.engine(), bundle.golden())
    if told := found.fault or found.warning:
        console().print(f"warning: {told}", markup=False)

    for line in bundle.manifest.measured.labels:
        console().print(f"labelled pictures: {line}", markup=False)
    for noticed in bundle.manifest.measured.judgement:
        console().print(f"{noticed.severity}: {noticed.message}", markup=False)
    for finding in (bundle.manifest.calibration or {}).get("findings", ()):
        where = f"{finding['where']}: " if finding["where"] else ""
        console().print(f"{finding['severity']}: {where}{finding['message']}", markup=False)
    for guarded in bundle.manifest.measured.guard:
        kept = [step for step in guarded.steps if step.kept]
        if not kept or not guarded.keep_float:
            continue
        console().print("the INT8 graph as calibrated was over the limits; returned to float:")
        for step in kept:
            console().print(
                f"  {step.layer}: {step.alone:.3f} alone, costs {step.cost_ms:.2f} ms; {step.engine} "
                f"{step.before:.3f} -> {step.after:.3f} score deviation, {step.flips_before} -> {step.flips_after} "
                "labels flip",
                markup=False,
            )
    for name, words in bundle.manifest.measured.doubts.items():
        for word in words:
            console().print(f"warning: {name}: {word}", markup=False)


def show(bundle: Bundle) -> None:
    """The table of engines with what was measured at export."""
    from rich import box
    from rich.table import Column, Table

    measured = bundle.manifest.measured
    names = ("score err", "dev.", "flips", "AUROC", "threshold", "float", "ms")
    table = Table(
        "engine", *(Column(name, justify="right") for name in names), box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1)
    )
    auroc = measured.auroc
    trained = measured.threshold
    stated = "" if trained is None else f"{trained.value:.4g}"
    table.add_row("trained model", "", "", "", "" if auroc is None else f"{auroc:.4f}", stated, "", "")
    kept = _kept_float(bundle)
    for record in bundle.manifest.engines:
        chosen = " *" if record.name == bundle.manifest.default_engine else ""
        parity = record.parity
        if parity is None:
            rest = ("", "", f"{record.threshold.rule.level:.4g}", str(kept.get(record.name, "")), "")
            table.add_row(record.name + chosen, "not measured", "", *rest)
            continue
        table.add_row(
            record.name + chosen,
            f"{parity.score_error:.1e}",
            f"{100 * parity.score_deviation:.1f} %",
            f"{parity.label_flips} of {parity.frames}",
            "" if record.auroc is None else f"{record.auroc:.4f}",
            f"{record.threshold.rule.level:.4g}",
            str(kept[record.name]) if record.name in kept else "",
            f"{latency:.1f}" if (latency := measured.latency_ms.get(record.name)) is not None else "",
        )
    console().print(table)
    console().print(
        "* the default: the fastest here, of two alike the finer one; errors relative to the range of the trained model's maps, "
        "deviation to its scores'"
    )
    for line in choice.no_gain(bundle.manifest):
        console().print(f"{line}; edgead verify measures it anew on the box", markup=False)
    if any(record.parity is None for record in bundle.manifest.engines):
        told = f"edgead verify {bundle.path} measures it on the device that runs it"
        console().print(f"not measured: built ahead of time, judged by its graph; {told}", markup=False)
    if drawn := measured.frames.get("drawn"):
        console().print(f"no labelled defects: {drawn} were drawn onto good pictures")
    for refusal in measured.refused:
        why = refusal.why.removeprefix(f"{refusal.engine} ")
        console().print(f"refused, not in the bundle: {refusal.engine}: {why}\n  -> {refusal.hint}", markup=False)
