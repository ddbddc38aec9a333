"""The thresholds of a bundle, chosen anew from new pictures or by hand, and taken back. Needs neither torch nor onnx."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgead.bundle import ON_THE_LINE, Bundle, EngineRecord, Threshold, rewrite_manifest
from edgead.decision import tells_no_map
from edgead.engines import open_engine
from edgead.engines.golden import Reach, reach
from edgead.errors import BadInput, BundleError, EdgeadError, StorageError
from edgead.jobs.choosing import Task, ThresholdRequest, task_for
from edgead.jobs.progress import LeftOut, Progress, Ticking, silent
from edgead.runtime.products.applied import ask
from edgead.thresholds.choose import Choice, choose, utc_now
from edgead.thresholds.conformal import Statistics
from edgead.thresholds.pictures import Asked, ask_pictures, digest_of, list_pictures
from edgead.types import Engine


@dataclass(frozen=True, slots=True)
class Named:
    """Pictures by name, each list beginning with the one that matters most: the good ones of the largest statistics, which set
    the threshold; those that are NG; and the defects that are OK."""

    setting: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, choice: Choice, good: Statistics, defects: Statistics, good_files: Sequence[Path], defect_files: Sequence[Path]
    ) -> Named:
        """By the statistics of the pictures in these files, in their order."""
        low, high = choice.band or (choice.value, choice.value)
        order = np.argsort(-good, kind="stable")
        names = [_names(files) for files in (good_files, defect_files)]
        told = [f"{names[0][i]} ({good[i]:.5g})" for i in order]
        over = int(np.count_nonzero(good >= high))
        by_good = choice.good is not None
        setting = tuple(told[over : over + (2 if over else 3)]) if by_good else ()
        missed = [f"{names[1][i]} ({defects[i]:.5g})" for i in np.argsort(defects, kind="stable") if defects[i] < low]
        return cls(setting, tuple(told[:over]), tuple(missed))


@dataclass(frozen=True, slots=True)
class Row:
    """One engine: its record before, its new threshold, how that was chosen, how many of the good pictures the old threshold
    would have rejected (None: it cannot be compared), and the pictures to look at."""

    record: EngineRecord
    threshold: Threshold
    choice: Choice
    rejected_before: int | None
    named: Named = Named()


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen.

    Attributes:
        rows: an engine each.
        good, defects: what the engines made of the pictures.
        map_shape: height, width at which areas are counted.
        left_out: engines that do not open here; their thresholds stay.
    """

    rows: tuple[Row, ...]
    good: Asked
    defects: Asked
    map_shape: tuple[int, int]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a bundle's thresholds.

    Attributes:
        bundle: with the new ones; as it was with `dry_run`.
        pairs: the engines' records before and after.
        dry_run: nothing was changed.
        unsigned: it was signed, and is not any more.
        chosen: how they were chosen; None: they were taken back.
        reach: engine -> which golden defects its new threshold catches; empty where the bundle cannot tell, and with `dry_run`.
    """

    bundle: Bundle
    pairs: tuple[tuple[EngineRecord, EngineRecord], ...]
    dry_run: bool
    unsigned: bool
    chosen: Chosen | None = None
    reach: Mapping[str, Reach] = field(default_factory=dict)

    def warnings(self) -> tuple[str, ...]:
        """Of thresholds by which every defect would be OK, or nearly."""
        refused = {name: f"{found.fault}; edgead verify and run refuse it" for name, found in self.reach.items() if found.fault}
        doubtful = {name: found.warning for name, found in self.reach.items() if found.warning and not found.fault}
        return tuple(f"{name}: {told}" for name, told in {**refused, **doubtful}.items())


def choose_thresholds(request: ThresholdRequest, progress: Progress = silent) -> Written:
    """Choose the threshold of every engine that was asked for, on its own answers, and write them into the bundle.

    Raises:
        BadInput: pictures cannot be used, nothing can be chosen from them, or the bundle holds no engine of that name.
        BundleError: no bundle, or damaged.
        MissingExtra, EngineError: no engine opens here.
        StorageError: the bundle is not writable.
    """
    bundle, records = _opened(request.bundle, request.engine, request.dry_run)
    chosen = _chosen(request, bundle, records, progress)
    pairs = tuple((row.record, row.record.changed(row.threshold)) for row in chosen.rows)
    return _written(bundle, pairs, request.dry_run, chosen)


def undo_thresholds(path: Path, engine: str | None = None, *, dry_run: bool = False) -> Written:
    """Take the last change back, of the engines that it was for. Errors as :func:`choose_thresholds`."""
    bundle, records = _opened(path, engine, dry_run)
    changes = {record.name: record.threshold.chosen.at for record in records if record.history and record.threshold.chosen}
    last = max(changes.values(), default="")
    found = [record for record in records if not last or changes.get(record.name) == last]
    now = utc_now()
    return _written(bundle, tuple((record, record.undone(now)) for record in found), dry_run)


def apply_thresholds(bundle: Bundle) -> None:
    """Ask running stations to take a bundle's thresholds as they are now.

    Raises:
        StorageError: the folder that it lies in is not writable.
    """
    ask(bundle.path, bundle.digest)


def _opened(path: Path, engine: str | None, dry_run: bool) -> tuple[Bundle, tuple[EngineRecord, ...]]:
    bundle = Bundle.open(path)
    records = bundle.manifest.engines if engine is None else (bundle.manifest.engine(engine),)
    if not dry_run and not os.access(bundle.path, os.W_OK):
        raise StorageError(f"{bundle.path} is not writable", hint="run it as the bundle's owner, or look first with --dry-run")
    return bundle, records


def _written(
    bundle: Bundle, pairs: tuple[tuple[EngineRecord, EngineRecord], ...], dry_run: bool, chosen: Chosen | None = None
) -> Written:
    if dry_run:
        return Written(bundle, pairs, dry_run, unsigned=False, chosen=chosen)
    manifest, signed = bundle.manifest, bundle.is_signed
    for _, record in pairs:
        manifest = manifest.with_engine(record)
    bundle = rewrite_manifest(bundle, manifest)
    reached: dict[str, Reach] = {}
    if bundle.manifest.golden and bundle.manifest.measured.threshold:
        golden = bundle.golden()
        reached = {record.name: reach(bundle, record, golden) for _, record in pairs}
    return Written(bundle, pairs, dry_run, signed, chosen, reached)


def _chosen(request: ThresholdRequest, bundle: Bundle, records: tuple[EngineRecord, ...], progress: Progress) -> Chosen:
    shape, grid = _map_sizes(bundle)
    tasks = {record.name: task_for(request, record, shape, grid) for record in records}
    good, defects, left_out = _ask(request, bundle, tasks, progress)
    digest = digest_of([*good.digests, *defects.digests]) if good.digests or defects.digests else ""
    rows: list[Row] = []
    none, now = np.empty(0), utc_now()
    files = tuple(good.digests.values()), tuple(defects.digests.values())
    for name, task in tasks.items():
        if (good.count or defects.count) and name not in good.statistics and name not in defects.statistics:
            continue  # it does not open here
        statistics = good.statistics.get(name, none), defects.statistics.get(name, none)
        choice = choose(*statistics, task.wish, task.above)
        facts = choice.chosen(task.wish, ON_THE_LINE, now, digest)
        found = dataclasses.replace(task.finish(choice), method=choice.method, chosen=facts)
        found.rule.check(shape)
        before = int(np.count_nonzero(statistics[0] >= task.record.threshold.rule.level)) if task.comparable(found) else None
        rows.append(Row(task.record, found, choice, before, Named.of(choice, *statistics, *files)))
    return Chosen(tuple(rows), good, defects, grid or shape, tuple(left_out))


def _map_sizes(bundle: Bundle) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Height, width of the engines' maps, and of the trained model's where these are larger (the engines tell theirs at the
    network's own resolution): areas are counted on those, else None."""
    if (size := bundle.manifest.map_size) is None:
        raise BundleError(f"{bundle.path} does not state the size of its maps", hint="export it again")
    height, width = size
    trained_height, trained_width = bundle.golden().reference.maps.shape[-2:]
    smaller = (height, width) != (trained_height, trained_width) and not tells_no_map((height, width))
    return (height, width), (trained_height, trained_width) if smaller else None


