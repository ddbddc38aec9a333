"""Defects among the good pictures are among the oddest, in every family's own features."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.preprocess import PreprocessRecipe
from edgead.trained import load_model
from edgead.training.crossfit import Scored
from edgead.training.fit import TrainRequest, train
from edgead.training.oddest import find_oddest
from tests.bundles import Tiny
from tests.training._parts import draw_part, write_good


@pytest.mark.parametrize("family", ["patchcore", "simplenet", "efficientad"])
def test_a_defect_is_the_oddest_in_the_features_of_every_family(family: str, tiny: Tiny) -> None:
    detector, _ = load_model(tiny.model(family))
    px = detector.image_size[0]
    pairs = [(Path(f"{i}.png"), draw_part(i, px=px)) for i in range(12)]
    spoilt = (Path("spoilt.png"), draw_part(3000, defect=True, px=px))
    found = find_oddest(detector, [*pairs[:10], spoilt], pairs[10:], scored=Scored((Path("11.png"),), np.ones(1), 1, ""))
    assert found[0].file.name == "spoilt.png"
    assert found[0].times > 1.3
    assert found[-1].file.name == "11.png" or any(one.file.name == "11.png" for one in found[:5])
    assert [one.heldout for one in found if one.file.name in ("10.png", "11.png", "spoilt.png")].count(False) == 1


def test_a_defect_among_the_good_ones_is_named_by_training(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 14)
    cv2.imwrite(str(folder / "777.png"), draw_part(3000, defect=True))
    result = train(TrainRequest("patchcore", folder, tmp_path / "out", PreprocessRecipe(64, 64), {"coreset": 200}))
    first = result.oddest[0]
    assert (first.file.name, first.odd) == ("777.png", True)
    assert not any(one.odd for one in result.oddest[1:])
    assert result.scored.files[result.scored.order()[0]] in {one.file for one in result.oddest}
    assert load_model(tmp_path / "out")[1].oddest[0].file == "777.png"
