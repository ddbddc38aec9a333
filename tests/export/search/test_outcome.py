"""What a search tells when it is over."""

from __future__ import annotations

import dataclasses
import json

from edgead.calibration.deviation import Limits
from edgead.export.search.outcome import nothing, rows
from tests.export.search.records import accuracy, record

LIMITS = Limits(1.0, 0.005, 1e6)


def test_it_names_the_fastest_within_the_loss_and_the_most_accurate_within_the_budget() -> None:
    slow, lossy, worse = record(7.1, 0, "a"), record(4.0, 1, "b"), record(3.0, 2, "c")
    assert nothing([slow, lossy, worse], 5.0, LIMITS) == (
        "no engine answers within 5 ms at p99 with at most 0.005 of AUROC lost; fastest within the loss: 7.1 ms (openvino-fp32 "
        "rows=a); most accurate within 5 ms: openvino-fp32 rows=b, loses 0.0500"
    )


def test_when_all_are_too_slow_it_names_the_fastest_of_all_also_if_nobody_knows_what_it_loses() -> None:
    unknown = dataclasses.replace(record(6.0, 0, "b"), accuracy=None)
    failed = dataclasses.replace(record(1.0, 0, "c"), failed="no")
    told = nothing([record(7.1, 0, "a"), unknown, failed], 5.0, LIMITS)
    assert told.endswith("fastest within the loss: 7.1 ms (openvino-fp32 rows=a); fastest of all: 6.0 ms (openvino-fp32 rows=b)")
    assert "most accurate" not in told
    assert nothing([failed], 5.0, LIMITS).endswith("AUROC lost")


def test_a_row_says_what_follows_from_the_figures_and_fits_a_manifest() -> None:
    records = [record(7.1, 0, "a"), record(4.0, 1, "b"), dataclasses.replace(record(9.0, 0, "c"), latency=None, failed="no")]
    found = rows(records, records[0], accuracy(), 5.0, LIMITS)
    assert [(row["chosen"], row["meets"], row["front"]) for row in found] == [
        (True, False, True),
        (False, True, True),
        (False, False, False),
    ]
    assert [row["accuracy"]["within_loss"] for row in found] == [True, False, True]
    assert "good" not in found[0]["accuracy"]
    assert json.loads(json.dumps(found)) == found
