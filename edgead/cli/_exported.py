"""What `edgead export` tells of a bundle that it wrote: engines, warnings, what was refused, what became of the one before."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgead import versions
from edgead.cli import _budget
from edgead.errors import ParityFailed

if TYPE_CHECKING:
    from edgead.bundle import Bundle


def listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def tell_refused(bundle: Bundle, backends: Sequence[str], precisions: Sequence[str]) -> int:
    """The exit code: 0, or 4 when something that was asked for by name was refused, which goes to standard error then.

    Args:
        backends, precisions: those that were named; none where the choice was left to edgead. Who names both wants each of their
            engines; who names one of them wants any engine of it.
    """
    kept = {(record.backend, record.precision) for record in bundle.manifest.engines}
    missing = []
    for refusal in bundle.manifest.measured.refused:
        backend, _, precision = refusal.engine.rpartition("-")
        others = {
            (True, True): False,
            (True, False): any(b == backend for b, _ in kept),
            (False, True): any(p == precision for _, p in kept),
            (False, False): True,
        }[bool(backends), bool(precisions)]
        if not others:
            missing.append(refusal.engine)
    if not missing:
        return 0
    from edgead.cli.main import told
    from edgead.runtime.outlet import say

    what = f"refused, though asked for: {', '.join(missing)}; {bundle.path} is written without"
    names = ", ".join(record.name for record in bundle.manifest.engines)
    say(told("export", what, f"it holds {names}; why is said above, and by edgead inspect"), sys.stderr)
    return ParityFailed.exit_code


def tell_former(bundle: Bundle, before: set[Path]) -> None:
    """What became of the bundle that was there, and of what the line had tuned in it."""
    from edgead.cli._console import console

    for name, why in (bundle.manifest.measured.carried or {}).items():
        told = f"NOT carried over: {why}; choose them anew: edgead threshold {bundle.path} --good DIR" if why else "carried over"
        console().print(f"{name}: thresholds tuned on the line {told}", markup=False)
    for version in versions.former(bundle.path):
        if version.path not in before:
            back = f"edgead bundle restore {bundle.path}"
            console().print(f"the bundle that was there is kept as {version.path}; to put it back: {back}", markup=False)


def compare(like: Bundle, bundle: Bundle) -> None:
    from edgead.cli._console import console

    if not (differing := _budget.differing_graphs(like, bundle)):
        console().print(f"the same graphs as in {like.path}, byte for byte", markup=False)
        return
    tools = [f"{n} {v} there, {bundle.manifest.tools.get(n, 'none')} here" for n, v in like.manifest.tools.items()]
    others = [line for line in tools if line.split()[1] != line.split()[-2]]
    console().print(
        f"warning: {', '.join(differing)} not the same as in {like.path}: another model, other pictures"
        + (f", or other versions ({'; '.join(others)})" if others else ", or another machine"),
        markup=False,
    )


def warn(bundle: Bundle) -> None:
    """Whether golden defects are found at all, what was taken for good and for defects, what must be said of the model, what
    calibration noticed about its pictures, and what the guard had to do."""
    from edgead.cli._console import console
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

    from edgead.cli._console import console

    measured = bundle.manifest.measured
    names = ("score err", "dev.", "flips", "AUROC", "threshold", "float", "ms")
    table = Table(
        "engine", *(Column(name, justify="right") for name in names), box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1)
    )
    auroc = measured.auroc
    trained = measured.threshold
    stated = "" if trained is None else f"{trained.value:.4g}"
    table.add_row("trained model", "", "", "", "" if auroc is None else f"{auroc:.4f}", stated, "", "")
    kept = {name: len(told.keep_float) for told in measured.guard for name in told.engines}
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
        "* fastest here, the default; errors relative to the range of the trained model's maps, deviation to its scores'"
    )
    if any(record.parity is None for record in bundle.manifest.engines):
        told = f"edgead verify {bundle.path} measures it on the device that runs it"
        console().print(f"not measured: built ahead of time, judged by its graph; {told}", markup=False)
    if drawn := measured.frames.get("drawn"):
        console().print(f"no labelled defects: {drawn} were drawn onto good pictures")
    for refusal in measured.refused:
        why = refusal.why.removeprefix(f"{refusal.engine} ")
        console().print(f"refused, not in the bundle: {refusal.engine}: {why}\n  -> {refusal.hint}", markup=False)
