"""Opening a trained model's folder: what is not known here is not damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgead.errors import BadInput
from edgead.trained import load_model
from tests.bundles import Tiny


def test_a_family_of_another_edgead_is_told_as_unknown(tiny: Tiny, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.model("patchcore"), tmp_path / "model"))
    file = folder / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "family": "flow"}))
    with pytest.raises(BadInput, match=r"family 'flow', which this edgead .* does not know") as caught:
        load_model(folder)
    assert "known here: efficientad" in caught.value.hint
    file.write_text(json.dumps({**json.loads(file.read_text()), "family": ["flow"]}))
    with pytest.raises(BadInput, match="family is a list of 1, expected a text"):
        load_model(folder)


@pytest.mark.parametrize(("key", "value"), [("created_at", None), ("tool", 3), ("source", ["x"])])
def test_an_origin_of_the_wrong_kind_is_told_before_anything_is_built(
    tiny: Tiny, tmp_path: Path, key: str, value: object
) -> None:
    """Not ten seconds later, as a fault of a manifest that the user has never seen."""
    folder = Path(shutil.copytree(tiny.model("patchcore"), tmp_path / "model"))
    file = folder / "model.json"
    card = json.loads(file.read_text())
    file.write_text(json.dumps({**card, "origin": {**card["origin"], key: value}}))
    with pytest.raises(BadInput, match=rf"model\.json .*origin\.{key} is "):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "says"), [("layers", "config: 'layers' is missing"), (None, r"config: efficientnet_lite0 has no layer .nowhere.")]
)
def test_what_is_wrong_with_a_config_is_named(tiny: Tiny, tmp_path: Path, key: str | None, says: str) -> None:
    folder = Path(shutil.copytree(tiny.model("patchcore"), tmp_path / "model"))
    file = folder / "model.json"
    card = json.loads(file.read_text())
    if key is None:
        card["config"]["layers"] = ["nowhere"]
    else:
        del card["config"][key]
    file.write_text(json.dumps(card))
    with pytest.raises(BadInput, match=rf"is damaged: model\.json: {says}"):
        load_model(folder)
