"""From a budget to a bundle, or a plain no."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edgead.bundle import Bundle
from edgead.calibration.judging.deviation import Limits
from edgead.calibration.judging.guard import GuardOptions
from edgead.engines import searched_threads
from edgead.engines.verify import verify_engine
from edgead.errors import BadInput, BudgetMissed, StorageError
from edgead.export import ExportOptions
from edgead.export.search import search as module
from edgead.export.search.bench import SKETCHED, Bench
from edgead.export.search.journal import Latency
from edgead.export.search.options import SearchOptions
from edgead.export.search.search import NothingMeets, search_bundle
from edgead.export.search.space import Choice
from edgead.measured import Search
from edgead.typed import plain, read
from tests.bundles import Tiny

HOURS_MS = 1e7
FRAME = (320, 240)
FEW_FLIPS = Limits(0.1, 1.0, 1e6)  # with so few pictures, a rewrite that ruins the model is within the AUROC's noise


def options(*precisions: str, **more: Any) -> ExportOptions:
    """ONNX Runtime on one thread, with limits that a model which was hardly trained keeps."""
    wide = {
        "limits": Limits(1.0, 1.0, 1e6),
        "guard": GuardOptions(sensitivity_s=1.0),
        "frames_per_class": 6,
        "calibration_count": 8,
    }
    return ExportOptions(("onnxruntime",), precisions or ("fp32", "int8"), allow_unsafe=True, threads=1, **{**wide, **more})


def asked(budget_ms: float, **more: Any) -> SearchOptions:
    return SearchOptions(budget_ms, FRAME, **more)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, written_once: None) -> None:
    """Few parts are timed, and each graph is written once."""
    monkeypatch.setattr("edgead.export.search.bench.FULL_ROUNDS", 4)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured from here on: the kind, and the candidate."""
    seen: list[str] = []
    real_answers, real_timed = Bench.answers, module._Search._timed

    def answers(self: Bench, choice: Any) -> Any:
        seen.append(f"judge {choice}")
        return real_answers(self, choice)

    def timed(self: Any, record: Any, full: bool) -> Any:
        seen.append(f"{'time' if full else 'look'} {record.choice}")
        return real_timed(self, record, full)

    monkeypatch.setattr(Bench, "answers", answers)
    monkeypatch.setattr(module._Search, "_timed", timed)
    return seen


@pytest.mark.promise("the most accurate engine that keeps 40 ms at p99, or says plainly that there is none")
def test_a_budget_that_holds_gives_the_engine_and_the_search_behind_it(tiny: Tiny, tmp_path: Path) -> None:
    bundle = search_bundle(tiny.model(), tmp_path / "part.edgead", options(), asked(HOURS_MS))
    search = bundle.manifest.measured.search
    (record,) = bundle.manifest.engines
    chosen = search.chosen
    assert chosen is not None and search.built is not None
    assert record.name == bundle.manifest.default_engine == f"{chosen.backend}-{chosen.precision}"
    assert search.built.p99_ms <= HOURS_MS
    rows = {row.name: row for row in search.candidates or ()}
    assert set(rows) == {"onnxruntime-fp32 1 thread", "onnxruntime-int8 1 thread"}
    accuracy = rows["onnxruntime-fp32 1 thread"].accuracy
    assert accuracy is not None and accuracy.auroc_change == pytest.approx(0.0, abs=1e-6)
    assert [row.chosen for row in rows.values()].count(True) == 1
    graph = "model.onnx" if record.precision == "fp32" else "model.int8.onnx"
    assert bundle.manifest.files[graph] == rows[chosen.name].graph  # what was measured is what was built
    assert verify_engine(bundle, record.name, threads=1).passed
    assert read(Search, json.loads(json.dumps(plain(search)))) == search


