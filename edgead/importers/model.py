"""What every importer takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edgead import __version__
from edgead.bundle import Threshold, file_digest
from edgead.errors import BadInput
from edgead.manifest import IMPORTED, Data, Origin
from edgead.preprocess import PreprocessRecipe
from edgead.types import Image

if TYPE_CHECKING:
    from edgead.models.detector import Detector


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the file does not say, or what is wanted in place of what it says.

    Attributes:
        antialias: how pictures are shrunk; None takes what the model was trained with (and its threshold chosen with).
        frame_size: width, height of the camera's pictures, to resize in float inside the graph (exactly as in training) in place
            of resizing to uint8 before it; None for the latter.
        roi: x, y, width, height of the inspected part of the camera picture.
        weights: file with the backbone's weights, for sources that hold none.
        backbone, layers: for sources that do not name them.
        size: width, height of the model's input, for sources that do not tell it.
        images: folder with good pictures of the camera; their size is looked at where the source leaves the input's size open.
    """

    antialias: bool | None = None
    frame_size: tuple[int, int] | None = None
    roi: tuple[int, int, int, int] | None = None
    weights: Path | None = None
    backbone: str | None = None
    layers: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    images: Path | None = None


@dataclass(slots=True)
class Imported:
    """A foreign model as an edgead one.

    Attributes:
        detector: in evaluation mode.
        recipe: from camera picture to its input.
        threshold: as the source says, or None: it has to be chosen from good pictures.
        source: one line: what it is.
        files: those that were read.
        assumptions: what the files did not say.
        incomplete: what must still be measured on good pictures with :meth:`complete`; empty when nothing.
    """

    detector: Detector
    recipe: PreprocessRecipe
    threshold: Threshold | None
    source: str
    files: tuple[Path, ...]
    assumptions: list[str] = field(default_factory=list)
    incomplete: str = ""

    def complete(self, good: Sequence[Image], held_out: Sequence[Image]) -> None:
        """Measure what the source does not hold; by default there is nothing to do.

        Args:
            good, held_out: H x W x 3 uint8 BGR at model size.
        """

    def origin(self, data: Data) -> Origin:
        """Where the model came from, for model.json and the manifest.

        Args:
            data: the good pictures.
        """
        return Origin(
            tool=IMPORTED,
            version=__version__,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            source=self.source,
            files={file.name: file_digest(file) for file in self.files},
            assumptions=tuple(self.assumptions),
            data=data,
        )


def recipe_for(image_size: tuple[int, int], antialias: bool, options: ImportOptions) -> PreprocessRecipe:
    """From camera picture to a graph's input of `image_size` (height, width), by its resize rule and the user's wishes."""
    rule = "antialias" if (antialias if options.antialias is None else options.antialias) else "linear"
    height, width = image_size
    return PreprocessRecipe(width, height, options.roi, rule)


def refuse_options(options: ImportOptions, what: str, *names: str) -> None:
    """Refuse options that do not go with what is imported.

    Args:
        what: is imported.
        names: attributes of :class:`ImportOptions`, named on the command line with dashes.

    Raises:
        BadInput: one of them is given.
    """
    for name in names:
        if getattr(options, name) is not None:
            flag = {"frame_size": "exact-resize"}.get(name, name.replace("_", "-"))
            raise BadInput(f"--{flag} does not go with {what}", hint=f"leave --{flag} away")
