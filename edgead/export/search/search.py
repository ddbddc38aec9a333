"""The search: from a budget in milliseconds to the bundle of the most accurate engine that keeps it, or a plain no.

In stages, each only as long as nothing before it is within the budget and as accurate as the trained model, as far as the frames
can tell: engines without lossy rewrites; other numbers of threads; the layers that INT8 loses most in left float; lossy rewrites,
the mildest first; smaller inputs, trained again. A first look at the time, with rewrites and INT8 fitted on a few pictures only,
comes before accuracy, and what is too slow is not looked at further. Everything measured is in the journal at once
(:mod:`edgead.export.search.journal`).
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path

from edgead import machine
from edgead.bundle import Bundle, rewrite_manifest, storage_errors
from edgead.engines import open_engine
from edgead.errors import BadInput, BudgetMissed, EdgeadError, ParityFailed
from edgead.export.builds import BACKENDS
from edgead.export.kitchen import Report
from edgead.export.options import ExportOptions
from edgead.export.pipeline import export_bundle
from edgead.export.search.bench import Bench, affordable_frames, facts_of, model_digest
from edgead.export.search.journal import Journal, Record
from edgead.export.search.measuring import Measuring, OutOfTime
from edgead.export.search.options import Retrain, SearchOptions
from edgead.export.search.outcome import HINT, choice_told, figures, nothing, p50, p99, rows
from edgead.export.search.pareto import noise, ranking, within_loss
from edgead.export.search.space import (
    Axis,
    Choice,
    Levels,
    Size,
    axes_for,
    combinations,
    deeper,
    settings_at,
    smaller_sizes,
)
from edgead.measured import Search, SearchTrained
from edgead.trained import is_model

WORTH = 0.02
"""Share of the time that a rewrite's last setting must save to be tried further, and another number of threads as well."""

LAYERS_FLOAT = (1, 2, 4, 8)
BASES = 2
"""Backends and precisions that rewrites and sizes are tried with: the fastest ones."""

OFTEN = 6
"""The finished bundle is timed so many times more when the machine is busy: it is what is promised."""

FALLBACKS = 4
"""When nothing meets the budget: so many of the fastest are judged, to tell what there is."""

RESERVE, RESERVE_S = 0.25, 30.0
"""Of the time, what is kept for building and measuring the chosen bundle."""


class NothingMeets(BudgetMissed):
    """No engine keeps budget and tolerated loss; `facts` are what was measured, as in the manifest of a bundle."""

    def __init__(self, message: str, *, hint: str, facts: Search) -> None:
        super().__init__(message, hint=hint)
        self.facts = facts


class _TooSlow(Exception):
    """The built bundle does not keep the budget after all."""