@pytest.mark.promise("the most accurate engine that keeps 40 ms at p99, or says plainly that there is none")
def test_when_nothing_is_fast_enough_it_says_what_there_is_and_leaves_the_old_bundle(tiny: Tiny, tmp_path: Path) -> None:
    old = shutil.copytree(tiny.bundle(), tmp_path / "part.edgead")
    words = r"no engine answers within 0\.001 ms at p99 .*; fastest within the loss: [\d.]+ ms \(onnxruntime-.*fastest of all"
    with pytest.raises(NothingMeets, match=words) as caught:
        search_bundle(tiny.model(), old, options("fp32"), asked(0.001))
    assert caught.value.exit_code == BudgetMissed.exit_code == 8
    assert "--budget-ms" in caught.value.hint
    assert caught.value.facts.chosen is None
    assert Bundle.open(old).manifest == Bundle.open(tiny.bundle()).manifest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part.edgead", "part.edgead.search"]


def test_a_loss_that_nothing_keeps_is_told_as_such(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "axes_for", lambda *args: ())
    monkeypatch.setattr(Bench, "worst_layers", lambda self, choice: [])
    strict = options("int8", limits=Limits(1.0, 1.0, 0.0))
    words = r"most accurate within 1e\+07 ms: onnxruntime-int8 .*score deviation 0\.\d+ \(allowed 0\)"
    with pytest.raises(NothingMeets, match=words):
        search_bundle(tiny.model(), tmp_path / "part.edgead", strict, asked(HOURS_MS))


