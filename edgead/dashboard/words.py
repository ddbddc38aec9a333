"""Why a part was judged as it was, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgead.manifest import Threshold
from edgead.thresholds.conformal import images_needed, percent

TIGHTER = (0.01, 0.005, 0.001)
"""False-reject rates that people ask for."""

CAUSES: Mapping[str, str] = {
    "late": "the verdict was not there by its deadline",
    "engine_hang": "an earlier part still occupies the engine",
    "trigger_overrun": "more triggers waited than the station takes",
    "camera_timeout": "no picture came from the camera in time",
    "camera_lost": "the camera is gone: cable, power, network",
    "frame_lost": "the camera counted a picture that never arrived",
    "frame_doubtful": "the picture may belong to another part",
    "unreadable_image": "the picture came damaged",
    "bad_frame": "the picture is not one that the model can use",
    "part_not_found": "the part was not found in the picture, or not all of it",
    "wrong_size": "the picture has another size than the first one: somebody changed the camera's settings",
    "frozen_picture": "the camera gave the same picture again and again",
    "stale": "only old pictures came",
    "selfcheck_failed": "the engine does not answer known pictures as the trained model did",
    "end_of_stream": "the recording was over",
    "engine_error": "the engine failed",
    "score_not_finite": "the engine gave no number",
    "map_not_finite": "the engine gave no usable map",
    "no_map": "the engine gave no map, and the rule needs one",
    "unsure": "between good and bad: the rule has an UNKNOWN band",
    "view_missing": "one of the part's pictures is missing",
    "settling": "OK, but not yet for long enough",
    "late_output": "decided in time, but told after the deadline",
    "not_recorded": "its record was not safe in time",
    "gate_missing": "the part was at the reject gate before its verdict",
    "stopped": "the station stopped while the part was open",
    "stale_trigger": "the trigger came too late",
}
"""What causes mean (docs/station.md says what to look at)."""


def cause_words(cause: str) -> str:
    """A cause for people; the cause itself where there is nothing to add."""
    if not cause:
        return ""
    kind, _, detail = cause.partition(":")
    told = CAUSES.get(kind.strip(), kind.strip().replace("_", " "))
    return f"{told} ({detail.strip()})" if detail.strip() else told


def why(row: Mapping[str, Any], facts: Mapping[str, Any] | None) -> list[str]:
    """Lines: what was compared with what, and how long each stage took."""
    lines = []
    if row["cause"]:
        lines.append(f"{row['verdict']}: {cause_words(row['cause'])}")
    score, threshold = row["score"], row["threshold"]
    by_area = facts is not None and facts["by"] == "area"
    if by_area and row["statistic"] is not None:
        lines.append(f"the largest hot piece has {row['statistic']:.0f} map pixels at pixel threshold {_number(threshold)}")
    elif score is not None and threshold is not None:
        side = "at or above" if score >= threshold else "below"
        lines.append(f"score {_number(score)} is {side} the threshold {_number(threshold)}")
    if facts is not None:
        lines.append(f"rule: {facts['says']}")
    stages = {"waiting": "wait_ms", "resize": "resize_ms", "inference": "inference_ms", "decision": "decision_ms"}
    took = ", ".join(f"{name} {row[key]:.1f} ms" for name, key in stages.items() if row[key] is not None)
    if took and row["total_ms"] is not None:
        lines.append(f"{took}; together {row['total_ms']:.1f} ms")
    if row["engine"]:
        lines.append(f"judged by {row['engine']}")
    return lines


def _number(value: float) -> str:
    return f"{value:.5g}"


def guarantee(threshold: Threshold) -> str:
    """What is promised of a threshold."""
    chosen = threshold.chosen
    if chosen is None:
        return f"no guarantee ({threshold.method})"
    told = []
    if chosen.expected_false_reject is not None:
        told.append(f"good parts NG: {percent(chosen.expected_false_reject)} expected, no guarantee ({chosen.crossfit})")
    if chosen.false_reject_rate is not None and chosen.false_reject_bound is not None:
        rates = f"at most {percent(chosen.false_reject_rate)} on average"
        told.append(f"good parts NG: {rates}, {percent(chosen.false_reject_bound)} with {percent(chosen.confidence)} confidence")
    if chosen.miss_rate is not None and chosen.miss_bound is not None:
        rates = f"at most {percent(chosen.miss_rate)} on average"
        told.append(f"defects missed: {rates}, {percent(chosen.miss_bound)} with {percent(chosen.confidence)} confidence")
    return "; ".join(told) or f"no guarantee ({threshold.method})"


def more_good(threshold: Threshold) -> str:
    """How many more good pictures tighter promises need; "" when none of `TIGHTER` does."""
    good = threshold.chosen.good if threshold.chosen is not None else 0
    needs = [(rate, images_needed(rate) - good) for rate in TIGHTER if images_needed(rate) > good]
    return "; ".join(f"{percent(rate)} needs {count} more good pictures" for rate, count in needs)
