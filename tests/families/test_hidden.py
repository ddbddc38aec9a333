"""Methods that rebuild what is hidden, moved or rearranged: trained on tiny parts, saved and loaded."""

from pathlib import Path

import pytest
import torch

from edgead.errors import BadInput
from edgead.families import method
from edgead.families.contract import LITE, FitData
from edgead.families.reconstruction.network import Reconstruction
from edgead.families.reconstruction.options import ReconstructionOptions
from edgead.models.parts.hiding import Superpixels
from edgead.models.rows import to_pixels
from edgead.trained import load_model
from tests.bundles import part, saved
from tests.contracts.quick import QUICK

NAMES = ("scadn", "smai", "partial", "projection", "intra", "pnet", "puzzle")
IMAGES = [part(i, 64) for i in range(8)]


def fitted(name: str, **more: object) -> Reconstruction:
    family, preset = method(name)
    made = family.bound({**preset.values(LITE), **QUICK[name], **more})(FitData(IMAGES, (64, 64)))
    assert isinstance(made, Reconstruction)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_answers_as_the_fitted_one(name: str, tmp_path: Path) -> None:
    detector, pixels = fitted(name), to_pixels([part(20, 64), part(21, 64, defect=True)])
    saved(tmp_path, detector)
    loaded, _ = load_model(tmp_path)
    for mine, theirs in zip(detector.detect(pixels), loaded.detect(pixels), strict=True):
        assert torch.equal(mine, theirs)
        assert float(mine.min()) >= 0.0
    alone = detector.detect(pixels[1:])
    torch.testing.assert_close(alone[0], detector.detect(pixels)[0][1:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["scadn", "puzzle"])
def test_ways_are_told_against_good_pictures(name: str) -> None:
    detector = fitted(name)
    usual = detector.masking.usual
    assert (usual > 1e-5).all() and len(set(usual.tolist())) == len(usual)


def test_a_critic_changes_what_stripes_are_filled_with() -> None:
    """As the paper trains it (--preset paper)."""
    alone, contested = fitted("scadn"), fitted("scadn", adversary=0.001, critic="nsgan", critic_lr=0.1)
    mine, theirs = (dict(made.network.named_parameters())["last.weight"] for made in (alone, contested))
    assert not torch.equal(mine, theirs)
    assert bool(torch.isfinite(theirs).all())


def test_cells_of_the_mean_picture_are_saved(tmp_path: Path) -> None:
    detector, irregular = fitted("smai", superpixels="mean"), fitted("smai", superpixels="jitter")
    saved(tmp_path, detector)
    loaded, _ = load_model(tmp_path)
    assert isinstance(loaded, Reconstruction) and isinstance(loaded.masking, Superpixels)
    assert isinstance(irregular.masking, Superpixels)
    assert torch.equal(loaded.masking.hidden, detector.masking.hidden)
    assert not torch.equal(loaded.masking.hidden, irregular.masking.hidden)


def test_edges_are_measured_on_good_pictures_once_for_all_who_compare_them() -> None:
    detector = fitted("pnet")
    assert not torch.equal(detector.network.edges.middle, torch.full((2,), 0.05))
    assert torch.equal(detector.network.edges.middle, detector.error.errors["structure"].edges.middle)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"moves": 5, "masking": "disjoint"}, "--moves is nothing for network ae, masking disjoint, neck none"),
        ({"moves": 5, "network": "unet"}, "--moves is nothing for network unet"),
        ({"moves": 5, "neck": "memory"}, "--moves is nothing for network ae, masking none, neck memory"),
        ({"alpha": 1.0}, "--alpha and --keep are nothing without steps"),
        ({"orders": 4}, "--orders is nothing for network ae, masking none"),
        ({"patch": 8}, "--patch is nothing for network ae"),
    ],
)
def test_what_does_not_apply_is_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        ReconstructionOptions(**values)  # type: ignore[arg-type]
