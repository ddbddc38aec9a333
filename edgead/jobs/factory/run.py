"""A manifest of products -> a model and a bundle of each, in one run that goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgead import machine
from edgead.bundle import Bundle
from edgead.disk import hold, write_file
from edgead.errors import BadInput, EdgeadError, EngineError, StorageError
from edgead.jobs.export import need_packages
from edgead.jobs.factory.made import Made
from edgead.jobs.factory.manifest import Product, read_manifest
from edgead.jobs.factory.noted import Notes
from edgead.jobs.factory.page import write_page
from edgead.jobs.factory.step import EXPORT, TRAIN, Step, digest, run_step
from edgead.jobs.progress import Progress, Ticking, silent
from edgead.trained import read_card
from edgead.words import one_line

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FactoryRequest:
    """What to make, and where.

    Attributes:
        manifest: the file.
        out: a folder for each product is made in this one, and index.html.
        workers: products worked on at once; None: one for two cores.
        cluster: ``"ray"`` or the address of a Ray cluster that trains; "": processes of this machine.
        anew: make also what nothing changed of.
        mlflow: address of an MLflow store that each product is noted in; "": none.
    """

    manifest: Path
    out: Path
    workers: int | None = None
    cluster: str = ""
    anew: bool = False
    mlflow: str = ""


@dataclass(frozen=True, slots=True)
class Factory:
    """What came out of a run.

    Attributes:
        products: in the order of the manifest.
        index: the page.
        made, unchanged, failed: how many.
        not_noted: products that could not be noted in MLflow, and why.
    """

    products: tuple[Made, ...]
    index: Path
    made: int
    unchanged: int
    failed: int
    not_noted: Mapping[str, str] = field(default_factory=dict)


def factory(request: FactoryRequest, progress: Progress = silent, say: Say = lambda line: None) -> Factory:
    """Make what is wanted and not there yet. A product that fails is told, and stops no other.

    Models are trained several at once. Engines for a budget are searched afterwards, one at a time and on this machine: what is
    measured beside other work says nothing of a line.

    Args:
        say: told, in a line, what became of each product.

    Raises:
        BadInput: the manifest, or another run is at work there.
        MissingExtra: what trains and exports, Ray or MLflow is not installed.
        EngineError: there is no cluster at that address.
        StorageError: the folder cannot be written.
    """
    products = read_manifest(request.manifest)
    need_packages()
    notes = Notes(request.mlflow, request.manifest.stem) if request.mlflow else None
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        lock = hold(request.out)
    except OSError as error:
        raise StorageError(f"cannot write {request.out}: {error.strerror or error}", hint="choose another -o") from error
    if lock is None:
        raise BadInput(f"another edgead factory works in {request.out}", hint="wait for it, or give another -o")
    try:
        found = _Run(request, products, say, notes.note if notes is not None else lambda one: None).all(progress)
        index = write_page(request.out, request.manifest, found)
    finally:
        os.close(lock)
    made, unchanged, failed = (sum(one.state == state for one in found) for state in ("made", "unchanged", "failed"))
    return Factory(found, index, made, unchanged, failed, {} if notes is None else notes.failed)


@dataclass(slots=True)
class _Books:
    """What is known of a product: digest of its inputs, facts of the steps that are done with these. In FOLDER/product.json."""

    product: Product
    folder: Path
    digest: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    state: Literal["made", "unchanged", "failed"] = "made"
    failure: dict[str, Any] = field(default_factory=dict)

    def read(self, anew: bool) -> None:
        """What an earlier run has done with the same inputs, and is still there. Raises EdgeadError: the inputs."""
        self.digest = digest(self.product)
        try:
            self.folder.mkdir(exist_ok=True)
            left = json.loads((self.folder / "product.json").read_text("utf-8"))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"cannot use {self.folder}: {error.strerror or error}", hint="choose another -o") from error
        except ValueError:  # written by nobody of us: made anew
            return
        if isinstance(left, dict) and left.get("digest") == self.digest and not anew:
            self.steps = [step for step in left["steps"] if self._is_whole(step)]
            self.facts = dict(left["facts"])

    @property
    def bundle(self) -> Path:
        return self.folder / f"{self.product.name}.edgead"

    def _is_whole(self, step: str) -> bool:
        """Whether what the step made is there and can be opened; a bundle file by file, as its manifest says."""
        try:
            if step == TRAIN:
                read_card(self.folder / "model")
            else:
                Bundle.open(self.bundle)
        except EdgeadError:
            return False
        return True

    def note(self, step: str, answer: Mapping[str, Any]) -> None:
        """A step has ended. Raises StorageError."""
        if "failed" in answer:
            self.fail(step, str(answer["failed"]), str(answer.get("hint", "")), int(answer.get("code", EngineError.exit_code)))
            return
        self.steps.append(step)
        self.facts |= answer["done"]
        content = {"digest": self.digest, "steps": self.steps, "facts": self.facts}
        try:
            write_file(self.folder / "product.json", json.dumps(content, indent=1).encode())
        except OSError as error:
            raise StorageError(f"cannot write {self.folder}: {error.strerror or error}", hint="make room") from error

    def fail(self, step: str, why: str, hint: str, code: int) -> None:
        self.state, self.failure = "failed", {"step": step, "why": one_line(why), "hint": one_line(hint), "code": code}

    def made(self) -> Made:
        names = {one.name for one in dataclasses.fields(Made)}
        facts = {name: value for name, value in self.facts.items() if name in names}
        facts["warnings"] = tuple(facts.get("warnings", ()))
        if self.state == "failed":
            facts |= {"sha256": "", "engine": "", **self.failure}
        return Made(
            self.product.name, self.product.method, self.state, folder=self.folder, budget_ms=self.product.budget_ms,
            bundle=None if self.state == "failed" else self.bundle, **facts,
        )  # fmt: skip


class _Run:
    def __init__(self, request: FactoryRequest, products: Sequence[Product], say: Say, note: Callable[[Made], None]) -> None:
        self._request, self._say, self._note = request, say, note
        self._books = [_Books(product, request.out.absolute() / product.name) for product in products]

    def all(self, progress: Progress) -> tuple[Made, ...]:
        tick = Ticking(progress, "looking at pictures", len(self._books))
        for one in self._books:
            try:
                one.read(self._request.anew)
            except EdgeadError as error:
                one.fail("read", str(error), error.hint, error.exit_code)
                self._tell(one)
            else:
                if {TRAIN, EXPORT} <= set(one.steps):
                    one.state = "unchanged"
                    self._tell(one)
            tick()
        workers = self._request.workers or max(1, machine.usable_cores() // 2)
        self._steps(TRAIN, self._open(TRAIN), workers, self._request.cluster, progress)
        loose = [one for one in self._open(EXPORT) if one.product.budget_ms is None]
        self._steps(EXPORT, loose, workers, self._request.cluster, progress)
        self._steps(EXPORT, self._open(EXPORT), 1, "", progress)  # with a budget: alone, on this machine
        return tuple(one.made() for one in self._books)

    def _open(self, step: str) -> list[_Books]:
        return [one for one in self._books if one.state == "made" and step not in one.steps]

    def _steps(self, kind: str, books: Sequence[_Books], workers: int, cluster: str, progress: Progress) -> None:
        if not books:
            return
        tick = Ticking(progress, "training" if kind == TRAIN else "exporting", len(books))
        threads = machine.usable_cores() if workers == 1 else max(1, machine.usable_cores() // workers)
        steps = [Step(kind, one.product, one.folder, threads) for one in books]
        for number, answer in on_cluster(steps, cluster, workers) if cluster else at_once(steps, workers):
            one = books[number]
            one.note(kind, answer)
            if one.state == "failed" or kind == EXPORT:
                self._tell(one)
            tick()

    def _tell(self, one: _Books) -> None:
        made = one.made()
        if made.state != "unchanged":
            self._note(made)
        if made.state == "failed":
            self._say(f"{made.name}: failed at {made.step}: {made.why}")
        elif made.state == "unchanged":
            self._say(f"{made.name}: unchanged")
        else:
            auroc = "" if made.auroc is None else f", AUROC {made.auroc:.4f}{' on drawn defects' if made.drawn else ''}"
            self._say(f"{made.name}: {made.engine}{auroc}, {made.train_s + made.export_s:.0f} s")


def at_once(steps: Sequence[Step], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run steps in processes of this machine; number and answer of each as it ends."""
    with ThreadPoolExecutor(workers, "edgead-factory") as pool:
        running = {pool.submit(run_step, step): i for i, step in enumerate(steps)}
        try:
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for one in done:
                    yield running.pop(one), one.result()
        finally:
            for one in running:
                one.cancel()


def on_cluster(steps: Sequence[Step], cluster: str, workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same on a Ray cluster; its machines must reach the pictures and the output under the same paths."""
    from edgead.jobs.scoring.onray import connect

    ray, mine = connect(cluster, workers)
    try:
        task = ray.remote(num_cpus=1, max_retries=0)(_on_machine)
        running = {task.remote(step.to_json()): i for i, step in enumerate(steps)}
        while running:
            (one, *_), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(one)
            try:
                yield number, ray.get(one)
            except ray.exceptions.RayError as error:
                yield number, {"failed": f"the cluster lost this step: {one_line(str(error), 200)}", "hint": "run it again"}
    finally:
        if mine:
            ray.shutdown()


def _on_machine(step: str) -> dict[str, Any]:
    return run_step(Step.from_json(step))
