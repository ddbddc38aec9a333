"""The model of Triton's Python backend that `edgead serve-files` writes: recipe, engine and rule as `edgead.open` has them.

Runs inside a Triton server whose Python has edgead and the engine's package. Triton calls `initialize`, `execute`, `finalize`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import edgead
from edgead.decision import tells_no_map
from edgead.errors import BadInput
from edgead.serving.tensors import FILE, PICTURE, answered, outputs_of, pictures_of

CARD = "bundle.json"
"""Beside model.py: which bundle, which digest it must have, which engine answers."""


class TritonPythonModel:
    """One bundle, asked by one thread. A picture that cannot be used is UNKNOWN; a malformed request is the client's error."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open, verify and prove the bundle; Triton does not serve a model that raises here."""
        self._pb: Any = importlib.import_module("triton_python_backend_utils")
        folder = Path(args["model_repository"]) / args["model_version"]
        card = json.loads((folder / CARD).read_text("utf-8"))
        self._judge = edgead.open(folder / card["bundle"], card["engine"], threads=card["threads"], sha256=card["sha256"])
        height, width = next(one.shape for one in self._judge.engine.outputs if one.name == "anomaly_map")[-2:]
        self._map_size = (height, width)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One answer for each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        pb = self._pb
        try:
            given = [
                (name, found) for name in (PICTURE, FILE) if (found := pb.get_input_tensor_by_name(request, name)) is not None
            ]
            if len(given) != 1:
                raise BadInput(f"a request of {len(given)} inputs", hint=f"one: {PICTURE}, or {FILE}")
            pictures = pictures_of(given[0][0], given[0][1].as_numpy())
            outputs = outputs_of(list(request.requested_output_names()) or None, not tells_no_map(self._map_size))
        except BadInput as error:
            return pb.InferenceResponse(
                output_tensors=[], error=pb.TritonError(f"{error}: {error.hint}", pb.TritonError.INVALID_ARG)
            )
        found = [self._judge(picture) for picture in pictures]
        made = answered(found, outputs, self._map_size)
        return pb.InferenceResponse(output_tensors=[pb.Tensor(name, values) for name, values in made.items()])

    def finalize(self) -> None:
        """Close the engine."""
        self._judge.close()
