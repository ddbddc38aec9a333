"""The artefact that goes to the line: a folder ``name.edgead`` with manifest, models, built engines and golden frames.

    manifest.json        what it is, how it was made, what was measured, and the SHA-256 of every file
    model.onnx           float reference graph
    model.int8.onnx      explicit Q/DQ graph
    openvino/...         built engines
    golden/NNN.png       real frames at model size, BGR
    golden/reference.npz the trained model's answers on them: scores (N), maps (N x h x w)
    trained-on.txt       digests of the pictures that the model was trained on

There is no pickle in it. It is written beside its place, flushed to the disk and exchanged with the old one in one step (Linux;
elsewhere in two, and the next opening mends what a crash left between them), so a crash or a full disk leaves the old one or the
new one, whole. The manifest alone is rewritten in the same way when the line's thresholds change.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import cv2
import numpy as np

from edgead import disk, versions
from edgead.decision import PixelRule, Rule
from edgead.errors import BadInput, BundleError, BundleMismatch, StorageError
from edgead.parity import Answers, ParityReport
from edgead.preprocess import PreprocessRecipe, read_image
from edgead.types import Image, TensorSpec

_log = logging.getLogger(__name__)

SCHEMA = 2
READABLE = (1, 2)
"""Schema 1 knows neither pixel rules nor how and when a threshold was chosen."""
SUFFIX = ".edgead"
TRAINED_ON = "trained-on.txt"
"""One line for each picture that the model was trained on: its :func:`edgead.preprocess.frame_digest`. Absent when not known."""

ON_THE_LINE = "edgead threshold"
"""The tool that changes thresholds after the export."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Where a threshold came from, and what was promised of it.

    Attributes:
        tool: ``"edgead export"``, ``"edgead train"``, ``"edgead threshold"``, ...
        at: ISO 8601, UTC.
        good, defects: pictures that it was chosen from.
        max_false_reject, max_miss, cost_ratio: what was asked for, shares from 0 to 1; None: not asked.
        guaranteed: whether the asked rates are guaranteed on average (see :mod:`edgead.calibration.conformal`).
        false_reject_rate, miss_rate: the rates that are guaranteed on average; None: none is.
        false_reject_bound, miss_bound: with `confidence`, the rates of this very threshold are at most these.
        confidence: of the bounds.
        band: the UNKNOWN band as it was asked for, e.g. ``"5 %"``; "" for none.
        digest: SHA-256 over the pictures' own digests, sorted.
    """

    tool: str
    at: str
    good: int = 0
    defects: int = 0
    max_false_reject: float | None = None
    max_miss: float | None = None
    cost_ratio: float | None = None
    guaranteed: bool = False
    false_reject_rate: float | None = None
    false_reject_bound: float | None = None
    miss_rate: float | None = None
    miss_bound: float | None = None
    confidence: float = 0.95
    band: str = ""
    digest: str = ""


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

    value: float
    method: str
    unknown_band: tuple[float, float] | None = None
    pixel: PixelRule | None = None
    by: str = "score"
    chosen: Chosen | None = None
    undone_at: str = ""

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
    auroc: float | None = None
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
        measured: accuracy and other figures measured at export.
        tools: package versions.
        machine: facts of the machine that made it.
        created_at: ISO 8601, UTC.
        files: relative path -> SHA-256; filled when the bundle is written.
    """

    name: str
    family: str
    model: dict[str, Any]
    origin: dict[str, Any]
    preprocess: PreprocessRecipe
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    engines: tuple[EngineRecord, ...]
    default_engine: str
    calibration: dict[str, Any] | None
    golden: int
    measured: dict[str, Any]
    tools: dict[str, str]
    machine: dict[str, Any]
    created_at: str
    files: dict[str, str] = field(default_factory=dict)

    def engine(self, name: str | None = None) -> EngineRecord:
        """The record of an engine, by default `default_engine`.

        Raises:
            BadInput: the bundle holds none of that name.
        """
        wanted = name or self.default_engine
        for record in self.engines:
            if record.name == wanted:
                return record
        known = ", ".join(record.name for record in self.engines)
        raise BadInput(f"the bundle holds no engine {wanted!r}", hint=f"it holds: {known}")

    def with_engine(self, record: EngineRecord) -> Manifest:
        """With this record in the place of the one of the same name."""
        return dataclasses.replace(self, engines=tuple(record if e.name == record.name else e for e in self.engines))

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Manifest:
        """Read what `to_json` wrote, in this schema or an older one.

        Raises:
            BundleMismatch: written by a newer edgead.
            BundleError: a key is missing or of the wrong kind.
        """
        schema = data.get("schema")
        if schema not in READABLE:
            known = " and ".join(map(str, READABLE))
            raise BundleMismatch(f"bundle schema {schema!r}, this edgead reads {known}", hint="install the edgead that wrote it")
        try:
            values = {f.name: data[f.name] for f in dataclasses.fields(cls)}
            values["preprocess"] = PreprocessRecipe.from_json(data["preprocess"])
            for key in ("inputs", "outputs"):
                values[key] = tuple(TensorSpec(t["name"], tuple(t["shape"]), t["dtype"]) for t in data[key])
            values["engines"] = tuple(_engine_record(e) for e in data["engines"])
            manifest = _checked(cls(**values))
            manifest.engine()
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, BadInput) as error:
            raise BundleError(f"manifest.json is not a valid manifest ({error!r})", hint="export the bundle again") from error
        return manifest


