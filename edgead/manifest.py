"""What a bundle says of itself: ``manifest.json`` as typed values, checked when it is read and before it is written."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypedDict

from edgead.decision import PixelRule, Rule
from edgead.errors import BadInput, BundleError, BundleMismatch
from edgead.measured import Measured
from edgead.parity import ParityReport
from edgead.preprocess import PreprocessRecipe
from edgead.typed import (
    FLOAT32_MAX,
    As,
    Between,
    Count,
    FileName,
    Lenient,
    NotNegative,
    Rest,
    Share,
    Side,
    Single,
    Wrong,
    loads,
    plain,
    read,
    shown,
)
from edgead.types import TensorSpec

SCHEMA = 3
READABLE = (1, 2, 3)
"""Schema 1 knows neither pixel rules nor how and when a threshold was chosen; schema 2 takes pictures as they are: no
alignment, no proportions kept, no depth. A bundle is written in the lowest schema that says all of it."""
ON_THE_LINE, TRAINED, IMPORTED = "edgead threshold", "edgead train", "edgead import"
"""The tool that changes thresholds after the export, and those that make a trained model's folder."""

MOST_GOLDEN = 1000
MOST_CELLS = 1 << 29
"""Values of one tensor."""
MOST_RESIZED_PX = 1 << 14
MOST_NAME = 250
_DIGEST = re.compile(r"[0-9a-f]{64}")


def _is_band(text: str) -> bool:
    """Is it an UNKNOWN band as `edgead threshold` notes it: "", "rates", "5 %" or "LOW:HIGH"?"""
    low, colon, high = text.partition(":")
    try:
        if colon:
            return -FLOAT32_MAX <= float(low) < float(high) <= FLOAT32_MAX
        return text in ("", "rates") or (text.endswith("%") and 0.0 < float(text[:-1]) < 100.0)
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Chosen:
    """Where a threshold came from, and what was promised of it.

    Attributes:
        tool: ``"edgead export"``, ``"edgead train"``, ``"edgead threshold"``, ...
        at: ISO 8601, UTC.
        good, defects: pictures that it was chosen from.
        max_false_reject, max_miss, cost_ratio: what was asked for, shares from 0 to 1; None: not asked.
        guaranteed: whether the asked rates are guaranteed on average (see :mod:`edgead.thresholds.conformal`).
        false_reject_rate, miss_rate: the rates that are guaranteed on average; None: none is.
        false_reject_bound, miss_bound: with `confidence`, the rates of this very threshold are at most these.
        confidence: of the bounds.
        band: the UNKNOWN band as it was asked for, e.g. ``"5 %"``; "" for none.
        digest: SHA-256 over the pictures' own digests, sorted.
        crossfit: how scores of pictures of training came about, e.g. ``"leave-one-out"`` (see docs/thresholds.md); "" when all
            were held out.
        expected_false_reject: with `crossfit`, the false-reject rate to expect on average, in place of a guaranteed one.
    """

    tool: str
    at: str
    good: Count = 0
    defects: Count = 0
    max_false_reject: Share | None = None
    max_miss: Share | None = None
    cost_ratio: NotNegative | None = None
    guaranteed: bool = False
    false_reject_rate: Share | None = None
    false_reject_bound: Share | None = None
    miss_rate: Share | None = None
    miss_bound: Share | None = None
    confidence: Share = 0.95
    band: str = ""
    digest: str = ""
    crossfit: str = ""
    expected_false_reject: Share | None = None

    def __post_init__(self) -> None:
        if not _is_band(self.band):
            raise BadInput(f"an UNKNOWN band of {self.band[:40]!r} is not a rate such as '5 %', LOW:HIGH or 'rates'")


