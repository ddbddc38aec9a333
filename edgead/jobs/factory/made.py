"""What became of a product."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a product.

    Attributes:
        name, method: of it.
        state: "made" in this run, "unchanged" since an earlier one, or "failed".
        why, hint: what went wrong, and how to fix it; "" where nothing did.
        step: at which it failed, "read", "train" or "export"; "" where it did not.
        code: exit code of that; 0 where nothing went wrong.
        folder: of the product.
        bundle: of it; null: it failed.
        sha256: of the bundle; "" without.
        engine: the bundle's default one; "" without.
        auroc: on labelled pictures, or on drawn defects; null where it was not measured.
        drawn: that was on drawn defects.
        threshold: of the model; null: it was not trained.
        width, height: of its input in pixels; 0 where it was not trained.
        pictures: good ones.
        p99_ms: of the engine that keeps the budget; null without a budget.
        budget_ms: that was asked for; null without.
        train_s, export_s: seconds that took.
        warnings: what training says of the pictures and the model.
    """

    name: str
    method: str
    state: Literal["made", "unchanged", "failed"]
    why: str = ""
    hint: str = ""
    step: str = ""
    code: int = 0
    folder: Path = Path()
    bundle: Path | None = None
    sha256: str = ""
    engine: str = ""
    auroc: float | None = None
    drawn: bool = False
    threshold: float | None = None
    width: int = 0
    height: int = 0
    pictures: int = 0
    p99_ms: float | None = None
    budget_ms: float | None = None
    train_s: float = 0.0
    export_s: float = 0.0
    warnings: tuple[str, ...] = ()
