"""Does an engine still answer on this device as the trained model did at export? Neither torch nor onnx is needed.

What counts as the same answer on the golden frames, all errors relative to the range of the trained model's maps:

- FP32: score and map within 1e-3. Export demands 1e-4; the slack is for other CPUs, which add in another order.
- INT8: score and map within 1.5 times the error measured at export plus 0.01. Another CPU's kernels round differently,
  which costs far less; saturating or wrong kernels cost far more (0.16 of the range on a single layer).
- FP16: as INT8; when nothing was measured, as if 0.01 had been (measured on small models: 0.0005 to 0.0055).
- An engine that was built ahead of time has no errors measured at export: those of the same graph, executed literally, or of
  another engine of the same precision take their place (:func:`expected`).
- The recipe: of the golden frames that are there as the camera gave them, it makes here what it made at export, within rounding,
  and the engine is asked about that.
- The rule: of golden defects that were NG at export at least one still is not OK by the threshold in force
  (:mod:`edgead.engines.golden`).
- All: no label differs on a *clear* frame, one whose trained score is farther from the threshold than the tolerated
  score error. Labels are read with the thresholds of the export: what the line has chosen since (`edgead threshold`) is its own
  affair and makes no engine answer differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgead.bundle import Bundle, EngineRecord, Golden, rewrite_manifest
from edgead.engines import open_engine
from edgead.engines.golden import Reach, reach, recipe_inputs
from edgead.errors import BundleError
from edgead.parity import Answers, ParityReport, ask, compare

FP32_LIMIT = 1e-3
INT8_FACTOR = 1.5
INT8_SLACK = 0.01
HALF_ERROR = 0.01


@dataclass(frozen=True, slots=True)
class Verification:
    """One engine on this device.

    Attributes:
        name: the engine's name in the bundle.
        parity: measured now, on the golden frames, against the trained model's stored answers.
        score_limit, map_limit: tolerated errors, relative to the range of the trained model's maps.
        clear_flips: labels that differ on clear frames; tolerated: none.
        reach: which golden defects the rule in force catches; None when nobody asked.
    """

    name: str
    parity: ParityReport
    score_limit: float
    map_limit: float
    clear_flips: int
    reach: Reach | None = None

    @property
    def passed(self) -> bool:
        within = self.parity.score_error <= self.score_limit and self.parity.map_error <= self.map_limit
        return within and self.clear_flips == 0


def verify_engine(bundle: Bundle, name: str, threads: int | None = None) -> Verification:
    """Re-measure one engine of a bundle on its golden frames.

    Raises:
        BadInput: no engine of that name.
        BundleError, BundleMismatch, MissingExtra, EngineError: it cannot be opened here (see :func:`edgead.engines.open_engine`).
        ParityFailed: the recipe does not make of a camera's picture what it made at export.
    """
    golden = bundle.golden()
    images = recipe_inputs(bundle, golden)
    record = expected(bundle, bundle.manifest.engine(name))
    engine = open_engine(bundle, name, threads, unverified=True)
    try:
        answers = ask(engine, images)
    finally:
        engine.close()
    return replace(judge(record, golden, answers, trained_threshold(bundle)), reach=reach(bundle, record, golden, answers))


def expected(bundle: Bundle, record: EngineRecord) -> EngineRecord:
    """The record; when its parity was never measured, with the one to expect: that of its own graph executed literally at export,
    else that of another engine of the same precision.

    Raises:
        BundleError: it is INT8 and the bundle knows neither.
    """
    if record.parity is not None or record.precision == "fp32":
        return record
    if (literal := bundle.manifest.measured.literal.get(record.name)) is not None:
        return replace(record, parity=literal)
    for other in bundle.manifest.engines:
        if other.precision == record.precision and other.parity is not None:
            return replace(record, parity=other.parity)
    if record.precision == "fp16":
        return replace(record, parity=ParityReport(bundle.manifest.golden, HALF_ERROR, HALF_ERROR, 0.0, 0))
    raise BundleError(
        f"{bundle.path} does not tell what to expect of {record.name}",
        hint=f"export it again with --backend onnxruntime,{record.backend}",
    )


def note(bundle: Bundle, results: Iterable[Verification]) -> Bundle:
    """Write into the manifest what was measured here for the first time, of engines that passed; in one step, or nothing.

    Raises:
        StorageError: the bundle is not writable.
    """
    manifest = bundle.manifest
    for result in results:
        record = manifest.engine(result.name)
        if record.parity is None and result.passed:
            manifest = manifest.with_engine(replace(record, parity=result.parity))
    return bundle if manifest is bundle.manifest else rewrite_manifest(bundle, manifest)


def judge(
    record: EngineRecord, golden: Golden, answers: Answers, threshold: float, asked: Sequence[int] | None = None
) -> Verification:
    """Compare an engine's answers on the golden frames with the trained model's; `threshold` is the trained model's.

    Args:
        asked: frames whose labels count, where the other answers are the trained model's, which the engine's own threshold says
            nothing about; None: all.
    """
    limits = [FP32_LIMIT, FP32_LIMIT]
    if record.precision != "fp32" and record.parity is not None:
        limits = [INT8_FACTOR * error + INT8_SLACK for error in (record.parity.score_error, record.parity.map_error)]
    reference = golden.reference
    own = record.at_export.value
    parity = compare(reference, answers, threshold, own)
    tolerated = limits[0] * (float(np.ptp(reference.maps)) or 1.0)
    clear = np.abs(reference.scores - threshold) > tolerated
    flips = (reference.scores >= threshold) != (answers.scores >= own)
    if asked is not None:
        flips &= np.isin(np.arange(len(flips)), asked)
    return Verification(record.name, parity, limits[0], limits[1], int((flips & clear).sum()))


def trained_threshold(bundle: Bundle) -> float:
    """The trained model's threshold, which the golden labels are read with.

    Raises:
        BundleError: the manifest does not state it.
    """
    if (stated := bundle.manifest.measured.threshold) is None:
        raise BundleError(f"{bundle.path} does not state the trained model's threshold", hint="export it again")
    return stated.value
