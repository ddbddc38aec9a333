from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from edgead.errors import BadInput
from edgead.families.efficientad.network import EfficientAd, load_teacher
from edgead.families.efficientad.pdn import build_pdn
from edgead.trained import load_model
from tests.bundles import saved


def _small(image_size: tuple[int, int] = (128, 128)) -> EfficientAd:
    torch.manual_seed(0)
    detector = EfficientAd.build({"size": "small"}, image_size)
    return detector.eval().requires_grad_(False)


def test_answers_as_anomalib_does_with_its_weights(shared_data: Path) -> None:
    folder = shared_data / "checkpoints/anomalib"
    if not (folder / "efficient_ad_small.ckpt").is_file():
        pytest.skip(f"no anomalib checkpoint in {folder}")
    state = torch.load(folder / "efficient_ad_small.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    detector = EfficientAd.build({"size": "small"}, (256, 256)).eval()
    detector.load_state_dict({name[6:]: tensor for name, tensor in state.items() if name.startswith("model.")})
    with np.load(folder / "efficient_ad_small_ref.npz") as reference:
        pictures = torch.from_numpy(reference["image_rgb_u8"][:2]).permute(0, 3, 1, 2).float()
        raw_map, raw_score = reference["raw_map"][:2, 0], reference["raw_score"][:2, 0]
    with torch.no_grad():  # anomalib resizes in float, bilinear
        anomaly_map, score = detector.detect(F.interpolate(pictures, (256, 256), mode="bilinear", align_corners=False))
    np.testing.assert_allclose(anomaly_map.numpy(), raw_map, atol=1e-4)
    np.testing.assert_allclose(score.numpy(), raw_score, atol=1e-4)


@pytest.mark.parametrize("image_size", [(128, 128), (160, 224), (256, 256)])
def test_every_multiple_of_32_works(image_size: tuple[int, int]) -> None:
    detector = _small(image_size)
    image = torch.randint(0, 256, (1, *image_size, 3), dtype=torch.uint8)
    with torch.no_grad():
        anomaly_map, score = detector(image)
        code = detector.ae.encoder(torch.zeros(1, 3, *image_size))
    assert anomaly_map.shape == (1, *image_size) and score.shape == (1,)
    assert float(score) == float(anomaly_map.max())
    assert code.shape == (1, 64, 1, 1)


@pytest.mark.parametrize("image_size", [(100, 128), (96, 96)])
def test_other_sizes_are_refused_with_one_that_works(image_size: tuple[int, int]) -> None:
    with pytest.raises(BadInput) as caught:
        EfficientAd.build({"size": "small"}, image_size)
    assert "128" in caught.value.hint or "96" not in caught.value.hint


def test_a_shared_trunk_changes_nothing_when_the_hidden_layers_are_equal() -> None:
    separate = _small()
    separate.mean_std.mean.uniform_(-1, 1)
    separate.mean_std.std.uniform_(0.5, 2)
    for layer in ("conv1", "conv2", "conv3"):
        separate.student.get_submodule(layer).load_state_dict(separate.teacher.get_submodule(layer).state_dict())
    shared = EfficientAd.build({"size": "small", "shared_trunk": True}, (128, 128)).eval()
    shared.load_state_dict(separate.state_dict())
    pixels = torch.rand(1, 3, 128, 128) * 255
    with torch.no_grad():
        x = separate.normalize(pixels)
        plain = (separate.describe(x) - separate.student(x)[:, :384]).square().mean(1)  # as the paper writes it
        for detector in (separate, shared):
            difference = detector.raw_maps(pixels)[0]
            torch.testing.assert_close(difference.mean(), plain.sum() / 32**2, rtol=1e-4, atol=0)
            torch.testing.assert_close(difference, separate.raw_maps(pixels)[0], rtol=1e-4, atol=1e-6)


def test_medium_has_the_same_map() -> None:
    with torch.no_grad():
        detector = EfficientAd.build({"size": "medium"}, (128, 128)).eval()
        assert detector(torch.zeros(1, 128, 128, 3, dtype=torch.uint8))[0].shape == (1, 128, 128)


def test_saved_and_loaded_answers_are_equal(tmp_path: Path) -> None:
    detector = _small()
    detector.quantiles.qb_st.fill_(0.3)
    saved(tmp_path, detector, "part")
    loaded, card = load_model(tmp_path)
    image = torch.randint(0, 256, (1, 128, 128, 3), dtype=torch.uint8)
    assert card.name == "part"
    torch.testing.assert_close(loaded(image), detector(image), rtol=0, atol=0)


def _teacher_files(tmp_path: Path) -> dict[str, Path]:
    weights = build_pdn("small").state_dict()
    files = {
        kind: tmp_path / f"{kind}.{suffix}"
        for kind, suffix in (("edgead", "safetensors"), ("anomalib", "pth"), ("numbered", "pth"))
    }
    save_file(
        {name: tensor.half() for name, tensor in weights.items()},
        files["edgead"],
        metadata={"edgead_teacher": "1", "size": "small"},
    )
    torch.save(weights, files["anomalib"])
    numbers = {"conv1": "0", "conv2": "3", "conv3": "6", "conv4": "8"}  # of an nn.Sequential without names
    torch.save({f"{numbers[n.split('.')[0]]}.{n.split('.')[1]}": t for n, t in weights.items()}, files["numbered"])
    return files


def test_a_teacher_loads_from_every_known_layout(tmp_path: Path) -> None:
    loaded = {kind: load_teacher(file, "small") for kind, file in _teacher_files(tmp_path).items()}
    for state in loaded.values():
        torch.testing.assert_close(state, loaded["anomalib"], rtol=1e-3, atol=1e-4)  # half precision in one of them
        build_pdn("small").load_state_dict(state)


def test_other_files_are_refused_as_teachers(tmp_path: Path) -> None:
    file = _teacher_files(tmp_path)["edgead"]
    with pytest.raises(BadInput, match=r"no PDN teacher of size medium.*it says: small"):
        load_teacher(file, "medium")
    with pytest.raises(BadInput, match="no packaged teacher of size medium"):
        load_teacher(None, "medium")
    with pytest.raises(BadInput, match="no weight file"):
        load_teacher(tmp_path / "absent.pth", "small")
    whole = tmp_path / "whole.pth"
    torch.save(build_pdn("small"), whole)  # a pickled module, as EfficientAD's own code saves it
    with pytest.raises(BadInput, match="Sequential', which no known model file needs; it was refused and nothing was executed"):
        load_teacher(whole, "small")
