"""Frames and parts: a frame serves at most one part, in whose window it was captured, and every frame is accounted for."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import CameraError, CameraLost, CameraTimeout, FrameDoubtful, UnreadableFrame
from edgead.runtime.loop.ledger import Part
from edgead.runtime.loop.matching import KEEP, Matcher
from edgead.runtime.loop.stats import Stats
from edgead.testing import FakeClock
from edgead.types import Frame, Trigger
from tests.runtime._line import GOOD

MS = 1_000_000


class Match:
    def __init__(self, **options: int) -> None:
        self.clock, self.stats = FakeClock(0, manual=True), Stats()
        self.matcher = Matcher(self.clock, self.stats, **options)
        self.frames = 0
        self.parts = 0

    def part(self, at_ms: int | None = None, deadline_ms: int = 100) -> Part:
        at_ns = self.clock.now_ns() if at_ms is None else at_ms * MS
        self.parts += 1
        part = Part(self.parts, Trigger(self.parts, at_ns), at_ns, at_ns + deadline_ms * MS)
        self.matcher.want(part)
        return part

    def frame(self, age_ms: int = 0) -> Frame:
        """One comes that was captured so long ago."""
        self.frames += 1
        frame = Frame(GOOD, "fake", self.frames, self.clock.now_ns() - age_ms * MS, age_ns=age_ms * MS)
        self.matcher.offer(frame)
        return frame

    def take(self, part: Part) -> Frame | CameraError | None:
        return self.matcher.take(part, 0)


def number(view: object) -> int | None:
    return view.frame_id if isinstance(view, Frame) else None


def test_the_first_frame_in_the_window_is_the_parts_and_carries_its_trigger() -> None:
    match = Match(delay_ns=10 * MS, window_ns=20 * MS)
    part = match.part()
    match.clock.advance(0.009)
    match.frame()
    match.clock.advance(0.001)
    mine = match.frame()
    match.frame()
    view = match.take(part)
    assert isinstance(view, Frame)
    assert (view.frame_id, view.trigger_id) == (mine.frame_id, part.part_id)


def test_nothing_comes_before_the_window_ends_and_then_it_is_a_timeout() -> None:
    match = Match(window_ns=20 * MS)
    part = match.part()
    match.clock.advance(0.020)
    assert match.take(part) is None
    match.clock.advance(0.001)
    match.frame()  # too late
    assert isinstance(match.take(part), CameraTimeout)


def test_a_frame_of_before_the_trigger_that_comes_after_it_is_nobodys() -> None:
    match = Match()
    match.clock.advance(2.0)
    part = match.part()
    for age_ms in (1900, 900, 1):
        match.frame(age_ms)
    assert match.take(part) is None
    mine = match.frame()
    assert number(match.take(part)) == mine.frame_id


def test_a_frame_that_was_captured_in_time_may_come_as_late_as_frames_do() -> None:
    match = Match(window_ns=20 * MS)
    match.clock.advance(1)
    match.frame(age_ms=30)
    part = match.part()
    match.clock.advance(0.045)
    assert match.take(part) is None
    mine = match.frame(age_ms=30)
    assert number(match.take(part)) == mine.frame_id


def test_nobody_waits_for_a_late_frame_when_a_later_one_has_come() -> None:
    match = Match(window_ns=20 * MS)
    match.clock.advance(1)
    match.frame(age_ms=500)
    part = match.part()
    match.clock.advance(0.060)
    match.frame(age_ms=30)
    assert isinstance(match.take(part), CameraTimeout)


def test_a_part_waits_for_late_frames_no_longer_than_its_deadline() -> None:
    match = Match(window_ns=20 * MS)
    match.clock.advance(5)
    match.frame(age_ms=3000)
    part = match.part(deadline_ms=100)
    match.clock.advance(0.100)
    assert match.take(part) is None
    match.clock.advance(0.001)
    assert isinstance(match.take(part), CameraTimeout)


def test_frames_that_may_be_old_are_the_reason_why_a_part_has_none() -> None:
    match = Match(window_ns=20 * MS)
    match.matcher.fault(FrameDoubtful("held up"))
    match.clock.advance(0.001)
    before = match.part()
    match.clock.advance(0.021)
    assert isinstance(match.take(before), CameraTimeout)  # they were of before its trigger
    match.matcher.done(before)
    part = match.part()
    match.matcher.fault(FrameDoubtful("held up"))
    assert match.take(part) is None  # a fresh one may come
    match.clock.advance(0.021)
    assert isinstance(match.take(part), FrameDoubtful)


def test_a_part_takes_no_more_frames_than_it_needs() -> None:
    match = Match(window_ns=50 * MS)
    first = match.part()
    taken = match.frame().frame_id
    match.frame()
    match.clock.advance(0.001)
    second = match.part()
    assert [number(match.take(first)), match.take(second)] == [taken, None]


def test_a_lost_picture_is_never_replaced_by_the_next_parts() -> None:
    match = Match()
    first = match.part()
    match.clock.advance(0.010)
    second = match.part()
    mine = match.frame()
    assert isinstance(match.take(first), CameraTimeout)
    assert number(match.take(second)) == mine.frame_id


def test_what_came_before_the_trigger_was_learned_of_is_found_also_a_fault() -> None:
    match = Match(views=2)
    match.clock.advance(0.010)
    match.frame()
    match.matcher.fault(UnreadableFrame("torn"))
    match.clock.advance(0.010)
    part = match.part(at_ms=5)
    assert number(match.take(part)) == 1
    assert isinstance(match.take(part), UnreadableFrame)


def test_only_a_few_frames_are_kept() -> None:
    match = Match()
    for _ in range(KEEP + 5):
        match.frame()
    assert match.stats.drops == {"unused": 5}


def test_a_lost_camera_fails_whoever_waits_until_it_is_tried_again() -> None:
    match = Match(views=2)
    part = match.part()
    match.frame()
    match.matcher.fault(CameraLost("unplugged"))
    assert number(match.take(part)) == 1
    assert isinstance(match.take(part), CameraLost)
    assert isinstance(match.take(match.part()), CameraLost)
    match.matcher.back()
    assert match.take(match.part()) is None


def test_parts_that_were_closed_elsewhere_are_forgotten() -> None:
    match = Match()
    for _ in range(1000):
        part = match.part()
        match.frame()
        part.closed = True
        match.clock.advance(0.001)
    assert len(match.matcher._wants) <= 1
    match.matcher.clear()
    assert sum(match.stats.drops.values()) == match.frames


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("trigger"), st.integers(0, 8)),  # learned of so many ms after it happened
        st.tuples(st.just("frame"), st.just(0)),
        st.tuples(st.just("fault"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 15)),
        st.tuples(st.just("serve"), st.just(0)),
        st.tuples(st.just("late"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(EVENTS, st.integers(1, 3), st.integers(0, 10), st.integers(1, 30))
def test_any_order_of_events_matches_rightly_and_loses_no_frame(
    events: list[tuple[str, int]], views: int, delay_ms: int, window_ms: int
) -> None:
    match = Match(views=views, delay_ns=delay_ms * MS, window_ns=window_ms * MS)
    match.clock.advance(1)
    waiting: list[Part] = []
    served: list[tuple[Part, list[Frame]]] = []
    newest_ms = 0
    for event, value in events:
        if event == "trigger":
            newest_ms = max(newest_ms, match.clock.now_ns() // MS - value)
            waiting.append(match.part(at_ms=newest_ms))
        elif event == "frame":
            match.frame()
        elif event == "fault":
            match.matcher.fault(UnreadableFrame("torn"))
        elif event == "wait":
            match.clock.advance(value / 1000)
        elif waiting and event == "late":
            waiting.pop(0).closed = True
        elif waiting:
            part = waiting.pop(0)
            found = [match.take(part) for _ in range(views)]
            match.matcher.done(part)
            served.append((part, [view for view in found if isinstance(view, Frame)]))
    match.matcher.clear()
    used = [frame for _, frames in served for frame in frames]
    assert len({frame.frame_id for frame in used}) == len(used)
    assert [frame.frame_id for frame in used] == sorted(frame.frame_id for frame in used)
    assert len(used) + sum(match.stats.drops.values()) == match.frames
    for part, frames in served:
        first, last = match.matcher.window(part)
        for frame in frames:
            assert part.start_ns + delay_ms * MS == first <= frame.captured_at_ns <= last
            assert frame.trigger_id == part.part_id