@dataclass(frozen=True, slots=True)
class Threshold:
    """How an engine's answers become verdicts, and how that was chosen.

    Attributes:
        value: scores at or above are NG when `by` is ``"score"``; by area it decides nothing.
        method: how the number that decides was chosen, in words.
        unknown_band, pixel, by: see :class:`edgead.decision.Rule`.
        chosen: the same in numbers; None when nobody noted it (schema 1, other people's files).
        undone_at: ISO 8601, UTC: when it was taken back; "" when it was not.
    """

    value: Single
    method: str
    unknown_band: tuple[Single, Single] | None = None
    pixel: PixelRule | None = None
    by: str = "score"
    chosen: Chosen | None = None
    undone_at: str = ""

    def __post_init__(self) -> None:
        _ = self.rule  # refuses what decides nothing

    @property
    def rule(self) -> Rule:
        """What decides."""
        return Rule(self.value, self.unknown_band, self.pixel, self.by)


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """One way to run the model.

    Attributes:
        name: unique in the bundle, e.g. ``"openvino-int8"``.
        backend: name in the engine registry.
        precision: ``"fp32"`` or ``"int8"``.
        file: the file that the backend loads, relative to the bundle.
        threshold: for the answers of this engine.
        parity: against the trained model, at export or, when it was built ahead of time for another machine, by the first
            `edgead verify` there; None: not measured yet.
        auroc: image AUROC on the labelled frames given at export, or None.
        built_with: package versions and device that matter to it.
        history: earlier thresholds, in the order in which they were replaced or taken back; nothing is ever dropped.
    """

    name: str
    backend: str
    precision: str
    file: str
    threshold: Threshold
    parity: ParityReport | None
    auroc: Share | None = None
    built_with: dict[str, str] = field(default_factory=dict)
    history: tuple[Threshold, ...] = ()

    @property
    def at_export(self) -> Threshold:
        """The threshold that the export gave it: what parity was judged with, whatever the line has chosen since."""
        everything = (*self.history, self.threshold)
        return next((t for t in everything if t.chosen is None or t.chosen.tool != ON_THE_LINE), self.threshold)

    def changed(self, threshold: Threshold) -> EngineRecord:
        """With another threshold; the present one goes to the history."""
        return dataclasses.replace(self, threshold=threshold, history=(*self.history, self.threshold))

    def undone(self, now: str) -> EngineRecord:
        """With the threshold before the present one, which goes to the history, marked as taken back at `now` (ISO 8601).

        Raises:
            BadInput: there is none before.
        """
        earlier = [i for i, threshold in enumerate(self.history) if not threshold.undone_at]
        if not earlier:
            raise BadInput(f"engine {self.name} has no earlier threshold", hint="choose one with --good DIR or --set VALUE")
        rest = (*self.history[: earlier[-1]], *self.history[earlier[-1] + 1 :])
        taken_back = dataclasses.replace(self.threshold, undone_at=now)
        return dataclasses.replace(self, threshold=self.history[earlier[-1]], history=(*rest, taken_back))


class Finding(TypedDict):
    """What the calibration noticed about its pictures."""

    severity: str
    where: str
    message: str


class Calibration(TypedDict, total=False):
    """The calibration set of the INT8 graph."""

    digest: str
    images: Count
    source: str
    method: str
    tool: str
    weight_bits: Annotated[int, Between(2, 32)] | None
    findings: list[Finding]


class TriedSize(TypedDict):
    """An input size that was looked at before the training."""

    width: Side
    height: Side
    ms: NotNegative
    fits: bool
    chosen: bool
    auroc: Share | None
    error: NotNegative | None
    change: Annotated[float, Between(-1.0, 1.0)] | None
    change_error: NotNegative | None


class Sizing(TypedDict):
    """How the input size was chosen (:class:`edgead.training.sizing.SizeChoice`)."""

    why: str
    budget_ms: NotNegative
    given: bool
    pictures: tuple[Side, Side]
    share: Share | None
    counts: tuple[Count, Count, Count]
    took_s: NotNegative
    tried: list[TriedSize]


