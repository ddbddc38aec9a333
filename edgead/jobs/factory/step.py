"""`python -m edgead.jobs.factory.step`: trains or exports one product, in a process of its own: if it dies, the others live.

Its standard input is an order (:class:`Step` as JSON), its standard output one line of JSON: {"done": facts} or {"failed": ...}.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgead
from edgead.errors import EdgeadError, StorageError
from edgead.jobs.factory.manifest import Product
from edgead.layout import pictures_below
from edgead.words import one_line, told

TRAIN, EXPORT = "train", "export"
_PR_SET_PDEATHSIG = 1
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """A step of one product.

    Attributes:
        kind: ``"train"`` or ``"export"``.
        product: which.
        folder: its folder; the model, the bundle and what was measured lie there.
        threads: CPU threads that it may use.
    """

    kind: str
    product: Product
    folder: Path
    threads: int

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def bundle(self) -> Path:
        return self.folder / f"{self.product.name}.edgead"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def to_json(self) -> str:
        """For another process."""
        return json.dumps({**dataclasses.asdict(self), "folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> Step:
        given = json.loads(text)
        product = given["product"]
        for name in ("defects", "frame", "backends", "precisions"):
            product[name] = None if product[name] is None else tuple(product[name])
        return cls(given["kind"], Product(**product), Path(given["folder"]), given["threads"])


def digest(product: Product) -> str:
    """Of a product's options, of all its pictures' names and content, and of edgead: the same one makes the same.

    Raises:
        BadInput: a folder of pictures is not there, or empty.
        StorageError: a picture cannot be read.
    """
    found = hashlib.sha256(json.dumps([edgead.__version__, dataclasses.asdict(product)], sort_keys=True).encode())
    for folder in (product.good, *product.defects, *([] if product.labelled is None else [product.labelled])):
        for file in pictures_below(Path(folder)).files:
            found.update(str(file.relative_to(folder)).encode("utf-8", "surrogateescape") + b"\0")
            for chunk in _chunks(file):
                found.update(chunk)
    return found.hexdigest()


def _chunks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror or error}", hint="check its permissions") from error


def run_step(step: Step) -> dict[str, Any]:
    """Run it in a process of its own; what it says, or why it did not: {"done": ...} or {"failed": ...}."""
    threads = str(step.threads)
    environ = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-m", "edgead.jobs.factory.step"]
    try:
        with (step.folder / "log.txt").open("ab") as log:
            done = subprocess.run(
                command, input=step.to_json(), stdout=subprocess.PIPE, stderr=log, text=True, env=environ, check=False
            )
    except OSError as error:
        code = StorageError.exit_code
        return {"failed": f"cannot write {step.folder}: {error.strerror or error}", "hint": "make room", "code": code}
    for line in reversed(done.stdout.splitlines()):
        with suppress(ValueError):
            if isinstance(answer := json.loads(line), dict):
                return answer
    died = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
    return {"failed": f"the process of this {step.kind} died ({died})", "hint": f"{step.folder / 'log.txt'} may say why"}


def perform(step: Step) -> Mapping[str, Any]:
    """Do it here; facts of what was made. Raises EdgeadError."""
    import torch

    torch.set_num_threads(step.threads)
    began = time.perf_counter()
    facts = _trained(step) if step.kind == TRAIN else _exported(step)
    return {**facts, f"{step.kind}_s": round(time.perf_counter() - began, 1)}


def _trained(step: Step) -> dict[str, Any]:
    product = step.product
    options: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in product.options.items()}
    if product.budget_ms is not None and not {"size", "tiles", "budget_ms"} & set(options) and product.preset != "paper":
        options["budget_ms"] = product.budget_ms  # for the choice of the size
    made = edgead.train(
        product.method, product.good, step.model, name=product.name, seed=product.seed, defects=product.defects,
        preset=product.preset, **options,
    )  # fmt: skip
    figures = made.result.metrics
    auroc = figures.get("image_auroc", figures.get("drawn_auroc"))
    recipe = made.result.images.recipe
    return {
        "threshold": made.result.threshold.value,
        "auroc": auroc if auroc is not None and math.isfinite(auroc) else None,
        "drawn": "image_auroc" not in figures,
        "width": recipe.width,
        "height": recipe.height,
        "pictures": len(made.result.images.train) + len(made.result.images.heldout),
        "warnings": [one_line(str(finding)) for finding in made.result.findings],
    }


def _exported(step: Step) -> dict[str, Any]:
    from edgead.calibration.judging.deviation import Limits

    product = step.product
    search = {"minutes": product.search_minutes, "frame": product.frame, "limits": product.limits or None}
    options: dict[str, Any] = {} if product.budget_ms is not None else {"limits": Limits(**product.limits)}
    made = edgead.export(
        step.model, step.bundle, budget_ms=product.budget_ms, search=search if product.budget_ms is not None else None,
        backends=product.backends, precisions=product.precisions, report=step.report, threads=step.threads,
        labelled=None if product.labelled is None else Path(product.labelled), max_false_reject=product.max_false_reject,
        **options,
    )  # fmt: skip
    manifest = made.bundle.manifest
    built = manifest.measured.search.built
    return {
        "sha256": made.bundle.digest,
        "engine": manifest.default_engine,
        "engines": [record.name for record in manifest.engines],
        "p99_ms": built.p99_ms if built else None,
    }


def main() -> None:
    """Read an order, do it, say what came of it."""
    step = Step.from_json(sys.stdin.read())
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        try:
            answer: dict[str, Any] = {"done": perform(step)}
        except EdgeadError as error:
            print(told(error), file=sys.stderr)
            answer = {"failed": one_line(str(error)), "hint": one_line(error.hint), "code": error.exit_code}
        answers.write(f"{json.dumps(answer, allow_nan=False)}\n")


if __name__ == "__main__":
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    main()