def _engine_record(data: dict[str, Any]) -> EngineRecord:
    parts = {
        "threshold": _threshold(data["threshold"]),
        "parity": None if data["parity"] is None else _checked(ParityReport(**data["parity"])),
        "history": tuple(_threshold(earlier) for earlier in data.get("history", ())),
    }
    return _checked(EngineRecord(**{**data, **parts}))


def _threshold(data: dict[str, Any]) -> Threshold:
    band, pixel, chosen = (data.get(key) for key in ("unknown_band", "pixel", "chosen"))
    parts = {
        "unknown_band": None if band is None else (float(band[0]), float(band[1])),
        "pixel": None if pixel is None else PixelRule.from_json(pixel),
        "chosen": None if chosen is None else _checked(Chosen(**chosen)),
    }
    threshold = _checked(Threshold(**{**data, **parts}))
    _ = threshold.rule  # refuses what decides nothing
    return threshold


_Value = TypeVar("_Value", Chosen, Threshold, ParityReport, EngineRecord, Manifest)


def _checked(value: _Value) -> _Value:
    """The value, if its plain fields hold what their annotations say; numbers must be finite (a threshold of NaN passes all)."""
    kinds: dict[str, tuple[type, ...]] = {
        "str": (str,), "int": (int,), "float": (int, float), "dict": (dict,), "bool": (bool,)
    }  # fmt: skip
    for f in dataclasses.fields(value):
        kind, _, rest = str(f.type).partition(" | ")
        kind, _, inner = kind.partition("[")
        found: Any = getattr(value, f.name)
        if kind not in kinds or (rest == "None" and found is None):
            continue
        if isinstance(found, bool) != (kind == "bool") or not isinstance(found, kinds[kind]):
            raise TypeError(f"{f.name} is not of type {kind}")
        if isinstance(found, float | int) and not math.isfinite(found):
            raise ValueError(f"{f.name} is not finite")
        if isinstance(found, dict) and inner == "str, str]" and not all(isinstance(v, str) for v in found.values()):
            raise TypeError(f"{f.name} does not hold text only")
    return value


@dataclass(frozen=True, slots=True)
class Golden:
    """Real frames at model size and the trained model's answers on them."""

    images: tuple[Image, ...]
    reference: Answers


class Bundle:
    """An opened bundle: `path` (the folder) and `manifest`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Open a bundle and check the digest of every file.

        Raises:
            BundleError: no bundle, damaged, incomplete; the message names the file.
            BundleMismatch: written by another schema.
        """
        disk.mend(path)
        manifest_file = path / "manifest.json"
        if not manifest_file.is_file():
            found = "it does not exist" if not path.exists() else "it has no manifest.json"
            raise BundleError(f"{path} is not a bundle: {found}", hint="make one with: edgead export MODEL_DIR")
        bundle = cls(path, _read_manifest(manifest_file))
        bundle._check_files()
        return bundle

    def golden(self) -> Golden:
        """The golden frames with the reference answers.

        Raises:
            BundleError: they cannot be read.
        """
        try:
            images = tuple(read_image(self.path / _golden_name(i)) for i in range(self.manifest.golden))
            with np.load(self.path / "golden/reference.npz", allow_pickle=False) as stored:
                reference = Answers(stored["scores"], stored["maps"])
        except (OSError, KeyError, ValueError, BadInput) as error:
            raise BundleError(f"the golden frames of {self.path} cannot be read: {error}", hint="export it again") from error
        return Golden(images, reference)

    def trained_on(self) -> frozenset[str]:
        """Digests of the pictures that the model was trained on; empty when they are not known."""
        if TRAINED_ON not in self.manifest.files:
            return frozenset()
        return frozenset((self.path / TRAINED_ON).read_text("utf-8").split())

    def _check_files(self) -> None:
        for name, wanted in self.manifest.files.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise BundleError(f"{self.path} names a file outside of itself: {name}", hint="do not trust this bundle")
            file = self.path / name
            try:
                found = file_digest(file)
            except (OSError, ValueError) as error:
                reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
                raise BundleError(f"{self.path} is incomplete: {name} {reason}", hint="copy or export it again") from error
            if found != wanted:
                raise BundleError(f"{self.path} is damaged: {name} has changed", hint="copy or export it again")
        for record in self.manifest.engines:
            if record.file not in self.manifest.files:
                raise BundleError(f"{self.path}: engine {record.name} has no file {record.file}", hint="export it again")


