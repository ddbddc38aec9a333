"""What every adapter checks: the graph contract when it loads, the picture when it is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgead.errors import BadInput, EngineError
from edgead.types import Image, TensorSpec

OUTPUT_NAMES = ("anomaly_map", "score")


def check_graph(file: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """The graph contract: uint8 ``image`` 1 x H x W x 3 in; float32 ``anomaly_map`` 1 x h x w and ``score`` 1 out.

    Raises:
        EngineError: the file holds another kind of network.
    """
    image = inputs[0] if len(inputs) == 1 else TensorSpec("", (), "")
    fits = (image.name, image.dtype, len(image.shape)) == ("image", "uint8", 4) and (image.shape[0], image.shape[3]) == (1, 3)
    fits = fits and tuple(o.name for o in outputs) == OUTPUT_NAMES and all(o.dtype == "float32" for o in outputs)
    fits = fits and len(outputs[0].shape) == 3 and outputs[0].shape[0] == 1 and outputs[1].shape == (1,)
    if not (fits and all(size > 0 for spec in (*inputs, *outputs) for size in spec.shape)):
        raise EngineError(
            f"{file} is not an edgead graph: it takes {_described(inputs)} and gives {_described(outputs)}",
            hint="export the model with: edgead export MODEL_DIR",
        )


def batch_of_one(image: Image, spec: TensorSpec) -> Image:
    """1 x H x W x 3, contiguous, sharing memory with `image` wherever it can.

    Raises:
        BadInput: another shape or dtype than the model takes.
    """
    if image.dtype != np.uint8 or image.shape != spec.shape[1:]:
        wanted = " x ".join(map(str, spec.shape[1:]))
        raise BadInput(
            f"the engine takes a {wanted} uint8 picture, not {' x '.join(map(str, image.shape))} {image.dtype}",
            hint="apply the bundle's preprocess recipe first",
        )
    return np.ascontiguousarray(image)[None]


def failed(file: Path, what: str, error: Exception) -> EngineError:
    """One line out of a backend's many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = (lines[-1] if lines else type(error).__name__)[:200]
    return EngineError(f"{what} {file}: {reason}", hint="copy or export the bundle again; edgead verify BUNDLE checks it")


def closed(file: Path) -> EngineError:
    """What a closed engine raises."""
    return EngineError(f"the engine {file} is closed", hint="open it again")


def in_use(file: Path) -> EngineError:
    """What an engine raises that works on a row of pictures already."""
    return EngineError(
        f"the engine {file} works on a row of pictures (infer_many)", hint="open a second one, or wait until it is done"
    )


def _described(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{s.name} {s.dtype} {list(s.shape)}" for s in specs) or "nothing"
