"""The guard finds the layer that breaks under INT8, returns it and nothing else to float, and knows a faulty kernel from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgead.bundle import Bundle
from edgead.calibration.calibrate import calibrate
from edgead.calibration.deviation import Limits, Yardstick, auroc, rank_correlation
from edgead.calibration.guard import Candidate, GuardFailed, GuardOptions, guard
from edgead.calibration.layers import Graphs, layer_errors
from edgead.calibration.sets import CalibrationSet
from edgead.calibration.targets import target_for
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine
from edgead.errors import BadInput, EngineError
from edgead.parity import Answers, ask
from edgead.types import AnomalyMap, Engine, Image
from tests.bundles import Tiny
from tests.calibration._planted import LAYERS, PLANTED, picture, write_detector

GOOD, DEFECTS = 40, 20
LIMITS = Limits(max_flips=0.05, max_auroc_drop=0.05, max_score_deviation=0.6)
OPTIONS = GuardOptions(threads=1)


class Rigged:
    """An engine whose answers are bent."""

    def __init__(self, engine: Engine, bend: Callable[[float, AnomalyMap], tuple[float, AnomalyMap]]) -> None:
        self._engine, self._bend = engine, bend
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        return self._bend(*self._engine.infer(image))

    def close(self) -> None:
        self._engine.close()


def open_onnx(file: Path) -> Engine:
    return OnnxRuntimeEngine(file, threads=1)


def saturating(file: Path) -> Engine:
    """What a kernel does that cannot hold its sums: large scores all become the same."""
    return Rigged(open_onnx(file), lambda score, anomaly_map: (min(score, 0.9), anomaly_map))


def broken(file: Path) -> Engine:
    return Rigged(open_onnx(file), lambda score, anomaly_map: (float("nan"), anomaly_map))


ONNX = Candidate("onnxruntime-int8", lambda graph: graph, open_onnx)
OPENVINO = Candidate("openvino-int8", lambda graph: graph, lambda file: OpenVinoEngine(file, threads=1))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The planted detector, and its INT8 graph as calibrated."""
    folder = tmp_path_factory.mktemp("planted")
    float_graph = write_detector(folder / "model.onnx")
    pictures = CalibrationSet.of([picture(i, light=0.8 + 0.06 * i) for i in range(16)])
    target = target_for("onnxruntime")
    calibrate(float_graph, pictures, target, output=folder / "model.int8.onnx", allow_unsafe=True, threads=1)
    return float_graph, folder / "model.int8.onnx"


@pytest.fixture(scope="module")
def yardstick(graphs: tuple[Path, Path]) -> Yardstick:
    images = (*(picture(100 + i) for i in range(GOOD)), *(picture(200 + i, defect=True) for i in range(DEFECTS)))
    reference = ask(open_onnx(graphs[0]), images)

    def own(scores: np.ndarray) -> float:
        return float(np.sort(scores[:GOOD])[-2])

    return Yardstick(images, reference, own(reference.scores), own, range(GOOD), range(GOOD, GOOD + DEFECTS))