@dataclass(frozen=True, slots=True)
class Data:
    """Pictures that a model was made with: their folder, how many, and a digest of them all; None: there were none."""

    path: FileName | None = None
    images: Count | None = None
    digest: str | None = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a model was trained with; `rest` are the options of its family.

    Attributes:
        heldout: share of the good pictures that was held out.
        seed: of split and fit.
        crossfit: False: the threshold comes from the held-out pictures alone.
        leave_out: good pictures that were none, by their paths below the folder.
        tiling: how the pictures were cut into tiles (:class:`edgead.training.tiles.Tiling`).
        defects: pictures of defects that took part, folder by folder.
        method: which published method of its family it is; None: the family's own.
        preset: how that was trained; None: as ``"lite"``.
    """

    heldout: Share | None = None
    seed: int | None = None
    crossfit: bool | None = None
    leave_out: tuple[FileName, ...] | None = None
    tiling: dict[str, Any] | None = None
    defects: tuple[Data, ...] | None = None
    method: str | None = None
    preset: str | None = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the trained model came from.

    Attributes:
        tool, version: that made it, e.g. ``"edgead train"``.
        created_at: ISO 8601, UTC.
        package: that brings its family, when that is not edgead.
        source: what was imported, in one line.
        files: their names and SHA-256.
        assumptions: what they did not say.
        arguments: of the training.
        sizing: how the input size was chosen.
        data: the good pictures; None where nothing is said of them.
        rest: keys of other tools and newer edgeads.
    """

    tool: str = ""
    version: str = ""
    created_at: str = ""
    package: str | None = None
    source: str | None = None
    files: dict[FileName, str] | None = None
    assumptions: tuple[FileName, ...] | None = None
    arguments: Arguments | None = None
    sizing: Annotated[dict[str, Any] | None, As(Sizing)] = None
    data: Data | None = None
    rest: Annotated[dict[str, Any], Rest()] = field(default_factory=dict)

    @property
    def has_pictures(self) -> bool:
        """Whether pictures of the product took part."""
        return self.data is not None and self.data.path is not None

    @property
    def without_pictures(self) -> bool:
        """Whether the model was imported without good pictures: those held out are generated."""
        return self.tool == IMPORTED and not self.has_pictures


