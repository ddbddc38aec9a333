"""What holds for every published method that is a family with other options, on tiny parts; families: test_families.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.errors import BadInput
from edgead.export.graph import write_onnx
from edgead.families import FAMILIES, method, methods
from edgead.families.contract import LITE, PAPER, Defect, FitData
from edgead.models.detector import Detector
from tests.bundles import part
from tests.contracts.quick import QUICK

SIDE = 64
FP32_LIMIT = 1e-4
"""Of the range of the trained model's answers on these pictures; the same for the map."""

ours = [
    name for name in methods() if any(name == family or name in [p.name for p in FAMILIES[family].presets] for family in FAMILIES)
]
every = pytest.mark.parametrize("name", ours)


def fitted(name: str, seed: int = 0) -> Detector:
    family, preset = method(name)
    side = max(SIDE, family.size_rule({}).sides()[1]) if family.sizes else SIDE
    defects = [Defect(part(400 + i, side, defect=True)) for i in range(4)] if family.needs_defects else []
    data = FitData([part(i, side) for i in range(10)], (side, side), seed, defects=defects)
    return family.bound({**preset.values(LITE), **QUICK.get(name, {})})(data)


@pytest.fixture(scope="module")
def trained_once() -> Callable[[str], Detector]:
    made: dict[str, Detector] = {}

    def once(name: str) -> Detector:
        if name not in made:
            made.clear()  # they are asked for one after another
            made[name] = fitted(name)
        return made[name]

    return once


def pictures(side: int) -> np.ndarray:
    """Good and defective parts, black, white, grey."""
    even = [np.full((side, side, 3), grey, np.uint8) for grey in (0, 255, 119)]
    return np.stack([*(part(50 + i, side, defect=i == 2) for i in range(3)), *even])


@pytest.mark.parametrize("name", [name for name in methods() if name not in FAMILIES])
def test_the_same_seed_gives_the_same_model(trained_once: Callable[[str], Detector], name: str) -> None:
    was, again = trained_once(name).state_dict(), fitted(name).state_dict()
    assert list(again) == list(was)
    assert all(torch.equal(again[key], was[key]) for key in was)


@every
def test_engines_answer_as_the_model_also_on_black_white_and_even_pictures(
    trained_once: Callable[[str], Detector], name: str, tmp_path: Path
) -> None:
    """With one and with two threads, the same bits each time; in a process of its own, so that a crash fails this test alone."""
    detector = trained_once(name)
    images = pictures(detector.image_size[0])
    with torch.no_grad():
        answers = [detector(torch.from_numpy(one[None])) for one in images]
    maps, scores = (torch.cat(one).numpy() for one in zip(*answers, strict=True))
    assert maps.shape == images.shape[:3] and scores.shape == images.shape[:1]
    assert np.isfinite(maps).all() and np.isfinite(scores).all()
    write_onnx(detector, tmp_path / "graph.onnx")
    np.save(tmp_path / "pictures.npy", images)
    command = [
        sys.executable,
        "-m",
        "tests.contracts._answers",
        *(str(tmp_path / n) for n in ("graph.onnx", "pictures.npy", "out.npz")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(tmp_path / "out.npz")
    for engine in ("onnxruntime", "openvino1", "openvino2"):
        for what, mine in (("map", maps), ("score", scores)):
            theirs = found[f"{engine}_{what}"]
            assert np.array_equal(theirs, found[f"{engine}_again_{what}"]), f"{engine}: other bits for the same picture"
            if what == "map":
                theirs = theirs.reshape(len(images), *theirs.shape[-2:])
            assert np.abs(theirs - mine).max() <= FP32_LIMIT * np.ptp(mine), f"{engine}: {what}"


@every
def test_presets_name_options_that_the_family_has(name: str) -> None:
    family, preset = method(name)
    assert (preset.name, bool(preset.title), bool(preset.source)) == (name, True, True)
    for how in (LITE, *([PAPER] if preset.paper else [])):
        family.options_type().of(family.name, preset.values(how))
    if preset.paper:
        assert preset.gave_up
    else:
        with pytest.raises(BadInput, match="has no preset paper"):
            preset.values(PAPER)


@pytest.mark.parametrize("name", [name for name in ours if method(name)[1].paper])
def test_the_papers_network_takes_pictures_of_the_papers_size(name: str) -> None:
    """Its shapes alone: nothing is multiplied."""
    family, preset = method(name)
    side = preset.px(PAPER)
    rule = family.size_rule(preset.values(PAPER))
    with torch.device("meta"):
        anomaly_map, score = rule.unfitted((side, side), None)(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    assert (anomaly_map.shape, score.shape) == ((1, side, side), (1,))


def test_names_are_taken_once() -> None:
    names = [preset.name for family in FAMILIES.values() for preset in family.presets]
    assert len(names) == len(set(names))
    assert not [
        preset.name for family in FAMILIES.values() for preset in family.presets if preset.name in FAMILIES.keys() - {family.name}
    ]
    with pytest.raises(BadInput, match="unknown model 'mona'"):
        method("mona")