def search_bundle(
    model_dir: Path,
    target: Path,
    options: ExportOptions,
    search: SearchOptions,
    report: Report = lambda stage, fraction: None,
    note: Callable[[str], None] = lambda line: None,
) -> Bundle:
    """Search, and write the bundle of the engine to take, with the search in its manifest (`measured.search`).

    Args:
        options: `backends` and `precisions` bound the space; `rewrites` are in all candidates; `limits` say what may be lost.
        report: told the stage and the share of it that is done, 0 to 1.
        note: told, line by line, what the user should know.

    Raises:
        NothingMeets: no engine keeps the budget within the tolerated loss; no bundle is left, an old one stays.
        BadInput, MissingExtra, StorageError: as :func:`edgead.export.pipeline.export_bundle`.
        KeyboardInterrupt: the journal stays; the next search goes on from there.
    """
    if target.exists() and not (target / "manifest.json").is_file():
        raise BadInput(f"{target} exists and is not a bundle", hint="choose another -o, or remove it yourself")
    folder = search.folder or target.with_name(f"{target.name}.search")
    with storage_errors(folder, hint="free space, or choose another -o or --search-dir"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    with tempfile.TemporaryDirectory(prefix="edgead-search-") as scratch, ExitStack() as stack:
        stack.callback(_drop_empty, folder)
        run = _Search(model_dir, options, search, folder, Path(scratch), report, note, stack)
        return run(target)


class _Search(Measuring):
    """One run."""

    def __init__(
        self, model_dir: Path, options: ExportOptions, search: SearchOptions, folder: Path, scratch: Path, report: Report,
        note: Callable[[str], None], stack: ExitStack,
    ) -> None:  # fmt: skip
        self.model_dir, self.options, self.asked, self.folder, self.scratch = model_dir, options, search, folder, scratch
        self.report, self.note, self.stack = report, note, stack
        self.began = time.monotonic()
        self.notes: list[str] = []
        self.total_s = 60.0 * search.minutes
        file, per_class = self._journal_file()
        self.per_class = per_class or affordable_frames(model_dir, options.frames_per_class, self.total_s)
        self.bench = Bench(model_dir, options, self._folder("trained"), search.frame, self.per_class, report)
        if self.bench.detector.exports == "openvino":
            raise BadInput("an OpenVINO IR runs as it is: there is nothing to search", hint="export it without --budget-ms")
        if self.bench.detector.two_graphs:
            raise BadInput(
                "the time of a coarse-to-fine model depends on the picture: there is no search for it",
                hint="export it without --budget-ms; the time shown is that of the slowest picture",
            )
        began = time.monotonic()
        self.bench.ask()
        self.reserve_s = min(RESERVE * self.total_s, RESERVE_S + 3 * (time.monotonic() - began))
        self.benches: dict[Size | None, Bench] = {None: self.bench}
        head = {"model": file.stem, "frames": self.bench.frames_digest(), "frames_per_class": self.per_class}
        with storage_errors(file):
            self.journal = Journal(file, head)
        real = not self.bench.frames.drawn
        self.limits = search.with_defects if real and search.with_defects is not None else options.limits
        self.plain: list[Choice] = []
        self.refused: set[str] = set()
        self.reference: Callable[[], object] | None = None

    def _folder(self, name: str) -> Path:
        folder = self.scratch / name
        folder.mkdir()
        return folder

    def _journal_file(self) -> tuple[Path, int | None]:
        """Where figures of this model on this machine are kept, and the number of frames that they were measured on."""
        facts = machine.facts()
        key = {
            "model": model_digest(self.model_dir),
            "options": facts_of(self.options, self.asked.frame),
            "frames": self.options.frames_per_class,
            "machine": {name: facts[name] for name in ("cpu", "cores", "cpu_flags", "packages", "jetson")},
        }
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        file = self.folder / f"{name}.jsonl"
        if self.asked.restart:
            file.unlink(missing_ok=True)
            for again in self.folder.glob(f"{name}-*"):
                shutil.rmtree(again)
        try:
            return file, int(json.loads(file.read_text("utf-8").partition("\n")[0])["frames_per_class"])
        except (OSError, ValueError, KeyError, TypeError):
            return file, None

    def __call__(self, target: Path) -> Bundle:
        """The bundle of the first of the ranking that keeps the budget when it is built; what does not is searched around."""
        if self.journal.found:
            self._say(f"going on with {self.journal.found} candidates already measured here ({self.journal.file})")
        self._plain()
        while True:
            self._explore()
            if not (ranked := self._ranking()):
                records = [r for r in self.journal.records if self._allowed(r.choice)]
                raise NothingMeets(nothing(records, self.asked.budget_ms, self.limits), hint=HINT, facts=self.facts(None))
            record = ranked[0]
            if record.choice.size is not None and record.choice.size not in self.benches:
                self._train(record.choice.size, self.asked.retrain or _cannot)
            try:
                return self._export(record, target)
            except _TooSlow as slow:
                self._say(str(slow))
            except ParityFailed as error:
                self._say(f"{record.choice} is out: {error}")
                self.refused.add(record.choice.key)

    # what there is

    def _explore(self) -> None:
        """All stages, as long as they are needed and there is time."""
        try:
            for stage in (self._threads, self._layers, lambda: self._rewrites(None), self._sizes):
                if self._satisfied():
                    return
                stage()
            if not self._ranking():
                self._fallback()
        except OutOfTime:
            self._say(f"the {self.asked.minutes:g} minutes are up; --search-minutes gives more, the journal is kept")

    def _plain(self) -> None:
        """Every backend and precision without lossy rewrites, always measured in full."""
        backends = self.options.backends or ()
        jobs = self.options.jobs(backends)
        for backend, _ in jobs:
            if not BACKENDS[backend].runs_here(self.options.tensorrt):
                raise BadInput(
                    f"{backend} does not run here, so it cannot be timed", hint="search on the device that will run it"
                )
        self.plain = [Choice(backend, precision, threads=self.options.threads) for backend, precision in jobs]
        engine = self.bench.open(self.plain[0])
        self.stack.callback(engine.close)
        self.reference = self.bench.verdict(engine)
        for choice in self.plain:
            self._measure(choice, "look", "judge", "time")
        failed = [record for record in map(self.journal.get, self.plain) if record is not None and record.failed]
        for record in failed:
            self._say(f"{record.choice} left out: {record.failed}")
        if len(failed) == len(self.plain):
            raise ParityFailed(f"no engine can be built: {failed[0].failed}", hint="try edgead export without --budget-ms")

    def _bases(self) -> list[Choice]:
        """The fastest plain engines that may be built upon."""
        known = [record for record in map(self.journal.get, self.plain) if record is not None and record.latency is not None]
        return [record.choice for record in sorted(known, key=p50)[:BASES]]

    def _threads(self) -> None:
        """Fewer threads than cores, where that is faster (the cores of some machines wait for each other) or late less often."""
        if self.options.threads is not None:
            return
        for choice in list(self.plain):
            default = self.journal.get(choice)
            if default is None or default.latency is None:
                continue
            others = [self._measure(replace(choice, threads=count), "look") for count in self._fewer_threads(choice)]
            fastest = min(others, key=p50, default=default)
            if p50(fastest) * (1 + WORTH) < p50(default):
                self._measure(fastest.choice, "judge", "time")
                self.plain = [fastest.choice if c == choice else c for c in self.plain]
                continue
            for other in others:
                if p50(other) <= self.asked.budget_ms < p99(default):
                    self._measure(other.choice, "judge", "time")

    def _layers(self) -> None:
        """INT8 with the layers in float that it loses most in, when INT8 loses too much."""
        for choice in [c for c in self._bases() if c.precision == "int8"]:
            record = self.journal.get(choice)
            if record is None or record.accuracy is None or within_loss(record.accuracy, self.limits):
                continue
            self._in_time()
            groups = self.bench.worst_layers(choice)
            for count in [n for n in LAYERS_FLOAT if n < len(groups)]:
                kept = tuple(name for group in groups[:count] for name in group)
                found = self._consider(replace(choice, keep_float=kept))
                if found.accuracy is not None and within_loss(found.accuracy, self.limits):
                    self.plain = [found.choice if c == choice else c for c in self.plain]
                    break

    def _rewrites(self, size: Size | None) -> None:
        """Rewrites at one input size: first all at their last settings, the floor of what can be reached; then how much each can
        save at most; then combinations, the mildest first."""
        bases = [replace(base, size=size) for base in self._bases()]
        family, config = self.bench.detector.family, self.benches[size].detector.config
        axes = axes_for(family, config, (*self.options.rewrites, *self.options.left_out))
        if not axes:
            return
        floors = {base: self._consider(base.rewritten(settings_at(axes, _deepest(axes)))) for base in bases}
        bases = [base for base in bases if floors[base].failed or p50(floors[base]) <= self.asked.budget_ms]
        if not bases:
            return
        shares = self._worth(axes, bases[0])
        axes = tuple(shares)
        jobs = [(levels, base) for levels in combinations(axes) for base in bases]
        # Those that may be in time come first.
        jobs.sort(key=lambda job: self._guess_ms(job[0], job[1], shares) > self.asked.budget_ms)
        seen: dict[Choice, list[tuple[Levels, Record]]] = {base: [] for base in bases}
        for levels, base in jobs:
            if self._satisfied():
                return
            if not self._hopeless(levels, seen[base]):
                seen[base].append((levels, self._consider(base.rewritten(settings_at(axes, levels)))))

    def _worth(self, axes: Sequence[Axis], base: Choice) -> dict[Axis, float]:
        """Those axes whose last setting saves time, and the share of the time that is left with it."""
        plain = self._measure(base, "look")
        shares = {}
        for axis in axes:
            last = self._consider(base.rewritten({axis.name: axis.settings[-1]}))
            if plain.latency and last.latency and p50(last) < (1 - WORTH) * p50(plain):
                shares[axis] = p50(last) / p50(plain)
        return shares

    def _guess_ms(self, levels: Levels, base: Choice, shares: Mapping[Axis, float]) -> float:
        """What a combination may take, as if each axis saved its share whatever the others do: only the order depends on it."""
        saved = [share ** (level / len(axis.settings)) for (axis, share), level in zip(shares.items(), levels, strict=True)]
        return math.prod([p50(self._measure(base, "look")), *saved])

    def _hopeless(self, levels: Levels, seen: Sequence[tuple[Levels, Record]]) -> bool:
        """A deeper one is too slow already, or a milder one has lost too much by more than noise."""
        for other, record in seen:
            if deeper(other, levels) and record.latency is not None and p50(record) > self.asked.budget_ms:
                return True
            found = record.accuracy
            if found is None or not deeper(levels, other) or within_loss(found, self.limits):
                continue
            if -found.auroc_change > self.limits.max_auroc_drop + 2 * noise(found, self.bench.trained):
                return True
        return False

    def _sizes(self) -> None:
        """Smaller inputs: the model trained again with the same pictures and arguments. First each size without lossy rewrites,
        which tends to lose less than a larger one with many of them."""
        if self.asked.retrain is None:
            self._say(f"input sizes left out: {self.asked.why_not or 'the model cannot be trained again'}")
            return
        made = []
        for size in smaller_sizes((self.bench.recipe.width, self.bench.recipe.height)):
            if self._satisfied():
                return
            self._in_time()
            try:
                self._train(size, self.asked.retrain)
            except EdgeadError as error:
                self._say(f"input sizes left out: {error}")
                break
            made.append(size)
            for base in self._bases():
                self._consider(replace(base, size=size))
        for size in made:
            if not self._satisfied():
                self._rewrites(size)

    def _train(self, size: Size, retrain: Retrain) -> None:
        model_dir = self.folder / f"{self.journal.file.stem}-{size[0]}x{size[1]}"
        if not is_model(model_dir):
            self.report(f"training at {size[0]} x {size[1]} px", 0.0)
            retrain(size, model_dir, lambda: self._left_s() < 0)
        name = f"{size[0]}x{size[1]}"
        self.benches[size] = bench = Bench(
            model_dir, self.options, self._folder(name), self.asked.frame, self.per_class, self.report
        )
        bench.ask()

    def _fallback(self) -> None:
        """Nothing keeps both: judge the fastest, so that the message can tell what there is."""
        unjudged = [r for r in self.journal.records if r.latency is not None and r.accuracy is None and self._runs(r.choice)]
        for record in sorted(unjudged, key=p50)[:FALLBACKS]:
            found = self._measure(record.choice, "judge")
            if found.accuracy is not None and within_loss(found.accuracy, self.limits):
                break

    def _ranking(self) -> list[Record]:
        usable = [r for r in self.journal.records if not r.failed and self._allowed(r.choice)]
        return ranking(usable, self.asked.budget_ms, self.limits)

    def _allowed(self, choice: Choice) -> bool:
        """Whether this run may choose it: the journal may hold what earlier runs with other --backend or --precision measured."""
        if choice.key in self.refused or (self.options.threads is not None and choice.threads != self.options.threads):
            return False
        return choice.job in self.options.jobs(self.options.backends or ())

    def _satisfied(self) -> bool:
        """Something keeps the budget and is as accurate as the trained model as far as the frames can tell."""
        return any(
            r.accuracy is not None and -r.accuracy.auroc_change <= noise(r.accuracy, self.bench.trained) for r in self._ranking()
        )

    # the end

    def _export(self, record: Record, target: Path) -> Bundle:
        choice, bench = record.choice, self.benches[record.choice.size]
        options = replace(
            self.options,
            backends=(choice.backend,),
            precisions=(choice.precision,),
            rewrites={**self.options.rewrites, **choice.settings},
            keep_float=choice.keep_float,
            threads=choice.threads,
            frames_per_class=self.per_class,
            limits=self.limits,
            search=self.facts(record),
        )
        return export_bundle(bench.model_dir, target, options, self.report, lambda work: self._check(work, record, bench))

    def _check(self, work: Path, record: Record, bench: Bench) -> None:
        """Time the finished bundle, and note it there. Raises _TooSlow."""
        assert self.reference is not None
        self.report(f"{record.choice}: time of the bundle", 0.0)
        bundle = Bundle.open(work)
        with closing(open_engine(bundle, threads=record.choice.threads, keep=False)) as engine:
            latency = bench.latency(engine, self.reference, full=True, again=OFTEN)
        budget = self.asked.budget_ms
        if latency.p99_ms > budget and latency.disturbed:
            self._say(
                f"the bundle's p99 is {latency.p99_ms:.1f} ms while the machine is busy with something else (the reference "
                f"engine takes {latency.reference_ms:.1f} ms); what was measured of {record.choice} before stands"
            )
        elif latency.p99_ms > budget:
            self._note_down(replace(record, latency=latency))
            raise _TooSlow(f"{record.choice}: p99 {record.latency and record.latency.p99_ms:.1f} ms in the search, but "
                           f"{latency.p99_ms:.1f} ms as a bundle, so it is out")  # fmt: skip
        measured = bundle.manifest.measured
        rest = {**measured.search.rest, "seconds": round(time.monotonic() - self.began, 1)}
        search = replace(measured.search, built=figures(latency), rest=rest)
        rewrite_manifest(bundle, replace(bundle.manifest, measured=replace(measured, search=search)))

    def facts(self, chosen: Record | None) -> Search:
        """The whole search, for the manifest and for showing."""
        records = [r for r in self.journal.records if self._allowed(r.choice)]
        trained, options = self.bench.trained, self.options
        return Search(
            budget_ms=self.asked.budget_ms,
            limits=asdict(self.limits),
            frame=self.asked.frame,
            chosen=None if chosen is None else choice_told(chosen.choice),
            trained=SearchTrained(trained.auroc, bool(self.bench.frames.drawn), {"frames": trained.frames}),
            frames_per_class=self.per_class,
            calibration=None if options.calibration is None else str(options.calibration.absolute()),
            labelled=None if options.labelled is None else str(options.labelled.absolute()),
            calibration_count=options.calibration_count,
            notes=tuple(self.notes),
            candidates=rows(records, chosen, trained, self.asked.budget_ms, self.limits),
            rest={
                "frames_digest": self.bench.frames_digest(),
                "seed": 0,
                "left_out": list(options.left_out),
                "minutes": self.asked.minutes,
                "seconds": round(time.monotonic() - self.began, 1),
                "resumed": self.journal.found,
            },
        )


def _cannot(size: Size, folder: Path, stop: Callable[[], bool]) -> None:
    raise BadInput(f"the model cannot be trained again at {size[0]} x {size[1]} px", hint="begin anew with --restart-search")


def _deepest(axes: Sequence[Axis]) -> Levels:
    return tuple(len(axis.settings) for axis in axes)


def _drop_empty(folder: Path) -> None:
    """Nothing was measured: leave nothing."""
    if not any(folder.iterdir()):
        folder.rmdir()
