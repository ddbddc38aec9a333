"""How verdicts become one: of several views of a part, and of consecutive frames of a free-running station."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgead.errors import BadInput
from edgead.runtime.records.basis import SETTLING
from edgead.types import Inspection, StageTimes, Verdict


@dataclass(frozen=True, slots=True)
class Combine:
    """The verdict on a part of which several frames were taken.

    ======================================================  =========
    views                                                   part
    ======================================================  =========
    `ng_views` or more are NG                               NG
    fewer are NG, and at least one is UNKNOWN or missing    UNKNOWN
    fewer are NG, all others are OK                         OK
    ======================================================  =========

    So NG is told only when it is certain, whatever the UNKNOWN views show, and OK only when every view is OK or NG and at least
    ``views - ng_views + 1`` are OK.

    Attributes:
        views: frames for each part.
        ng_views: so many NG views make the part NG: 1 is "any", `views` is "all".

    Raises:
        BadInput: not 1 <= ng_views <= views.
    """

    views: int = 1
    ng_views: int = 1

    def __post_init__(self) -> None:
        if self.views < 1:
            raise BadInput(f"{self.views} frames for each part cannot be inspected", hint="give 1 or more")
        if not 1 <= self.ng_views <= self.views:
            raise BadInput(
                f"{self.ng_views} NG views of {self.views} frames for each part cannot be", hint=f"choose 1 to {self.views}"
            )

    @classmethod
    def named(cls, views: int, how: str | int = "any") -> Combine:
        """From "any", "all" or the number of NG views that make a part NG.

        Raises:
            BadInput: another word, or a number out of range.
        """
        if isinstance(how, str) and how not in ("any", "all"):
            raise BadInput(f"views cannot be combined by {how!r}", hint='use "any", "all" or a number of NG views')
        return cls(views, views if how == "all" else 1 if how == "any" else int(how))

    def verdict(self, verdicts: Sequence[Verdict]) -> Verdict:
        """One verdict of those on at most `views` views; missing ones count as UNKNOWN."""
        ng = sum(verdict is Verdict.NG for verdict in verdicts)
        ok = sum(verdict is Verdict.OK for verdict in verdicts)
        if ng >= self.ng_views:
            return Verdict.NG
        return Verdict.OK if ng + ok == self.views else Verdict.UNKNOWN

    def inspection(self, views: Sequence[Inspection]) -> Inspection:
        """The part's inspection; picture, map, score and cause are those of the view that decided.

        That is the NG view with the largest score, for OK the view with the largest, for UNKNOWN the first that is.
        """
        verdict = self.verdict([view.verdict for view in views])
        if len(views) == self.views == 1:
            return views[0]
        same = [view for view in views if view.verdict is verdict]
        if verdict is Verdict.UNKNOWN:
            chosen = same[0] if same else replace(views[0], cause="view_missing")
        else:
            chosen = max(same, key=lambda view: view.score)
        times = StageTimes(
            resize_ms=sum(view.times.resize_ms for view in views),
            inference_ms=sum(view.times.inference_ms for view in views),
            decision_ms=sum(view.times.decision_ms for view in views),
        )
        return replace(chosen, verdict=verdict, times=times, views=tuple(views))


class Settle:
    """Debounce and hysteresis of what a free-running station signals: away from OK at once, back to OK only when it is sure.

    Until then a frame that is OK is told with the verdict that was told before it (NG or UNKNOWN), cause "settling".

    Args:
        frames: consecutive OK frames that lead (back) to OK; 1 is at once.
        margin: hysteresis, raw model units: while it is not OK, a frame counts as OK only with a score below its threshold
            minus `margin`.

    Raises:
        BadInput: fewer than 1 frame, or a margin below 0.
    """

    def __init__(self, frames: int = 1, margin: float = 0.0) -> None:
        if frames < 1:
            raise BadInput(f"settling in {frames} frames means nothing", hint="give 1 (at once) or more")
        if not margin >= 0:
            raise BadInput(f"a hysteresis of {margin} means nothing", hint="give 0 (none) or more, raw model units")
        self._frames, self._margin = frames, margin
        self._told = Verdict.UNKNOWN
        self._good = 0

    def __call__(self, inspection: Inspection) -> Inspection:
        """What is signalled for this frame; call it with each one, in order."""
        if inspection.verdict is not Verdict.OK:
            self._told, self._good = inspection.verdict, 0
            return inspection
        if self._told is Verdict.OK:
            return inspection
        sure = self._margin == 0 or inspection.score < inspection.threshold - self._margin
        self._good = self._good + 1 if sure else 0
        if self._good >= self._frames:
            self._told = Verdict.OK
            return inspection
        return replace(inspection, verdict=self._told, cause=SETTLING)
