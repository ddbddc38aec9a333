"""When a picture was made: the camera's clock mapped to ours, or, without one, whether pictures come as they are made.

Pure: all times are passed in, integer nanoseconds. Nothing here knows a device.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np

MS = 1_000_000
DRIFT = 1e-3
"""How far two clocks may run apart, as a share: crystals differ by 0.0001, a clock that NTP slews by up to 0.0005."""
FALL_NS = 20 * MS
"""A delay that is shorter by more than this than any before: the source's clock was set, or a backlog comes in."""
SETTLE_NS = 500 * MS
"""For so long no shorter delay may turn up before the smallest one is believed."""
ANCHOR_NS = 1000 * MS
LEAP_NS = 100 * MS

HISTORY = 256
"""Intervals from which a source's own rate is learned; after a change of rate it takes half as many."""
SMOOTH = 8
"""Intervals that are averaged first: pictures may come in pairs or triples."""
LONGEST_NS = 10_000 * MS
"""A backlog is never longer than this."""
LONG_NS = 10_000 * MS
"""After so long a backlog is over, or what was learned of the source is wrong."""
SLACK_NS = 60 * MS
"""A picture that comes late by less than this, by one interval of up to twice this, or by a quarter of any, is not doubted."""


class ClockMap:
    """Maps the clock of a source to ours by the smallest delay that was observed.

    A picture with the source's time `s` arrives at our time `a` = s + difference of the clocks + its delay. The smallest a - s so
    far stands for the difference plus the smallest delay: with it every picture gets the moment at which it would have arrived
    without being held up. Clocks may drift by 0.1 % either way: the smallest a - s may grow by so much. A source time that goes
    back (a reset, a wrap, a clock that was set) begins anew; one that leaps ahead is taken on at once. After both nothing is
    `settled` for half a second, because a backlog that comes in while nothing is known yet looks the same; nor is it after a leap
    in the midst of a backlog, which may hide behind it.

    The smallest delay itself stays unknown, unless both clocks are read together (`tie`).

    Attributes:
        settled: the last `stamp` can be believed.
    """

    def __init__(self) -> None:
        self.settled = False
        self._offset_ns: int | None = None  # the smallest a - s
        self._arrived_ns = self._source_ns = 0  # of the last picture
        self._step_ns = 0  # of the source's time, to the last picture
        self._anchor = (0, 0)  # what the offset was about a second ago, and when
        self._since_ns = 0  # when a shorter delay turned up last

    def stamp(self, arrived_ns: int, source_ns: int) -> int:
        """When a picture was made, our time, never later than `arrived_ns`. Pictures come in their order."""
        arrived_ns = max(arrived_ns, self._arrived_ns)
        offset_ns = arrived_ns - source_ns
        if self._offset_ns is None or source_ns < self._source_ns:
            self._begin(arrived_ns, offset_ns)
        else:
            self._offset_ns = min(self._offset_ns + round(DRIFT * (arrived_ns - self._arrived_ns)), offset_ns)
            self._watch(arrived_ns, offset_ns)
            step_ns, gap_ns = source_ns - self._source_ns, arrived_ns - self._arrived_ns
            if self._step_ns and step_ns > max(2 * gap_ns, 3 * self._step_ns + LEAP_NS):
                self._since_ns = arrived_ns
            self._step_ns = step_ns
        self._arrived_ns, self._source_ns = arrived_ns, source_ns
        self.settled = arrived_ns - self._since_ns >= SETTLE_NS
        assert self._offset_ns is not None
        return source_ns + self._offset_ns

    def tie(self, asked_ns: int, at_ns: int, source_ns: int) -> None:
        """Both clocks were read: between our times `asked_ns` and `at_ns` the source's showed `source_ns`."""
        offset_ns = at_ns - source_ns
        if self._offset_ns is not None:
            known_ns = self._offset_ns + round(DRIFT * max(0, at_ns - self._arrived_ns))
            offset_ns = min(max(known_ns, asked_ns - source_ns), offset_ns)
        self._offset_ns, self._anchor, self._since_ns = offset_ns, (offset_ns, at_ns), at_ns - SETTLE_NS
        self._arrived_ns = max(self._arrived_ns, at_ns)

    def _begin(self, arrived_ns: int, offset_ns: int) -> None:
        self._offset_ns, self._anchor, self._since_ns = offset_ns, (offset_ns, arrived_ns), arrived_ns

    def _watch(self, arrived_ns: int, offset_ns: int) -> None:
        """Did the delay fall by more than clocks drift and pictures jitter?"""
        before_ns, at_ns = self._anchor
        if offset_ns < before_ns - FALL_NS - round(DRIFT * (arrived_ns - at_ns)):
            self._begin(arrived_ns, offset_ns)
        elif arrived_ns - at_ns > ANCHOR_NS:
            assert self._offset_ns is not None
            self._anchor = (self._offset_ns, arrived_ns)