def _read_manifest(file: Path) -> Manifest:
    try:
        data = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read: {error}", hint="export the bundle again") from error
    if not isinstance(data, dict):
        raise BundleError(f"{file} is not a manifest", hint="export the bundle again")
    return Manifest.from_json(data)


@contextmanager
def new_bundle(target: Path, marker: str = "manifest.json", kind: str = "a bundle") -> Iterator[Path]:
    """A folder to fill with files and :func:`write_manifest`; on success it takes the place of `target`, else it vanishes.

    What `target` held is kept (:mod:`edgead.versions`). Trained models are written in the same way, with `marker`
    ``"model.json"``.

    Raises:
        BadInput: `target` exists and is not one of its `kind`: it lacks the file `marker`.
        StorageError: the disk is full or not writable.
    """
    disk.mend(target)
    if target.exists() and not (target / marker).is_file():
        raise BadInput(f"{target} exists and is not {kind}", hint="choose another -o, or remove it yourself")
    with storage_errors(target), disk.work_folder(target) as work:
        yield work
        work.chmod(0o755)
        disk.exchange_folders(work, target, versions.place_for(target) if target.exists() else None)
        for gone in versions.trim(target):
            _log.warning("removed %s: the newest %d former versions are kept", gone, versions.KEPT)


def write_golden(folder: Path, images: Sequence[Image], reference: Answers) -> None:
    """Store golden frames (model size, BGR) and the trained model's answers on them."""
    (folder / "golden").mkdir()
    for i, image in enumerate(images):
        data = cv2.imencode(".png", image)[1]
        (folder / _golden_name(i)).write_bytes(data.tobytes())
    with (folder / "golden/reference.npz").open("wb") as file:
        np.savez_compressed(file, scores=reference.scores, maps=reference.maps)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Digest every file in `folder` and write manifest.json last."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / "manifest.json")
    complete = dataclasses.replace(manifest, files={p.relative_to(folder).as_posix(): file_digest(p) for p in files})
    (folder / "manifest.json").write_text(_manifest_text(complete), "utf-8")
    return complete


def rewrite_manifest(bundle: Bundle, manifest: Manifest) -> Bundle:
    """Replace the manifest of a bundle on disk, and nothing else, in one step: a crash leaves the old one or the new one.

    Raises:
        BundleError: somebody else has changed it since `bundle` was opened.
        StorageError: the disk is full or not writable; the old manifest stays.
    """
    file = bundle.path / "manifest.json"
    if _read_manifest(file) != bundle.manifest:
        raise BundleError(f"{file} has changed in the meantime", hint="do it again")
    with storage_errors(file, hint="free space, or make the bundle's folder writable"):
        disk.replace_file(file, _manifest_text(manifest))
    return Bundle(bundle.path, manifest)


def _manifest_text(manifest: Manifest) -> str:
    return json.dumps(manifest.to_json(), indent=2, allow_nan=False) + "\n"


@contextmanager
def storage_errors(target: Path, hint: str = "free space or choose another -o") -> Iterator[None]:
    """Turn what the file system says into one clear line."""
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(_existing(target)).free // 2**20
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
        raise StorageError(f"cannot write {target}: {reason} ({free} MiB free)", hint=hint) from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _golden_name(index: int) -> str:
    return f"golden/{index:03d}.png"


def _existing(path: Path) -> Path:
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)
