"""``products.yaml``: which models are wanted of which pictures.

defaults: {method: patchcore, seed: 0}        # of all products that do not say otherwise
products:
  - name: bolt
    good: bolt/good                           # relative to the manifest
    labelled: bolt
    budget_ms: 20
    options: {size: 256, coreset: 0.01}       # as edgead train --help lists them, with _ for -
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from edgead.errors import BadInput
from edgead.families import FAMILIES, methods
from edgead.located import Located
from edgead.typed import Between, Wrong, read
from edgead.words import one_line

MOST = 1000
"""Products of a manifest."""

_OWN = frozenset({"family", "good_dir", "out", "name", "seed", "defects", "preset", "progress", "self"})
"""Words of a training that are keys of the product, or nobody's."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_Above = Annotated[float, Between(0.001, 1e6)]
_Share = Annotated[float, Between(0.0, 1.0)]


@dataclass(frozen=True, slots=True)
class Product:
    """A model that is wanted, and its bundle.

    Attributes:
        name: of the product, and of its folder.
        good: folder of good pictures, or a folder in MVTec layout.
        method: a name that `edgead train` takes.
        options: of the method, and how the model looks at pictures (size, roi, tiles, ...).
        defects: folders of defects to learn from, for methods that do.
        labelled: folder with labelled pictures to compare on; null: the one known from training.
        budget_ms: camera picture to verdict on this machine; an engine that keeps it is searched. null: those of `precisions`.
        frame: width, height of the camera's pictures, for the budget; null: 1920 x 1080.
        search_minutes: bound on the search.
        limits: what is tolerated of an engine: max_flips, max_auroc_drop, max_score_deviation.
        max_false_reject: share of good parts by which thresholds are chosen; null: as training chose.
        backends, precisions: engines to build; null: those that are installed, FP32 and INT8.
        seed: of everything that is random.
        preset: null: lite on a CPU.
    """

    name: str
    good: str
    method: str = next(iter(FAMILIES))  # what comes first suits most, see docs/which-model.md
    options: dict[str, Any] = field(default_factory=dict)
    defects: tuple[str, ...] = ()
    labelled: str | None = None
    budget_ms: _Above | None = None
    frame: tuple[Annotated[int, Between(16, 16384)], Annotated[int, Between(16, 16384)]] | None = None
    search_minutes: _Above = 10.0
    limits: dict[Literal["max_flips", "max_auroc_drop", "max_score_deviation"], float] = field(default_factory=dict)
    max_false_reject: _Share | None = None
    backends: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0
    preset: Literal["lite", "paper"] | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(f"a product is called {self.name[:90]!r}, which is to be a folder", hint="letters, digits, . _ -")
        if self.method not in methods():
            raise BadInput(f"there is no method {self.method[:60]!r}", hint=f"one of {', '.join(methods())}")
        if self.name.lower() == "index.html":
            raise BadInput("a product is called index.html, which is the table of all", hint="another name")
        try:
            json.dumps(self.options, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise BadInput("options hold what no option is, such as a date", hint="put a text in quotes") from error
        if own := sorted(_OWN & set(self.options)):
            raise BadInput(f"{own[0]} is no option of a method", hint="it is a key of the product itself, or of nobody")
        unknown = [name for name in self.limits if name not in ("max_flips", "max_auroc_drop", "max_score_deviation")]
        if unknown:
            raise BadInput(f"there is no limit {unknown[0][:60]!r}", hint="max_flips, max_auroc_drop, max_score_deviation")
        if self.budget_ms is None and self.frame is not None:
            raise BadInput("frame is for a budget, and there is none", hint="give budget_ms, or leave it out")


def read_manifest(path: Path) -> tuple[Product, ...]:
    """The products of a manifest, their paths absolute.

    Raises:
        BadInput: naming the file, the line and what is wrong.
    """
    located = Located(path)
    if unknown := [key for key in located.values if key not in ("products", "defaults")]:
        raise _wrong(located, (unknown[0],), f"{unknown[0]} is an unknown key", "a manifest has products, and defaults for all")
    defaults, listed = located.values.get("defaults") or {}, located.values.get("products")
    if not isinstance(defaults, dict) or {"name", "good"} & set(defaults):
        raise _wrong(
            located, ("defaults",), "defaults are keys of all products, but name and good", "give method, seed, budget_ms..."
        )
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST:
        raise _wrong(located, ("products",), f"products is not a list of 1 to {MOST}", "a product is: {name: bolt, good: FOLDER}")
    products = tuple(_product(located, i, defaults, one) for i, one in enumerate(listed))
    names = [one.name.lower() for one in products]  # some file systems know no case
    for i, name in enumerate(names):
        if name in names[:i]:
            raise _wrong(
                located, ("products", i, "name"), f"there are two products {products[i].name}", "each has a folder of its own"
            )
    return products


def _product(located: Located, i: int, defaults: Mapping[str, Any], given: Any) -> Product:
    if not isinstance(given, dict):
        raise _wrong(located, ("products", i), "a product is no mapping", "write {name: bolt, good: FOLDER}")
    try:
        product: Product = read(Product, {**defaults, **given}, f"products[{i}]")
    except Wrong as error:
        key = next((key for key in given if f"[{i}].{key}" in str(error)), None)
        place = ("products", i) if key is None else ("products", i, key)
        hint = getattr(error.__cause__, "hint", "") or "edgead docs scale lists all keys"
        raise _wrong(located, place, str(error), hint) from error
    base = located.path.absolute().parent
    return dataclasses.replace(
        product,
        good=str(base / product.good),
        defects=tuple(str(base / folder) for folder in product.defects),
        labelled=None if product.labelled is None else str(base / product.labelled),
    )


def _wrong(located: Located, place: tuple[str | int, ...], text: str, hint: str) -> BadInput:
    line = located.line(place)
    return BadInput(one_line(f"{located.path}{f', line {line}' if line else ''}: {text}"), hint=hint)
