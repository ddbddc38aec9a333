"""What is told of another tool's file that was imported, in words and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.manifest import Threshold

if TYPE_CHECKING:
    from edgead.jobs.importing import ImportResult


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """The model that was made.

    Attributes:
        out: its folder.
        family: of it.
        found: what the file is, in a line.
        width, height: of its input in pixels.
        resize: the rule that pictures are resized by.
        threshold: its first one.
        assumptions: what the file did not say.
        notes: what is worth knowing, a line each.
    """

    out: Path
    family: str
    found: str
    width: int
    height: int
    resize: str
    threshold: Threshold
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, found: ImportResult) -> ImportedModel:
        """What is told of it."""
        imported, recipe = found.imported, found.imported.recipe
        size = recipe.width, recipe.height, recipe.resize
        return cls(
            found.out, imported.detector.family, imported.source, *size, found.threshold, tuple(imported.assumptions), found.notes
        )


def summary(found: ImportResult) -> str:
    """What was found, as lines."""
    recipe = found.imported.recipe
    whole = ""
    if recipe.crop_from:
        sizes = " x ".join(str(n or "any") for n in recipe.crop_from)
        whole = (
            f", cut from the middle of {sizes} px" if any(recipe.crop_from) else ", cut from the middle of the picture as it is"
        )
    rows = [
        ("found", found.imported.source),
        ("pictures", f"{recipe.width} x {recipe.height} px, resized by rule {recipe.resize!r}{whole}"),
        ("threshold", f"{found.threshold.value:.6g} ({found.threshold.method})"),
        *(("assumed", line) for line in found.imported.assumptions),
        *(("note", line) for line in found.notes),
    ]
    return "\n".join(f"{name:<12}{value}" for name, value in rows)
