"""What a search tells when it is over."""

from __future__ import annotations

import dataclasses
import json

from edgead.calibration.judging.deviation import Limits
from edgead.export.search.outcome import nothing, rows
from edgead.measured import Candidate
from edgead.typed import plain, read
from tests.export.search.records import accuracy, record

LIMITS = Limits(1.0, 0.005, 1e6)


def test_it_names_the_fastest_within_the_loss_and_the_most_accurate_within_the_budget() -> None:
    slow, lossy, worse = record(7.1, 0, "a"), record(4.0, 1, "b"), record(3.0, 2, "c")
    assert nothing([slow, lossy, worse], 5.0, LIMITS) == (
        "no engine answers within 5 ms at p99 and loses no more than is tolerated; fastest within the loss: 7.1 ms "
        "(openvino-fp32 rows=a); most accurate within 5 ms: openvino-fp32 rows=b (AUROC 0.9500 of 1.0000 (allowed drop 0.005))"
    )


def test_it_says_which_limit_the_most_accurate_one_breaks() -> None:
    flips = dataclasses.replace(record(4.0, 0, "b"), accuracy=accuracy(flips=9))
    told = nothing([flips], 5.0, Limits(0.05, 0.005, 1e6))
    assert told.endswith("most accurate within 5 ms: openvino-fp32 rows=b (9 of 40 labels flip (allowed 2))")


def test_when_all_are_too_slow_it_names_the_fastest_of_all_also_if_nobody_knows_what_it_loses() -> None:
    unknown = dataclasses.replace(record(6.0, 0, "b"), accuracy=None)
    failed = dataclasses.replace(record(1.0, 0, "c"), failed="no")
    told = nothing([record(7.1, 0, "a"), unknown, failed], 5.0, LIMITS)
    assert told.endswith("fastest within the loss: 7.1 ms (openvino-fp32 rows=a); fastest of all: 6.0 ms (openvino-fp32 rows=b)")
    assert "most accurate" not in told
    assert nothing([failed], 5.0, LIMITS).endswith("tolerated")


def test_a_row_says_what_follows_from_the_figures_and_fits_a_manifest() -> None:
    records = [record(7.1, 0, "a"), record(4.0, 1, "b"), dataclasses.replace(record(9.0, 0, "c"), latency=None, failed="no")]
    found = rows(records, records[0], accuracy(), 5.0, LIMITS)
    assert [(row.chosen, row.rest["meets"], row.front) for row in found] == [
        (True, False, True),
        (False, True, True),
        (False, False, False),
    ]
    assert [row.accuracy is not None and row.accuracy.within_loss for row in found] == [True, False, True]
    assert "good" not in plain(found[0])["accuracy"]
    assert read(tuple[Candidate, ...], json.loads(json.dumps(plain(found)))) == found