GoldenKind = Literal["good", "defect", "drawn defect"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about a bundle but the weights (see the module's docstring for the files).

    Attributes:
        name: the product or recipe name.
        family: ``"patchcore"``, ``"simplenet"`` or ``"efficientad"``.
        model: the model's configuration, as it was trained.
        origin: where the trained model came from and what it was trained on.
        preprocess: from camera picture to model input.
        inputs, outputs: the graph's tensors.
        engines: built engines.
        default_engine: the one that `run` takes.
        calibration: digest, count and settings of the calibration set of the INT8 graph, or None.
        golden: number of golden frames.
        golden_kinds: what each of them shows; empty in bundles from before this was noted.
        golden_camera: which of them are there as the camera gave them, too, so that the recipe can be checked.
        measured: accuracy and other figures measured at export.
        tools: package versions.
        machine: facts of the machine that made it.
        created_at: ISO 8601, UTC.
        files: relative path -> SHA-256; filled when the bundle is written.
    """

    name: str
    family: str
    model: dict[str, Any]
    origin: Origin
    preprocess: PreprocessRecipe
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    engines: tuple[EngineRecord, ...]
    default_engine: str
    calibration: Annotated[dict[str, Any], As(Calibration)] | None
    golden: Annotated[int, Between(0, MOST_GOLDEN)]
    measured: Measured
    tools: dict[str, str]
    machine: dict[str, Any]
    created_at: str
    files: dict[str, str] = field(default_factory=dict)
    golden_kinds: tuple[Annotated[str, As(GoldenKind)], ...] = ()
    golden_camera: tuple[Count, ...] = ()

    def engine(self, name: str | None = None) -> EngineRecord:
        """The record of an engine, by default `default_engine`.

        Raises:
            BadInput: the bundle holds none of that name.
        """
        wanted = name or self.default_engine
        for record in self.engines:
            if record.name == wanted:
                return record
        known = f"it holds: {', '.join(record.name for record in self.engines)}"
        why = next((told.why for told in self.measured.refused if told.engine == wanted), "")
        what = f"the bundle holds no engine {wanted!r}" + (f": the export refused it ({why})" if why else "")
        raise BadInput(what, hint=known)

    @property
    def map_size(self) -> tuple[int, int] | None:
        """Height, width of the engines' maps; None when no such output is stated."""
        shape = next((spec.shape for spec in self.outputs if spec.name == "anomaly_map"), ())
        return (shape[-2], shape[-1]) if len(shape) >= 2 else None

    def with_engine(self, record: EngineRecord) -> Manifest:
        """With this record in the place of the one of the same name."""
        return dataclasses.replace(self, engines=tuple(record if e.name == record.name else e for e in self.engines))

    def without_thresholds(self) -> Manifest:
        """To compare bundles by all else."""
        none = Threshold(0.0, "")
        return dataclasses.replace(
            self, engines=tuple(dataclasses.replace(record, threshold=none, history=()) for record in self.engines)
        )

    def to_json(self) -> dict[str, Any]:
        recipe = self.preprocess.to_json()
        newest = recipe.keys() & {"align", "aspect", "bits"}
        return {"schema": SCHEMA if newest else 2, **plain(self), "preprocess": recipe}

    @classmethod
    def from_json(cls, data: Any, file: str = "manifest.json") -> Manifest:
        """Read what `to_json` wrote, in this schema or an older one.

        Args:
            file: named in messages.

        Raises:
            BundleMismatch: written by a newer edgead.
            BundleError: a key is missing or of the wrong kind; the message names it, what was found and what belongs there.
        """
        schema = data.get("schema") if isinstance(data, dict) else None
        if isinstance(schema, int) and not isinstance(schema, bool) and schema > SCHEMA:
            known = " and ".join(map(str, READABLE))
            raise BundleMismatch(f"bundle schema {schema}, this edgead reads {known}", hint="install the edgead that wrote it")
        try:
            if schema not in READABLE or isinstance(schema, bool):
                raise Wrong(f"schema is {shown(schema)}, expected {' or '.join(map(str, READABLE))}")
            manifest: Manifest = read(Annotated[cls, Lenient()], data)
            _check(manifest)
        except Wrong as error:
            raise BundleError(f"{file} is not a valid manifest: {error}", hint="copy or export the bundle again") from error
        return manifest

    @classmethod
    def parse(cls, content: bytes, file: str = "manifest.json") -> Manifest:
        """Read the bytes of a manifest.json. Raises as :meth:`from_json`."""
        try:
            data = loads(content)
        except Wrong as error:
            raise BundleError(f"{file} cannot be read: {error}", hint="copy or export the bundle again") from error
        return cls.from_json(data, file)

    def to_text(self) -> str:
        """The content of manifest.json; what could not be read again is not written.

        Raises:
            BundleError: something in it is not what it must be.
        """
        text = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
        Manifest.parse(text.encode())
        return text


def _check(manifest: Manifest) -> None:
    """What no annotation says. Raises Wrong."""
    names = [record.name for record in manifest.engines]
    if twice := _first_twice(names):
        raise Wrong(f"engines: the name {twice!r} is there twice")
    if manifest.default_engine not in names:
        raise Wrong(f"default_engine is {manifest.default_engine[:60]!r}, expected one of {', '.join(names)[:200]}")
    for key in ("inputs", "outputs"):
        for spec in getattr(manifest, key):
            if not all(1 <= side <= MOST_CELLS for side in spec.shape) or _product(spec.shape) > MOST_CELLS:
                raise Wrong(f"{key}: {spec.name[:40]} has the shape {str(spec.shape)[:60]}, expected 1 to {MOST_CELLS} values")
    if manifest.preprocess.crop_from is not None and max(manifest.preprocess.crop_from) > MOST_RESIZED_PX:
        raise Wrong(f"preprocess.crop_from is {manifest.preprocess.crop_from}, expected at most {MOST_RESIZED_PX}")
    if manifest.golden_kinds and len(manifest.golden_kinds) != manifest.golden:
        raise Wrong(f"golden_kinds holds {len(manifest.golden_kinds)}, expected one for each of {manifest.golden} golden frames")
    camera = manifest.golden_camera
    if len(set(camera)) < len(camera) or not all(i < manifest.golden for i in camera):
        raise Wrong(f"golden_camera is {str(list(camera))[:60]}, expected different golden frames below {manifest.golden}")
    for name, digest in manifest.files.items():
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or len(name) > MOST_NAME:
            raise Wrong(f"it names a file outside of itself: {name[:60]!r}")
        if not _DIGEST.fullmatch(digest):
            raise Wrong(f"files: {name[:60]} has {digest[:70]!r}, expected a SHA-256")


def _first_twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _product(sides: Iterable[int]) -> int:
    total = 1
    for side in sides:
        total *= side
    return total