def _ask(
    request: ThresholdRequest, bundle: Bundle, tasks: Mapping[str, Task], progress: Progress
) -> tuple[Asked, Asked, list[LeftOut]]:
    """What the engines that open here make of the good pictures and of the defects; the engines that do not."""
    files = [list_pictures(folders) for folders in (request.good, request.defects)]
    if not any(files):
        return Asked({}, {}, 0), Asked({}, {}, 0), []
    with ExitStack() as stack:
        engines, left_out = _open(request, bundle, tasks, stack)
        asked = {name: (engine, tasks[name].statistic) for name, engine in engines.items()}
        tick = Ticking(progress, "asking the engines", sum(map(len, files)))
        recipe = bundle.manifest.preprocess
        good = ask_pictures(files[0], recipe, asked, tick, bundle.trained_on())
        defects = ask_pictures(files[1], recipe, asked, tick, bundle.trained_on())
    if good.known and good.count < 2:
        raise BadInput(
            f"{len(good.known)} of the {len(files[0])} good pictures are those that the model was trained on, e.g. "
            f"{good.known[0]}: it knows them by heart, so they say nothing about new parts, and guarantee nothing",
            hint="give pictures of good parts that were taken since",
        )
    if defects.known and not defects.count:
        raise BadInput(
            f"all {len(defects.known)} defects are those that the model was trained on, e.g. {defects.known[0]}: they say "
            "nothing about new ones",
            hint="give pictures of other defects",
        )
    for digest, file in defects.digests.items():
        if digest in good.digests:
            raise BadInput(
                f"{file} is also among the good pictures, as {good.digests[digest]}", hint="a picture is one or the other"
            )
    return good, defects, left_out


def _open(
    request: ThresholdRequest, bundle: Bundle, tasks: Mapping[str, Task], stack: ExitStack
) -> tuple[dict[str, Engine], list[LeftOut]]:
    """The engines that open here, and those that do not.

    Raises:
        EdgeadError: the wished engine, or none at all, opens here.
    """
    engines: dict[str, Engine] = {}
    left_out: list[LeftOut] = []
    first: EdgeadError | None = None
    for name, task in tasks.items():
        try:
            engines[name] = open_engine(bundle, name, request.threads)
            stack.callback(engines[name].close)
        except EdgeadError as error:  # not installed, not registered, or not for this device
            first = first or error
            left_out.append(LeftOut(str(bundle.path), name, task.record.backend, str(error), error.hint))
    if not engines and first is not None:
        raise first
    return engines, left_out


def _names(files: Sequence[Path]) -> list[str]:
    """Names of files, with their folders where a name is there twice."""
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]
