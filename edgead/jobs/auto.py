"""Which method suits these pictures: plausible ones are trained, judged on the same unseen pictures, and the best one stays."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead import versions
from edgead.bundle import check_target
from edgead.calibration.judging.rivals import FEWEST, Judged, Said, judge_all, real_decide
from edgead.errors import BadInput, BudgetMissed, EdgeadError, EngineError, MissingExtra, ParityFailed
from edgead.families import method, plausible
from edgead.families.contract import LITE, Stopped
from edgead.jobs.export import ExportRequest, ExportResult, export, need_packages
from edgead.jobs.progress import Progress, silent
from edgead.jobs.search import search_options
from edgead.jobs.train import Looked, Trained, check_folders, train, train_request
from edgead.layout import find_good, good_pictures, labelled
from edgead.machine import usable_cores
from edgead.trained import new_model

if TYPE_CHECKING:
    from edgead.export import ExportOptions
    from edgead.training.fit import TrainRequest
    from edgead.training.trial import Asked

MINUTES = 10.0
SEARCH_MINUTES = 5.0
"""Bound on the search for an engine of one model."""

HELD_OUT = 0.3
"""Share of the good pictures that the models are judged on; the one that stays is trained with `AutoRequest.heldout` of them."""

USUAL_PICTURES = 80
"""So many pictures :attr:`edgead.families.contract.Preset.auto_s` is told for."""

HOPELESS = 0.15
"""No engine takes a smaller share of PyTorch's time on one thread than this, divided by the cores: of a model that could not keep
the budget even so, none is searched."""

OVER = (BudgetMissed, ParityFailed, EngineError)
"""What says that there is no engine of a model."""


@dataclass(frozen=True, slots=True)
class AutoRequest:
    """What to choose for, and by what.

    Attributes:
        good_dir: folder of good pictures, or a folder in MVTec layout; its labelled pictures choose nothing.
        out: folder of the chosen model.
        looked: how models look at pictures; a size that is given is that of all.
        name, heldout, seed, all_good, left_out, device: as in :func:`edgead.jobs.train.train_request`.
        budget_ms: camera picture to verdict at p99 on this machine; an engine that keeps it is searched and exported beside the
            model, as ``OUT.edgead``. None: the most accurate model, however long it takes.
        frame: width, height of the camera's pictures, for the budget; None: as :func:`edgead.jobs.search.search_options`.
        labelled: folder with real defects (test/good, test/DEFECT...) that models are judged on; None: on drawn ones alone.
        minutes: no training is begun that would end after so many, but for the first.
        methods: those that are tried; None: the plausible ones.
        options: bound what the search for an engine may take; None: all that is installed.
    """

    good_dir: Path
    out: Path
    looked: Looked = field(default_factory=Looked)
    name: str = ""
    heldout: float = 0.15
    seed: int = 0
    all_good: bool = True
    left_out: tuple[str, ...] = ()
    device: str = "cpu"
    budget_ms: float | None = None
    frame: tuple[int, int] | None = None
    labelled: Path | None = None
    minutes: float = MINUTES
    methods: tuple[str, ...] | None = None
    options: ExportOptions | None = None

    @property
    def bundle(self) -> Path:
        """Where the bundle of a budget is written."""
        return self.out.with_name(f"{self.out.name}.edgead")

    def __post_init__(self) -> None:
        if not 0.0 < self.minutes < float("inf"):
            raise BadInput(f"{self.minutes:g} minutes are not usable", hint="give a number above 0, such as 10")
        if self.looked.tiles is not None:
            raise BadInput("methods are compared on whole pictures, not on tiles", hint="leave --tiles out, or name a method")
        if self.budget_ms is not None and not 0.0 < self.budget_ms < float("inf"):
            raise BadInput(f"a budget of {self.budget_ms:g} ms is not usable", hint="give milliseconds above 0, such as 30")


@dataclass(frozen=True, slots=True)
class Tried:
    """A method that was tried, or left out.

    Attributes:
        method: its name.
        width, height: of its input in pixels; 0: it was not trained.
        train_s: seconds that its training took.
        judged: what it is worth; None: it was not trained.
        p99_ms: of its engine that keeps the budget; None: none was searched, or none does.
        why: why it was left out, or is out; "": it is neither.
        chosen: it is the one that stays.
    """

    method: str
    width: int = 0
    height: int = 0
    train_s: float = 0.0
    judged: Judged | None = None
    p99_ms: float | None = None
    why: str = ""
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Auto:
    """What was chosen.

    Attributes:
        request: as it was asked for.
        made: the model that stays.
        tried: the methods, the best one first, those left out last.
        real: real defects decided, not drawn ones.
        good, defects: pictures that decided.
        exported: the bundle that keeps the budget; None: there was no budget.
    """

    request: AutoRequest
    made: Trained
    tried: tuple[Tried, ...]
    real: bool
    good: int
    defects: int
    exported: ExportResult | None

    @property
    def chosen(self) -> Tried:
        """Of `tried`."""
        return next(one for one in self.tried if one.chosen)


def auto(request: AutoRequest, progress: Progress = silent, say: Callable[[str], None] = lambda line: None) -> Auto:
    """Try, judge, and write the folder of the best model; with a budget its bundle, too.

    Args:
        say: told, line by line, what comes out on the way.

    Raises:
        BadInput: unusable pictures, options or targets.
        BudgetMissed: no method keeps the budget; nothing is written.
        MissingExtra: a package that is needed is not installed.
        StorageError: a folder cannot be written.
    """
    check_folders(request.good_dir, request.out, request.left_out)
    if request.budget_ms is not None:
        need_packages()
        check_target(request.bundle)
    with tempfile.TemporaryDirectory(prefix="edgead-auto-") as scratch:
        return _Auto(request, Path(scratch), progress, say)()


class _Auto:
    """One run."""

    def __init__(self, asked: AutoRequest, scratch: Path, progress: Progress, say: Callable[[str], None]) -> None:
        self.asked, self.scratch, self.progress, self.say = asked, scratch, progress, say
        self.began = time.monotonic()
        self.told: dict[str, Said] = {}
        self.tried: dict[str, Tried] = {}
        self.chosen_by_size: dict[str, Mapping[str, Any]] = {}
        self.floor_ms: dict[str, float] = {}
        self.pictures: Asked | None = None
        self.real = labelled(asked.labelled).files if asked.labelled is not None else []

    def __call__(self) -> Auto:
        self._try_all()
        judged = judge_all(self.told, self.asked.seed)
        self.tried = {name: dataclasses.replace(self.tried[name], judged=one) for name, one in judged.items()} | {
            name: one for name, one in self.tried.items() if name not in judged
        }
        real = real_decide(self.told)
        good, defects = next(iter(self.told.values())).sides(real)
        name, made, exported = self._stays(list(judged))
        self._mark(name, chosen=True)
        return Auto(self.asked, made, tuple(self.tried.values()), real, len(good), len(defects), exported)

    # trying

    def _try_all(self) -> None:
        """Train and ask every method for which there is time. Raises what the first one did, when none can be trained."""
        count = len(good_pictures(find_good(self.asked.good_dir)[0]).files)
        failed: EdgeadError | None = None
        expected = taken = 0.0
        for name in plausible() if self.asked.methods is None else self.asked.methods:
            usual = max(method(name)[1].auto_s, 1) * max(count, 10) / USUAL_PICTURES
            if why := self._no_use(name, usual * (taken / expected if expected else 1.0)):
                self.tried[name] = Tried(name, why=why)
                continue
            began = time.monotonic()
            try:
                self._try(name)
            except (BadInput, MissingExtra, EngineError) as error:
                failed = failed or error
                self.tried[name] = Tried(name, train_s=round(time.monotonic() - began, 1), why=str(error))
                self.say(f"{name}: left out: {error}")
            else:
                taken, expected = taken + time.monotonic() - began, expected + usual
        if not self.told:
            raise failed or BadInput("there is no method to try", hint="name one: edgead train patchcore")

    def _no_use(self, name: str, guess_s: float) -> str:
        """Why a method is not trained at all; "" when it is."""
        if method(name)[1].made_up and sum(kind != "good" for _, kind, _ in self.real) < FEWEST:
            return f"it learns from drawn defects, so that only real ones can judge it: --labelled DIR, {FEWEST} or more"
        left_s = 60.0 * self.asked.minutes - (time.monotonic() - self.began)
        if self.told and guess_s > left_s:
            return f"about {guess_s:.0f} s of training, and {max(left_s, 0.0):.0f} s are left of {self.asked.minutes:g} minutes"
        return ""

    def _try(self, name: str) -> None:
        """Train a method, and ask it about the pictures that it has not seen."""
        from edgead.training.sizing import cpu_ms
        from edgead.training.trial import Asked, ask

        began = time.monotonic()
        request = self._request(name, self.scratch / name, self._looked(name), HELD_OUT, False)
        with self._in_time(name) as progress:
            result = train(request, progress).result
        train_s = time.monotonic() - began
        recipe, detector = result.images.recipe, result.detector
        if self.pictures is None:
            self.pictures = Asked.of(result.images.heldout_files, self.real, self.asked.seed)
        if seen := set(self.pictures.good) & set(
            result.images.train_files
        ):  # copies at its size, and others at that of the first
            raise BadInput(f"it was trained on {len(seen)} of the pictures that methods are judged on", hint="give --size")
        self.told[name] = ask(detector, recipe, self.pictures, self._named(name))
        self.tried[name] = Tried(name, recipe.width, recipe.height, round(train_s, 1))
        if result.size is not None:
            rule, chosen = method(name)[0].size_rule(request.options), result.size.chosen
            self.chosen_by_size[name] = rule.chosen(chosen.rows, chosen.area)
        if self.asked.budget_ms is not None:
            import torch

            picture = torch.from_numpy(result.images.heldout[0])[None]
            with torch.no_grad():
                self.floor_ms[name] = cpu_ms(lambda: detector(picture)) * HOPELESS / usable_cores()
        value = self.told[name]
        self.say(f"{name}: trained in {train_s:.0f} s, {_quick(value)}")

    def _looked(self, name: str) -> Looked:
        """How a method looks at pictures: the budget chooses the size where its family has a rule for that."""
        looked = self.asked.looked
        budget = self.asked.budget_ms if looked.chooses and method(name)[0].sizes else None
        return dataclasses.replace(looked, budget_ms=budget)

    def _request(
        self, name: str, out: Path, looked: Looked, heldout: float, all_good: bool, options: Mapping[str, Any] | None = None
    ) -> TrainRequest:
        asked = self.asked
        return train_request(
            name, asked.good_dir, out, looked, options, name=asked.name, heldout=heldout, seed=asked.seed, all_good=all_good,
            left_out=asked.left_out, preset=LITE, device=asked.device,
        )  # fmt: skip

    @contextmanager
    def _in_time(self, name: str) -> Iterator[Progress]:
        """Progress of a training that ends it when the time is up, but for the first."""
        first, told = not self.told, self._named(name)

        def progress(stage: str, done: float) -> None:
            if not first and time.monotonic() - self.began > 60.0 * self.asked.minutes:
                raise Stopped(f"the {self.asked.minutes:g} minutes were up ({stage}, {done:.0%})", hint="give more --minutes")
            told(stage, done)

        yield progress

    def _named(self, name: str) -> Progress:
        return lambda stage, done: self.progress(f"{name}: {stage}", done)

    def _mark(self, name: str, **changes: Any) -> None:
        self.tried[name] = dataclasses.replace(self.tried[name], **changes)

    # staying

    def _stays(self, ranked: Sequence[str]) -> tuple[str, Trained, ExportResult | None]:
        """The best model, trained on all it may be trained on; with a budget the best one of which an engine keeps it."""
        if self.asked.budget_ms is None:
            return ranked[0], train(self._last(ranked[0], self.asked.out), self._named(ranked[0])), None
        for name in ranked:
            if self.floor_ms[name] > self.asked.budget_ms:
                self._out(name, f"its engine would take {self.floor_ms[name]:.0f} ms or more")
                continue
            made = train(self._last(name, self.scratch / "last" / name), self._named(name))
            try:
                exported = self._export(made.request.out, name)
            except OVER as error:
                self._out(name, str(error))
                continue
            built = exported.bundle.manifest.measured.search.built
            self._mark(name, p99_ms=None if built is None else built.p99_ms)
            return name, self._moved(made), exported
        told = "; ".join(f"{name}: {self.tried[name].why}" for name in ranked)
        raise BudgetMissed(
            f"none of the methods keeps {self.asked.budget_ms:g} ms here: {told}"[:900],
            hint="allow more milliseconds, or a smaller --size",
        )

    def _out(self, name: str, why: str) -> None:
        self._mark(name, why=why)
        self.say(f"{name} is out: {why}")

    def _last(self, name: str, out: Path) -> TrainRequest:
        """The training of the model that stays: at the size at which it was judged."""
        one, looked = self.tried[name], dataclasses.replace(self.asked.looked, budget_ms=None)
        if looked.size is None:
            looked = dataclasses.replace(looked, size=(one.width, one.height))
        return self._request(name, out, looked, self.asked.heldout, self.asked.all_good, self.chosen_by_size.get(name))

    def _export(self, model: Path, name: str) -> ExportResult:
        from edgead.export import ExportOptions

        assert self.asked.budget_ms is not None
        search = search_options(model, self.asked.budget_ms, frame=self.asked.frame, minutes=SEARCH_MINUTES)
        options = dataclasses.replace(self.asked.options or ExportOptions(), labelled=self.asked.labelled)
        return export(ExportRequest(model, options, self.asked.bundle, search=search), self._named(name), self.say)

    def _moved(self, made: Trained) -> Trained:
        """The model in the place that was asked for."""
        former = {version.path for version in versions.former(self.asked.out)}
        with new_model(self.asked.out) as work:
            shutil.copytree(made.request.out, work, dirs_exist_ok=True)
        kept = [version.path for version in versions.former(self.asked.out) if version.path not in former]
        return Trained(dataclasses.replace(made.request, out=self.asked.out), made.result, kept[-1] if kept else None)


def _quick(told: Said) -> str:
    """A line on what a model is worth."""
    one = judge_all({"": told})[""]
    found = f"AUROC {one.auroc:.3f} on {len(told.drawn)} drawn defects"
    return found if one.real_auroc is None else f"{found}, {one.real_auroc:.3f} on {len(told.real)} real ones"
