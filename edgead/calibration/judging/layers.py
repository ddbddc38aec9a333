"""Which layers an INT8 graph loses most in, and graphs in which some of them are float again.

A layer is a node of the float graph whose output comes from another node in the INT8 graph: the same operator on Q/DQ pairs, or
an addition behind it that corrects a bias. Putting the original node there makes it float again; what fed only the old one
falls away. So nothing here depends on who wrote the INT8 graph, as long as the tensors between layers keep their names. Nodes are
known by their first output, which is unique in ONNX and always there; names are not.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.calibration.int8.products import drop_unused
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.optional import require
from edgead.parity import Answers, ask
from edgead.types import Engine, Image

MOST_GROUPS = 48
"""More layers than that are taken together by the beginning of their names."""

FEWEST_FRAMES, MOST_FRAMES = 2, 24


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, or several that are returned to float together.

    Attributes:
        name: the node's name, or the common beginning of several.
        nodes: first outputs of the nodes.
    """

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerError:
    """What INT8 in this layer alone does, all others being float. All are score deviations, that is mean |score difference| over
    the standard deviation of the float scores of all frames, but for `map_deviation`.

    Attributes:
        layer: which.
        score_deviation: of the engine from the float model.
        map_deviation: the same of the maps, over the standard deviation of the float maps' values.
        literal: of the literal execution of the graph from the float model: what rounding alone does.
        kernel: of the engine from that literal execution: what the engine computes otherwise than its graph says.
    """

    layer: Layer
    score_deviation: float
    map_deviation: float
    literal: float
    kernel: float

    def to_json(self) -> dict[str, Any]:
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layer"}
        return {"layer": self.layer.name, "nodes": len(self.layer.nodes), **numbers}


class Graphs:
    """A float graph and the INT8 graph made of it.

    Raises:
        MissingExtra: onnx is not installed.
    """

    def __init__(self, float_file: Path, int8_file: Path) -> None:
        self._onnx = require("onnx", extra="export", why="Comparing INT8 with float")
        self._float, self._int8 = self._onnx.load(str(float_file)), self._onnx.load(str(int8_file))
        produced = {node.output[0]: node for node in self._int8.graph.node}
        self._producers = {name: node for node in self._float.graph.node for name in node.output}
        self._originals = {
            node.output[0]: node
            for node in self._float.graph.node
            if node.output[0] in produced and not _same(node, produced[node.output[0]])
        }

    @property
    def nodes(self) -> tuple[str, ...]:
        """First outputs of the INT8 nodes, in graph order."""
        return tuple(self._originals)

    def layers(self, most: int = MOST_GROUPS) -> list[Layer]:
        """The INT8 nodes, each for itself, or by the longest beginnings of their names that give at most `most` groups."""
        names = {output: node.name or output for output, node in self._originals.items()}
        if len(names) <= most:
            return [Layer(name, (output,)) for output, name in names.items()]
        parts = {output: re.split(r"[/.]", name.strip("/")) for output, name in names.items()}
        for depth in range(max(len(p) for p in parts.values()), 0, -1):
            groups: dict[str, list[str]] = {}
            for output, split in parts.items():
                groups.setdefault("/".join(split[:depth]), []).append(output)
            if len(groups) <= most:
                return [Layer(name, tuple(outputs)) for name, outputs in groups.items()]
        return [
            Layer(f"{names[chunk[0]]} to {names[chunk[-1]]}", chunk)
            for chunk in (tuple(map(str, part)) for part in np.array_split(list(names), most))
        ]

    def names(self, nodes: Iterable[str]) -> list[str]:
        """The nodes' names, as calibration takes them in `keep_float`."""
        return [self._originals[output].name or output for output in nodes]

    def write(self, target: Path, keep_float: Iterable[str]) -> None:
        """The INT8 graph with these nodes (first outputs) float again."""
        onnx, wanted = self._onnx, set(keep_float)
        model = onnx.ModelProto()
        model.CopyFrom(self._int8)
        kept = {tensor.name for tensor in model.graph.initializer}
        model.graph.initializer.extend(t for t in self._float.graph.initializer if t.name not in kept)
        known = {value.name for value in (*model.graph.input, *model.graph.initializer)}
        nodes: list[Any] = []
        for node in self._int8.graph.node:
            self._append(nodes, known, self._originals[node.output[0]] if node.output[0] in wanted else node)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        drop_unused(model)
        onnx.checker.check_model(model)
        onnx.save(model, str(target))

    def _append(self, nodes: list[Any], known: set[str], node: Any) -> None:
        """Add a node, and before it those of the float graph that it needs and the INT8 graph has no more."""
        for name in node.input:
            if name and name not in known and name in self._producers:
                self._append(nodes, known, self._producers[name])
        if node.output[0] not in known:
            nodes.append(node)
            known.update(node.output)


def layer_errors(
    graphs: Graphs,
    images: Sequence[Image],
    reference: Answers,
    *,
    open_engine: Callable[[Path], Engine] | None = None,
    max_s: float = 60.0,
    threads: int | None = None,
    report: Callable[[float], None] = lambda fraction: None,
) -> list[LayerError]:
    """The error that each layer alone introduces, largest score deviation first.

    Frames are taken evenly over the range of the reference scores, as many as `max_s` seconds of literal execution allow (at
    least 2, at most 24).

    Args:
        images: H x W x 3 uint8 BGR at model size.
        reference: the trained model's answers on them.
        open_engine: INT8 graph -> the engine; None takes the literal graph itself.
    """
    layers = graphs.layers()
    spread = (float(np.std(reference.scores)) or 1.0, float(np.std(reference.maps)) or 1.0)
    found: list[LayerError] = []
    frames: npt.NDArray[np.intp] = np.empty(0, np.intp)
    with tempfile.TemporaryDirectory(prefix="edgead-") as scratch:
        for i, layer in enumerate(layers):
            file = Path(scratch) / str(i) / "alone.onnx"
            file.parent.mkdir()
            graphs.write(file, set(graphs.nodes) - set(layer.nodes))
            with closing(OnnxRuntimeEngine(file, threads=threads, literal=True)) as engine:
                if not len(frames):
                    frames = frames_within(engine, images, reference, max_s / len(layers))
                chosen = [images[k] for k in frames]
                literal = told = ask(engine, chosen)
            if open_engine is not None:
                with closing(open_engine(file)) as engine:
                    told = ask(engine, chosen)
            floats = Answers(reference.scores[frames], reference.maps[frames])
            told = told.on(floats)
            score, rounding = (float(np.mean(np.abs(a.scores - floats.scores))) / spread[0] for a in (told, literal))
            kernel = float(np.mean(np.abs(told.scores - literal.scores))) / spread[0]
            found.append(LayerError(layer, score, float(np.mean(np.abs(told.maps - floats.maps))) / spread[1], rounding, kernel))
            report((i + 1) / len(layers))
    return sorted(found, key=lambda error: -error.score_deviation)


def frames_within(engine: Engine, images: Sequence[Image], reference: Answers, seconds: float) -> npt.NDArray[np.intp]:
    """Indices of as many frames as the engine can answer in so many seconds, evenly over the range of the reference scores."""
    engine.infer(images[0])
    began = time.perf_counter()
    engine.infer(images[0])
    count = int(np.clip(seconds / max(time.perf_counter() - began, 1e-6), FEWEST_FRAMES, MOST_FRAMES))
    order = np.argsort(reference.scores, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.intp))
    return np.asarray(order[places], np.intp)


def _same(one: Any, other: Any) -> bool:
    return bool(one.op_type == other.op_type and list(one.input) == list(other.input))
