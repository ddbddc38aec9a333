from typing import Any

from benchmarks.coreset import _keeping


def bank(rows: int, dims: int, size: int, *aurocs: float) -> dict[str, Any]:
    return {"rows": rows, "dims": dims, "bytes": size, "aurocs": list(aurocs)}


BASE = bank(800, 152, 9000, 96.0, 97.0)


def test_a_bank_between_two_that_lose_too_much_is_not_claimed() -> None:
    lucky = [bank(800, 16, 400, 95.9, 96.9), bank(400, 16, 200, 95.0, 96.0), bank(200, 16, 100, 96.0, 97.0)]
    assert _keeping([BASE, *lucky])["bytes"] == 400


def test_every_draw_counts_and_every_way_to_store_as_many_rows() -> None:
    one_draw_off = bank(400, 64, 300, 96.4, 96.4)  # the mean loses nothing, the second draw 0.6
    assert _keeping([BASE, bank(800, 64, 500, 96.0, 97.0), one_draw_off])["bytes"] == 500
    stored_otherwise = [bank(400, 32, 250, 96.0, 97.0), bank(400, 32, 150, 95.0, 97.0)]
    assert _keeping([BASE, bank(800, 32, 450, 96.0, 97.0), *stored_otherwise])["bytes"] == 450