class Pace:
    """Tells pictures that come as they are made from a backlog, by their arrival alone.

    The source's own interval is learned (a median, so that stalls and jitter do not count). After a gap that is longer, what
    comes may have been made at any time in the gap: it is doubted until as many pictures came as belong into the gap, the last
    one not in a rush; or until they come for a while at the source's own rate: then the source itself had paused. While the rate
    is not known yet, after opening, what comes faster than what follows is a backlog, too.

    Args:
        fresh: the source began with us: what comes first cannot be old.
    """

    def __init__(self, *, fresh: bool = False) -> None:
        self._opening = not fresh
        self._doubted = not fresh
        self._gaps: deque[int] = deque(maxlen=HISTORY)
        self._times: deque[int] = deque()  # arrivals while in doubt
        self._last_ns: int | None = None
        self._since_ns = 0  # when the doubt began
        self._behind_ns = 0  # how old the last picture may have been
        self._paid_ns = 0  # when it may have been old last
        self._stall_ns = 0  # the gap that the doubt is about
        self._longest_ns = 0  # gap while opening
        self._period_ns = 0
        self._unlearned = 0  # gaps since the interval was learned

    def arrived(self, at_ns: int) -> bool:
        """A picture came: is it certainly fresh?"""
        gap_ns = at_ns - self._last_ns if self._last_ns is not None else 0
        first, self._last_ns = self._last_ns is None, at_ns
        if first:
            self._since_ns = at_ns
        if self._opening:
            self._open(at_ns, gap_ns)
        elif not first:
            self._doubt(at_ns, gap_ns) if self._doubted else self._trust(at_ns, gap_ns)
        return not self._doubted

    def _open(self, at_ns: int, gap_ns: int) -> None:
        """In doubt until pictures came for a while as fast as just before, without a gap longer than any so far."""
        if gap_ns > 2 * self._longest_ns:
            self._longest_ns, self._since_ns = gap_ns, at_ns
            self._times.clear()
        self._times.append(at_ns)
        span_ns = max(SETTLE_NS // 2, 3 * gap_ns // 2)
        if at_ns - self._since_ns < 2 * span_ns:
            return
        while self._times[0] <= at_ns - 2 * span_ns:
            self._times.popleft()
        newer = sum(time_ns > at_ns - span_ns for time_ns in self._times)
        older = len(self._times) - newer
        if older <= 1.3 * newer + 1 and newer <= 1.3 * older + 1:
            for earlier, later in pairwise(list(self._times)[-2 * SMOOTH :]):
                self._learn(later - earlier)
            self._opening = self._doubted = False
            self._times.clear()

    def _trust(self, at_ns: int, gap_ns: int) -> None:
        if self._period_ns:
            slow_ns = gap_ns - 5 * self._period_ns // 4  # a little slower, or now and then one left out, is the source's own way
            faster_ns = max(0, self._period_ns - gap_ns) + gap_ns // 8
            self._behind_ns = max(0, self._behind_ns + (slow_ns if slow_ns > 0 else -faster_ns))
            if self._behind_ns > self._slack_ns():
                self._doubted, self._since_ns, self._stall_ns = True, at_ns, gap_ns
                self._times.clear()
                return
        self._learn(gap_ns)

    def _doubt(self, at_ns: int, gap_ns: int) -> None:
        rushed = 2 * gap_ns < self._period_ns
        self._behind_ns = min(max(0, self._behind_ns + gap_ns - self._period_ns), LONGEST_NS)
        if self._behind_ns:
            self._paid_ns = at_ns
        if gap_ns - self._period_ns > self._slack_ns():  # held up again; or the source has become slower
            self._learn(self._stall_ns)
            self._since_ns, self._stall_ns = at_ns, gap_ns
            self._times.clear()
        elif 4 * gap_ns > 5 * self._period_ns or not self._behind_ns or at_ns - self._since_ns > LONG_NS:
            self._learn(gap_ns)  # else it may be a backlog, which says nothing about the source's rate
        self._times.append(at_ns)
        paid = self._behind_ns <= self._slack_ns() and (not rushed or at_ns - self._paid_ns > SETTLE_NS)
        if paid or self._steady(at_ns):
            self._doubted, self._behind_ns = False, 0

    def _steady(self, at_ns: int) -> bool:
        """No faster than by itself for a while: nothing was held back."""
        span_ns = max(SETTLE_NS, self._behind_ns // 2, 2 * self._period_ns)
        if at_ns - self._since_ns < span_ns:
            return False
        while self._times[0] <= at_ns - span_ns:
            self._times.popleft()
        return len(self._times) <= 1.05 * span_ns / self._period_ns + 0.5

    def _slack_ns(self) -> int:
        return max(SLACK_NS, min(self._period_ns, 2 * SLACK_NS), self._period_ns // 4)

    def _learn(self, gap_ns: int) -> None:
        self._gaps.append(gap_ns)
        self._unlearned += 1
        if len(self._gaps) < 4 or (len(self._gaps) > HISTORY // 4 and self._unlearned < SMOOTH):
            return
        self._unlearned = 0
        many = min(SMOOTH, len(self._gaps))
        sums = np.concatenate(([0], np.cumsum(self._gaps)))
        self._period_ns = max(1, int(np.median(sums[many:] - sums[:-many])) // many)