@pytest.fixture
def files(graphs: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The float graph, and a copy of the INT8 graph that the guard may rewrite."""
    (tmp_path / "model.int8.onnx").write_bytes(graphs[1].read_bytes())
    return graphs[0], tmp_path / "model.int8.onnx"


def test_the_layer_that_breaks_is_found_and_it_alone_returned_to_float(files: tuple[Path, Path], yardstick: Yardstick) -> None:
    told = guard(*files, [ONNX, OPENVINO], yardstick, LIMITS, OPTIONS)
    assert set(told.broken) == {"onnxruntime-int8", "openvino-int8"}
    assert told.keep_float == (PLANTED,)
    assert told.layers[0].layer.name == PLANTED
    assert told.layers[0].score_deviation > 5 * told.layers[1].score_deviation
    (step,) = told.steps
    assert step.kept
    assert step.before > 5 * step.after
    assert all(LIMITS.broken(found, yardstick.pairs) == () for found in told.deviations.values())
    left = set(Graphs(*files).names(Graphs(*files).nodes))
    assert left == set(LAYERS) - {PLANTED}  # the file on disk is the one that was measured
    again = yardstick.measure(ask(open_onnx(files[1]), yardstick.images))
    assert again == told.deviations["onnxruntime-int8"]


def test_what_passes_at_once_is_left_alone(files: tuple[Path, Path], yardstick: Yardstick) -> None:
    before = files[1].read_bytes()
    told = guard(*files, [ONNX], yardstick, Limits(1.0, 1.0, 1e6), OPTIONS)
    assert (told.broken, told.steps, told.keep_float, told.layers) == ({}, (), (), ())
    assert files[1].read_bytes() == before
    assert told.from_literal["onnxruntime-int8"] < 0.05 < (told.literal or 0.0)


def test_a_faulty_kernel_is_named_and_no_layer_blamed(files: tuple[Path, Path], yardstick: Yardstick) -> None:
    Graphs(*files).write(files[1], [node for node in Graphs(*files).nodes if node.startswith(PLANTED)])  # INT8 itself is fine
    rigged = Candidate("abacus-int8", lambda graph: graph, saturating)
    with pytest.raises(GuardFailed, match=r"abacus-int8: .*kernels on this machine.*no bundle written") as caught:
        guard(*files, [ONNX, rigged], yardstick, LIMITS, OPTIONS)
    assert "--weight-bits 7" in caught.value.hint
    assert not caught.value.report.steps
    assert caught.value.report.from_literal["abacus-int8"] > 10 * caught.value.report.from_literal["onnxruntime-int8"]


def test_a_faulty_kernel_behind_a_broken_layer_is_found_too(files: tuple[Path, Path], yardstick: Yardstick) -> None:
    rigged = Candidate("abacus-int8", lambda graph: graph, saturating)
    with pytest.raises(GuardFailed) as caught:
        guard(*files, [rigged], yardstick, LIMITS, OPTIONS)
    assert "kernels on this machine" in str(caught.value)


def test_when_nothing_helps_the_numbers_are_named(files: tuple[Path, Path], yardstick: Yardstick) -> None:
    with pytest.raises(GuardFailed, match=r"score deviation .*allowed 0.*of 4 layers tried in float.*worst: planted") as caught:
        guard(*files, [ONNX], yardstick, Limits(0.05, 0.05, 0.0), GuardOptions(max_layers=2, threads=1))
    assert len(caught.value.report.steps) == 2
    assert "--max-score-deviation" in caught.value.hint
    assert "--max-flips" not in caught.value.hint


def test_an_engine_that_does_not_run_here_is_judged_by_its_graph(files: tuple[Path, Path], yardstick: Yardstick) -> None:
    built: list[Path] = []

    def build(graph: Path) -> Path:
        assert Graphs(files[0], graph).nodes == Graphs(files[0], files[1]).nodes
        built.append(graph)
        return graph

    told = guard(*files, [Candidate("faraway-int8", build, None)], yardstick, LIMITS, OPTIONS)
    assert told.simulated == ("faraway-int8",)
    assert told.keep_float == (PLANTED,)
    assert built == [files[1]]  # once, of the graph that was accepted


def test_values_that_are_not_finite_are_an_engine_error(files: tuple[Path, Path], yardstick: Yardstick) -> None:
    with pytest.raises(EngineError, match="not finite"):
        guard(*files, [Candidate("x-int8", lambda graph: graph, broken)], yardstick, LIMITS, OPTIONS)


def test_a_layer_alone_errs_as_the_graph_with_all_others_in_float(graphs: tuple[Path, Path], yardstick: Yardstick) -> None:
    errors = layer_errors(Graphs(*graphs), yardstick.images, yardstick.reference, threads=1)
    assert {error.layer.name for error in errors} == set(LAYERS)
    assert [e.score_deviation for e in errors] == sorted((e.score_deviation for e in errors), reverse=True)


def test_all_layers_in_float_are_the_float_graph(graphs: tuple[Path, Path], yardstick: Yardstick, tmp_path: Path) -> None:
    both = Graphs(*graphs)
    both.write(tmp_path / "float.onnx", both.nodes)
    told = ask(open_onnx(tmp_path / "float.onnx"), yardstick.images[:5])
    assert np.array_equal(told.maps, yardstick.reference.maps[:5])
    written = onnx.load(tmp_path / "float.onnx")
    assert not [node for node in written.graph.node if "Linear" in node.op_type]


@pytest.mark.parametrize("family", ["patchcore", "simplenet", "efficientad"])
def test_every_layer_of_a_real_graph_can_be_returned(family: str, tiny: Tiny, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny.bundle(family))
    both = Graphs(bundle.path / "model.onnx", bundle.path / "model.int8.onnx")
    assert len(both.nodes) >= 15
    for nodes in (both.nodes, both.nodes[-1:], both.nodes[:1]):
        both.write(tmp_path / "some.onnx", nodes)
        left = Graphs(bundle.path / "model.onnx", tmp_path / "some.onnx")
        assert set(left.nodes) == set(both.nodes) - set(nodes)
    both.write(tmp_path / "float.onnx", both.nodes)
    golden = bundle.golden()
    told = ask(open_onnx(tmp_path / "float.onnx"), golden.images[:2])
    assert np.abs(told.maps - golden.reference.maps[:2]).max() <= 1e-4 * np.ptp(golden.reference.maps)


def test_many_layers_are_grouped_by_the_beginning_of_their_names(graphs: tuple[Path, Path], tmp_path: Path) -> None:
    renamed = []
    for source in graphs:
        model = onnx.load(source)
        for node in model.graph.node:
            place = LAYERS.index(node.name) if node.name in LAYERS else -1
            node.name = f"/block{place // 2}/conv{place}" if place >= 0 else node.name
        renamed.append(tmp_path / source.name)
        onnx.save(model, str(renamed[-1]))
    both = Graphs(*renamed)
    assert [layer.name for layer in both.layers(most=2)] == ["block0", "block1"]
    assert [len(layer.nodes) for layer in both.layers(most=2)] == [2, 2]
    assert [len(layer.nodes) for layer in both.layers(most=1)] == [4]


def test_limits_tolerate_one_frame_and_one_swapped_pair() -> None:
    yard = _scores([0.0, 1.0, 2.0, 3.0], defects=2)
    swapped = yard.measure(_answers([0.0, 2.1, 2.0, 3.0]))
    assert (swapped.auroc, swapped.auroc_change) == (0.75, -0.25)
    assert Limits(0.0, 0.0, 10.0).broken(swapped, yard.pairs) == ()
    worse = yard.measure(_answers([0.0, 5.0, 2.0, 3.0]))
    assert [word.split()[0] for word in Limits(0.0, 0.0, 10.0).broken(worse, yard.pairs)] == ["AUROC"]
    better = _scores([0.0, 2.5, 2.0, 3.0], defects=2).measure(_answers([0.0, 1.0, 2.0, 3.0]))
    assert better.auroc_change == 0.25  # told, and no reason to refuse
    assert Limits(0.0, 0.0, 10.0).broken(better, 4) == ()


@pytest.mark.parametrize("values", [(-0.1, 0.0, 0.0), (0.0, 1.1, 0.0), (0.0, 0.0, -1.0), (0.0, 0.0, float("nan"))])
def test_limits_that_cannot_be_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(BadInput):
        Limits(*values)


def test_rank_correlation_and_auroc() -> None:
    a = np.array([1.0, 2.0, 2.0, 4.0])
    assert rank_correlation(a, a * 3 + 1) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)
    assert rank_correlation(a, np.ones(4)) == 0.0
    good, defect = np.array([0.0, 1.0, 1.0], np.float32), np.array([1.0, 2.0], np.float32)
    assert auroc(good, defect) == pytest.approx((1 + 0.5 + 0.5 + 3) / 6)  # ties count half
    assert auroc(good, defect[:0]) is None


def _answers(scores: list[float]) -> Answers:
    return Answers(np.array(scores, np.float32), np.zeros((len(scores), 1, 1), np.float32))


def _scores(scores: list[float], defects: int) -> Yardstick:
    images = tuple(np.zeros((1, 1, 3), np.uint8) for _ in scores)
    good = len(scores) - defects
    return Yardstick(images, _answers(scores), 10.0, lambda s: 10.0, range(good), range(good, len(scores)))
