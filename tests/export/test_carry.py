"""What was tuned on the line survives an export over the same bundle, where scores still mean the same; else it is told."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from edgead.bundle import ON_THE_LINE, Bundle, Chosen, EngineRecord, Threshold, rewrite_manifest
from edgead.cli.main import main
from edgead.decision import PixelRule, Region
from edgead.export.carry import carry_over
from edgead.preprocess import PreprocessRecipe
from tests.bundles import Tiny

NAME = "onnxruntime-fp32"
REGIONS = (Region.rectangle(0.1, 0.1, 0.5, 0.5),)


@pytest.fixture
def tuned(tiny: Tiny, tmp_path: Path) -> Path:
    """A bundle with a threshold and a region of the line's."""
    bundle = Bundle.open(shutil.copytree(tiny.bundle(), tmp_path / "part.edgead"))
    record = bundle.manifest.engine(NAME)
    line = Threshold(
        record.threshold.value, "by hand", pixel=PixelRule(3.5, 2, REGIONS), by="area", chosen=Chosen(ON_THE_LINE, "2026-01-01")
    )
    rewrite_manifest(bundle, bundle.manifest.with_engine(record.changed(line)))
    return bundle.path


def told(work: Path) -> str:
    return (Bundle.open(work).manifest.measured.carried or {})[NAME]


def record(path: Path) -> EngineRecord:
    return Bundle.open(path).manifest.engine(NAME)


def changed(tiny: Tiny, tmp_path: Path, **values: object) -> Path:
    bundle = Bundle.open(shutil.copytree(tiny.bundle(), tmp_path / "work"))
    return rewrite_manifest(bundle, dataclasses.replace(bundle.manifest, **values)).path  # type: ignore[arg-type]


def test_the_lines_rule_and_its_history_go_over_to_the_same_model(tuned: Path, tiny: Tiny, tmp_path: Path) -> None:
    work = changed(tiny, tmp_path)
    exported = record(work).threshold
    carry_over(tuned, work, anew=False)
    after = record(work)
    assert after.threshold == record(tuned).threshold
    assert after.threshold.pixel is not None
    assert after.threshold.pixel.regions == REGIONS
    assert after.at_export == exported
    assert after.history == (exported, *record(tuned).history)
    assert told(work) == ""


def test_engines_of_other_bytes_are_asked(tuned: Path, tiny: Tiny, tmp_path: Path) -> None:
    """The same answers from another file: the bundle's files differ, its scores do not."""
    files = {**Bundle.open(tuned).manifest.files}
    work = changed(tiny, tmp_path)
    bundle = Bundle.open(tuned)
    files["notes.txt"] = "0" * 64
    before = Bundle(bundle.path, dataclasses.replace(bundle.manifest, files=files))
    from edgead.export.carry import _why_not

    assert _why_not(before, Bundle.open(work), record(tuned), anew=False) == ""


def test_another_model_gets_none_of_it_and_says_so(tuned: Path, tiny: Tiny, tmp_path: Path) -> None:
    work = shutil.copytree(tiny.bundle("simplenet"), tmp_path / "work")
    exported = record(work)
    carry_over(tuned, work, anew=False)
    assert record(work) == exported
    assert told(work)


def test_another_recipe_or_thresholds_asked_for_anew_get_none_of_it(tuned: Path, tiny: Tiny, tmp_path: Path) -> None:
    recipe = Bundle.open(tuned).manifest.preprocess
    work = changed(tiny, tmp_path, preprocess=dataclasses.replace(recipe, aspect="letterbox"))
    carry_over(tuned, work, anew=False)
    assert "recipe" in told(work)
    work = changed(tiny, tmp_path / "again")
    carry_over(tuned, work, anew=True)
    assert "--max-false-reject" in told(work)
    assert record(work).history == ()


def test_other_proportions_of_the_pictures_alone_change_nothing(tuned: Path, tiny: Tiny, tmp_path: Path) -> None:
    recipe: PreprocessRecipe = Bundle.open(tuned).manifest.preprocess
    work = changed(tiny, tmp_path, preprocess=dataclasses.replace(recipe, pictures=(640, 480)))
    carry_over(tuned, work, anew=False)
    assert told(work) == ""


def test_a_bundle_that_was_not_tuned_or_is_not_there_is_no_word(tiny: Tiny, tmp_path: Path) -> None:
    work = changed(tiny, tmp_path)
    before = Bundle.open(work).manifest
    carry_over(tmp_path / "nothing", work, anew=False)
    carry_over(tiny.bundle(), work, anew=False)
    assert Bundle.open(work).manifest == before


def test_export_over_a_tuned_bundle_keeps_it_and_says_what_became_of_it(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "part.edgead"
    quick = ["--backend", "onnxruntime", "--precision", "fp32", "--threads", "1", "--frames", "4"]
    assert main(["export", str(tiny.model()), "-o", str(target), *quick]) == 0
    assert main(["threshold", str(target), "--set", "17.5"]) == 0
    assert main(["export", str(tiny.model()), "-o", str(target), *quick]) == 0
    said = capsys.readouterr().out
    assert f"{NAME}: thresholds tuned on the line carried over" in said
    assert f"the bundle that was there is kept as {target}.versions/0001" in said
    assert record(target).threshold.value == 17.5
    assert record(target).at_export.value != 17.5