def test_an_interrupted_search_goes_on_and_measures_nothing_twice(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    real = Bench.answers

    def interrupted(self: Bench, choice: Any) -> Any:
        if choice.precision == "int8":
            raise KeyboardInterrupt
        return real(self, choice)

    target = tmp_path / "part.edgead"
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search_bundle(tiny.model(), target, options(), asked(HOURS_MS))
    assert not target.exists()
    notes: list[str] = []
    bundle = search_bundle(tiny.model(), target, options(), asked(HOURS_MS), note=notes.append)
    assert re.match("going on with 2 candidates", notes[0])
    assert bundle.manifest.measured.search.rest["resumed"] == 2
    assert sorted(measured) == sorted(
        f"{step} onnxruntime-{p} 1 thread" for step in ("look", "judge", "time") for p in ("fp32", "int8")
    )
    measured.clear()
    with pytest.raises(NothingMeets):  # another budget: the figures stay
        search_bundle(tiny.model(), target, options(), asked(0.001, minutes=0.001))
    assert measured == []
    search_bundle(tiny.model(), target, options("fp32"), asked(HOURS_MS, restart=True))
    assert measured == [f"{step} onnxruntime-fp32 1 thread" for step in ("look", "judge", "time")]


def test_a_bundle_that_turns_out_too_slow_is_not_written(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Any, work: Path, record: Any, bench: Bench) -> None:
        assert Bundle.open(work)
        self._note_down(module.replace(record, latency=module.replace(record.latency, p99_ms=2 * HOURS_MS)))
        raise module._TooSlow(f"{record.choice} is out")

    monkeypatch.setattr(module._Search, "_check", slow)
    monkeypatch.setattr(module, "axes_for", lambda *args: ())
    notes: list[str] = []
    with pytest.raises(NothingMeets):
        search_bundle(tiny.model(), tmp_path / "part.edgead", options(), asked(HOURS_MS), note=notes.append)
    assert sorted(note for note in notes if note.endswith("is out")) == [  # the next one was tried
        "onnxruntime-fp32 1 thread is out",
        "onnxruntime-int8 1 thread is out",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["part.edgead.search"]


def test_int8_that_loses_too_much_keeps_its_worst_layers_in_float(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "axes_for", lambda *args: ())
    plain = Bundle.open(tiny.bundle()).manifest.measured.deviations["onnxruntime-int8"].score_deviation
    limits = Limits(1.0, 1.0, 0.97 * plain)
    bundle = search_bundle(tiny.model(), tmp_path / "part.edgead", options("int8", limits=limits), asked(HOURS_MS))
    search = bundle.manifest.measured.search
    chosen = search.taken
    assert chosen is not None and chosen.keep_float and chosen.accuracy is not None
    assert chosen.accuracy.score_deviation <= limits.max_score_deviation
    assert bundle.manifest.files["model.int8.onnx"] == chosen.graph
    assert bundle.manifest.measured.guard[0].steps == ()


def test_lossy_rewrites_are_searched_when_the_plain_engines_are_too_slow(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times by a rule in place of a clock: what a tiny model saves is less than noise."""
    monkeypatch.setattr(module._Search, "_timed", by_rule(lambda choice: 20.0 - 5 * len(choice.rewrites)))
    monkeypatch.setattr(Bench, "latency", lambda self, engine, reference, full, again=0: Latency(10.0, 10.0, 200, 5.0, True))
    bundle = search_bundle(tiny.model(), tmp_path / "part.edgead", options("fp32", limits=FEW_FLIPS), asked(16.0))
    chosen = bundle.manifest.measured.search.chosen
    assert chosen is not None
    assert len(chosen.rewrites) == 1
    applied = {one.name: one.setting for one in bundle.manifest.measured.rewrites}
    assert chosen.rewrites.items() <= applied.items()


def by_rule(ms: Callable[[Any], float]) -> Callable[..., Any]:
    def timed(self: Any, record: Any, full: bool) -> Any:
        return module.replace(record, latency=Latency(ms(record.choice), ms(record.choice), 200, 5.0, full))

    return timed


def test_a_first_look_costs_a_few_pictures_and_leaves_what_is_built_as_it_is(tiny: Tiny, tmp_path: Path) -> None:
    bench = Bench(tiny.model(), options(), tmp_path, FRAME, 6, lambda stage, done: None)
    bench.ask()
    choice = Choice("onnxruntime", "int8", threads=1)
    look = bench.sketch()
    assert bench.calibration is not None and look.calibration is not None
    assert (len(bench.calibration), len(look.calibration)) == (8, SKETCHED)
    with closing(look.open(choice)) as quick, closing(bench.open(choice)) as engine:
        image = bench.frames.all[0]
        assert quick.infer(image)[1].shape == engine.infer(image)[1].shape
    assert look.digest(choice) != bench.digest(choice)


def test_a_first_look_at_lossy_rewrites_is_at_what_was_fitted_on_a_few_pictures(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: dict[Choice, int] = {}
    real_open = Bench.open

    def opening(self: Bench, choice: Choice) -> Any:
        assert self.calibration is not None
        first.setdefault(choice, len(self.calibration))
        return real_open(self, choice)

    monkeypatch.setattr(Bench, "open", opening)
    monkeypatch.setattr(Bench, "latency", lambda self, engine, reference, full, again=0: Latency(10.0, 10.0, 200, 5.0, full))
    with pytest.raises(BudgetMissed):
        search_bundle(tiny.model(), tmp_path / "part.edgead", options(), asked(5.0))
    assert {pictures for choice, pictures in first.items() if choice.rewrites} == {SKETCHED}
    assert {pictures for choice, pictures in first.items() if not choice.rewrites} == {8}


def test_threads_that_are_slower_and_steadier_keep_a_budget_that_all_cores_break_now_and_then(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(self: Any, record: Any, full: bool) -> Any:
        p50_ms, p99_ms = (10.0, 30.0) if record.choice.threads is None else (12.0, 13.0)
        return module.replace(record, latency=Latency(p50_ms, p99_ms, 200, 5.0, full))

    monkeypatch.setattr(module._Search, "_timed", timed)
    monkeypatch.setattr(Bench, "latency", lambda self, engine, reference, full, again=0: Latency(10.0, 10.0, 200, 5.0, True))
    monkeypatch.setattr(module.machine, "usable_cores", lambda: 2)
    free = module.replace(options("fp32"), threads=None)
    bundle = search_bundle(tiny.model(), tmp_path / "part.edgead", free, asked(16.0))
    chosen = bundle.manifest.measured.search.chosen
    assert chosen is not None
    assert (chosen.threads, chosen.rewrites) == (1, {})


def test_of_all_numbers_of_threads_the_fastest_is_built_upon(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ms = {None: 30.0, 4: 20.0, 2: 10.0, 1: 15.0}
    monkeypatch.setattr(module._Search, "_timed", by_rule(lambda choice: ms[choice.threads] - 3 * len(choice.rewrites)))
    monkeypatch.setattr(Bench, "latency", lambda self, engine, reference, full, again=0: Latency(7.0, 7.0, 200, 5.0, True))
    monkeypatch.setattr(module.machine, "usable_cores", lambda: 8)
    free = module.replace(options("fp32", limits=FEW_FLIPS), threads=None)
    bundle = search_bundle(tiny.model(), tmp_path / "part.edgead", free, asked(8.0))
    chosen = bundle.manifest.measured.search.chosen
    assert chosen is not None
    assert (chosen.threads, len(chosen.rewrites)) == (2, 1)


def test_smaller_inputs_are_tried_last_with_the_model_trained_again(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Search, "_timed", by_rule(lambda choice: 20.0 if choice.size is None else 10.0))
    monkeypatch.setattr(Bench, "latency", lambda self, engine, reference, full, again=0: Latency(10.0, 10.0, 200, 5.0, True))
    monkeypatch.setattr(module, "smaller_sizes", lambda size: [(64, 64)])
    trained: list[tuple[int, int]] = []

    def retrain(size: tuple[int, int], folder: Path, stop: Callable[[], bool]) -> None:
        trained.append(size)
        shutil.copytree(tiny.model(), folder)

    bundle = search_bundle(tiny.model(), tmp_path / "part.edgead", options("fp32"), asked(16.0, retrain=retrain))
    assert trained == [(64, 64)]
    assert bundle.manifest.measured.search.chosen is not None
    assert bundle.manifest.measured.search.chosen.size == (64, 64)
    (row,) = (row for row in bundle.manifest.measured.search.candidates or () if row.chosen)
    assert row.accuracy is not None
    assert row.accuracy.score_deviation < 1e-4  # from the model trained again, which its engine is true to


def test_without_its_pictures_a_model_is_not_trained_again_and_that_is_said(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(module, "axes_for", lambda *args: ())
    with pytest.raises(NothingMeets):
        search_bundle(
            tiny.model(), tmp_path / "p.edgead", options("fp32"), asked(0.001, why_not="it was imported"), note=notes.append
        )
    assert notes == ["input sizes left out: it was imported"]


def test_no_further_candidate_is_begun_when_the_time_is_up(tiny: Tiny, tmp_path: Path) -> None:
    notes: list[str] = []
    with pytest.raises(NothingMeets):
        search_bundle(tiny.model(), tmp_path / "p.edgead", options("fp32"), asked(0.001, minutes=0.0001), note=notes.append)
    assert "minutes are up" in notes[-1]


def test_the_threads_that_were_chosen_are_those_that_run(tiny: Tiny, tmp_path: Path) -> None:
    bundle = search_bundle(tiny.model(), tmp_path / "part.edgead", options("fp32"), asked(HOURS_MS))
    assert bundle.manifest.measured.search.chosen is not None
    assert bundle.manifest.measured.search.chosen.threads == searched_threads(bundle) == 1
    assert searched_threads(Bundle.open(tiny.bundle())) is None


def test_a_folder_that_is_not_a_bundle_is_refused_before_any_work(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a bundle"):
        search_bundle(tiny.model(), tmp_path, options(), asked(10.0))
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        search_bundle(tiny.model(), blocked / "p.edgead", options(), asked(10.0))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("budget_ms", "minutes"), [(0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (5.0, 0.0), (5.0, float("inf"))]
)
def test_values_that_make_no_sense(budget_ms: float, minutes: float) -> None:
    with pytest.raises(BadInput, match="not usable"):
        SearchOptions(budget_ms, FRAME, minutes)
