"""Which of several models is best, and how sure that is."""

import numpy as np
import pytest

from edgead.calibration.judging.rivals import FEWEST, Said, best_shares, judge_all, real_decide

NONE = np.empty(0, np.float32)


def said(apart: float, seed: int = 0, real_apart: float | None = None, count: int = 40) -> Said:
    """A model that puts `apart` deviations between good pictures and drawn defects, and `real_apart` before real ones."""
    rng = np.random.default_rng(seed)
    good, drawn = (rng.normal(mean, 1, count).astype(np.float32) for mean in (0.0, apart))
    if real_apart is None:
        return Said(good, drawn, NONE, NONE)
    return Said(good, drawn, *(rng.normal(mean, 1, count).astype(np.float32) for mean in (0.0, real_apart)))


def test_a_model_that_is_clearly_better_is_the_best_in_nearly_all_drawings() -> None:
    judged = judge_all({"blind": said(0.0), "sharp": said(3.0)})
    assert list(judged) == ["sharp", "blind"]
    assert judged["sharp"].best > 0.99
    assert judged["sharp"].auroc - judged["sharp"].half > judged["blind"].auroc + judged["blind"].half
    assert judged["sharp"].real_auroc is None


def test_models_that_answer_alike_share() -> None:
    judged = judge_all({"one": said(1.0), "same": said(1.0)})
    assert [one.best for one in judged.values()] == [0.5, 0.5]


def test_models_that_are_hardly_told_apart_are_not_sure() -> None:
    shares = best_shares({"a": said(1.0, 1).sides(False), "b": said(1.0, 2).sides(False)})
    assert sum(shares.values()) == pytest.approx(1.0)
    assert 0.02 < min(shares.values()) <= max(shares.values()) < 0.98


def test_real_defects_decide_where_there_are_enough_of_them() -> None:
    models = {"on drawn": said(3.0, 1, real_apart=0.0), "on real": said(0.5, 2, real_apart=3.0)}
    assert real_decide(models)
    assert list(judge_all(models)) == ["on real", "on drawn"]
    few = {name: Said(one.good, one.drawn, one.real_good, one.real[: FEWEST - 1]) for name, one in models.items()}
    assert not real_decide(few)
    judged = judge_all(few)
    assert list(judged) == ["on drawn", "on real"]
    assert judged["on real"].real_auroc is not None and judged["on real"].real_auroc > 0.9  # told all the same


def test_held_out_pictures_stand_beside_real_defects_without_labelled_good_ones() -> None:
    one = said(3.0, real_apart=3.0)
    without = Said(one.good, one.drawn, NONE, one.real)
    assert without.decides
    assert len(without.sides(True)[0]) == len(one.good)
