"""Maps at the network's own resolution, and no maps: the score stays, and what is done with maps means the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.bundle import Bundle
from edgead.calibration.judging.deviation import Limits
from edgead.cli.main import main
from edgead.decision import PixelRule, enlarged
from edgead.engines import open_engine
from edgead.engines.proof import prove
from edgead.engines.verify import verify_engine
from edgead.export import ExportOptions, export_bundle
from edgead.families.efficientad.network import EfficientAd
from edgead.families.patchcore.network import PatchCore
from edgead.models.detector import Detector
from edgead.models.patches import PatchFeatures
from edgead.models.rewrites import Material, Rewrite, Setting
from edgead.models.rewrites.maps import REWRITES
from edgead.models.rows import load_features
from edgead.models.wrappers.resized import Resized
from edgead.trained import load_model
from tests.bundles import FAMILIES, SIZES, Tiny, part, write_parts

FEATURE_MAP, SCORE_ONLY = REWRITES
GRIDS = {"patchcore": 8, "simplenet": 8, "efficientad": 32}
NOTHING = Material(lambda: iter(()))


def changed(detector: Detector, one: Rewrite = FEATURE_MAP) -> Detector | None:
    with torch.no_grad():
        return one.apply(detector, True, NOTHING)


def answers(detector: Detector, size: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    pictures = np.stack([part(100, size), part(300, size, defect=True)])
    with torch.no_grad():
        anomaly_map, score = detector(torch.from_numpy(pictures))
    return anomaly_map.numpy(), score.numpy()


def same_but_small(detector: Detector, size: int, grid: int) -> None:
    small = changed(detector)
    assert small is not None
    (before, score), (after, same) = answers(detector, size), answers(small, size)
    assert after.shape == (2, grid, grid)
    np.testing.assert_allclose(same, score, rtol=1e-6)
    wide = np.stack([enlarged(one, before.shape[1:]) for one in after])
    assert np.abs(wide - before).max() < 2e-6 * max(np.ptp(before), np.abs(before).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_score_stays_and_the_enlarged_map_is_the_map(tiny: Tiny, family: str) -> None:
    same_but_small(load_model(tiny.model(family))[0], SIZES[family], GRIDS[family])


@pytest.mark.parametrize(("pad_maps", "grid"), [(False, 24), ("normalized", 32)])
def test_imported_efficientads_keep_their_own_way_to_the_picture(pad_maps: bool | str, grid: int) -> None:
    torch.manual_seed(0)
    detector = EfficientAd.build({"size": "small", "pad_maps": pad_maps}, (128, 128)).eval()
    same_but_small(detector, 128, grid)


def test_a_blurred_map_stays_as_it_is() -> None:
    features: PatchFeatures = load_features("efficientnet_lite0", None, None)
    smooth = {"map": {"upsample": "bilinear", "sigma": 4, "radius": 16, "border": "reflect"}}
    detector = PatchCore.from_bank(features, torch.randn(4, features.channels), 1, (64, 64), smooth)
    assert changed(detector) is None
    assert changed(detector, SCORE_ONLY) is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_score_only_is_one_cell_with_the_same_score(tiny: Tiny, family: str) -> None:
    detector = load_model(tiny.model(family))[0]
    both = changed(changed(detector) or detector, SCORE_ONLY)
    for told in (changed(detector, SCORE_ONLY), both):
        assert told is not None
        anomaly_map, score = answers(told, SIZES[family])
        np.testing.assert_allclose(score, answers(detector, SIZES[family])[1], rtol=1e-6)
        assert np.array_equal(anomaly_map, score[:, None, None])
        assert changed(told) is None


def test_the_given_detector_is_not_touched(tiny: Tiny) -> None:
    detector = load_model(tiny.model("efficientad"))[0]
    before = answers(detector, 128)
    for one in REWRITES:
        changed(detector, one)
    for was, now in zip(before, answers(detector, 128), strict=True):
        assert np.array_equal(was, now)


def test_behind_a_resize_too(tiny: Tiny) -> None:
    inner = load_model(tiny.model("simplenet"))[0]
    small = changed(inner)
    assert small is not None
    (_, score), (after, same) = _behind(inner), _behind(small)
    assert after.shape == (1, 8, 8)
    assert same == pytest.approx(score)


def _behind(inner: Detector) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    picture = torch.from_numpy(part(7, 96))[None]
    with torch.no_grad():
        anomaly_map, score = Resized(inner, (96, 96), False)(picture)
    return anomaly_map.numpy(), score.numpy()


@pytest.fixture(scope="module")
def bundles(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One engine each, of the same model with its whole map, a small one, and none."""
    folder = tmp_path_factory.mktemp("maps")
    wide = Limits(max_flips=1.0, max_auroc_drop=1.0, max_score_deviation=1e6)
    for name in ("plain", "feature_map", "score_only"):
        asked: dict[str, Setting] = {} if name == "plain" else {name: True}
        options = ExportOptions(("onnxruntime",), ("fp32",), limits=wide, frames_per_class=4, rewrites=asked, threads=1)
        export_bundle(tiny.model("patchcore"), folder / f"{name}.edgead", options)
    return {name: folder / f"{name}.edgead" for name in ("plain", "feature_map", "score_only")}


def test_a_bundle_proves_its_small_map_against_the_trained_models(bundles: dict[str, Path]) -> None:
    for name, grid in (("feature_map", 8), ("score_only", 1)):
        bundle = Bundle.open(bundles[name])
        assert bundle.golden().reference.maps.shape[1:] == (64, 64)
        assert {t.name: t.shape for t in bundle.manifest.outputs}["anomaly_map"] == (1, grid, grid)
        verified = verify_engine(bundle, "onnxruntime-fp32", threads=1)
        assert verified.passed
        engine = open_engine(bundle, threads=1)
        assert prove(bundle, bundle.manifest.engine(), engine) == np.median(bundle.golden().reference.maps)  # as edgead run does
        engine.close()
        assert (verified.parity.map_error > 0) == (name == "feature_map")  # compared, or there is nothing to compare


def test_areas_mean_the_same_on_a_small_map(bundles: dict[str, Path], tmp_path: Path) -> None:
    write_parts(tmp_path / "good", range(400, 412), 64)
    chosen: dict[str, PixelRule] = {}
    areas: dict[str, list[int]] = {}
    for name in ("plain", "feature_map"):
        assert main(["threshold", str(bundles[name]), "--by", "area", "--min-area", "40", "--good", str(tmp_path / "good")]) == 0
        bundle = Bundle.open(bundles[name])
        pixel = bundle.manifest.engine().threshold.pixel
        assert pixel is not None and pixel.min_area_px == 40
        chosen[name] = pixel
        engine = open_engine(bundle, threads=1)
        level = 0.9 * pixel.threshold
        areas[name] = [pixel.largest_area(engine.infer(part(seed, 64, defect=True))[1], level) for seed in range(3)]
        engine.close()
    assert chosen["feature_map"].grid == (64, 64) and chosen["plain"].grid is None
    assert chosen["feature_map"].threshold == pytest.approx(chosen["plain"].threshold, rel=1e-5)
    assert max(abs(small - whole) for small, whole in zip(areas["feature_map"], areas["plain"], strict=True)) <= 1
    assert max(areas["plain"]) > 40


def test_areas_without_a_map_are_refused_in_one_line(bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["threshold", str(bundles["score_only"]), "--by", "area", "--set", "1.0"]) == 2
    told = capsys.readouterr().err
    assert "needs an anomaly map, and this engine tells only a score" in told
    assert Bundle.open(bundles["score_only"]).manifest.engine().threshold.pixel is None
