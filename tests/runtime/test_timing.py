"""When pictures were made: simulated cameras, clocks and networks, for hours, without a clock that ticks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from edgead.runtime.cameras.timing import ClockMap, Pace

S = 1_000_000_000
START_NS = 1_000 * S  # our clock when the source begins
DELAY_S = 0.02  # of every picture, at least


@dataclass(frozen=True)
class Picture:
    """When it was made and when it arrived, seconds."""

    made: float
    arrived: float

    @property
    def arrived_ns(self) -> int:
        return START_NS + round(self.arrived * S)


Jitter = Callable[[random.Random], float]
JITTERS: dict[str, Jitter] = {
    "none": lambda _: 0.0,
    "some": lambda r: r.expovariate(1 / 0.005),
    "80 ms": lambda r: 0.08 * r.random(),
    "spikes": lambda r: r.expovariate(1 / 0.004) + (0.12 if r.random() < 0.01 else 0.0),
}


def stream(
    rate: float,
    seconds: float,
    jitter: str = "some",
    *,
    stalls: tuple[tuple[float, float], ...] = (),
    speed: float | None = None,
    left_out: float = 0.0,
) -> Iterator[Picture]:
    """Pictures over a connection that keeps their order, stalls at (moment, for so long) and catches up at `speed` times the
    source's own rate; a share of them is never sent."""
    chance = random.Random(7)
    free = 0.0
    for number in range(int(rate * seconds)):
        made = number / rate
        if chance.random() < left_out:
            continue
        arrived = max(free, made + DELAY_S + JITTERS[jitter](chance))
        for begin, length in stalls:
            if begin <= arrived < begin + length:
                arrived = begin + length
        free = arrived + (1 / (speed * rate) if speed else 0.0005)
        yield Picture(made, arrived)


# Without a clock of the source


@dataclass(frozen=True)
class Trust:
    """What a Pace made of a stream: the share that it doubted, the oldest picture that it did not, and until when it doubted."""

    doubted: float
    oldest_s: float
    last_doubt_s: float


def trust(pictures: Iterator[Picture], pace: Pace | None = None) -> Trust:
    pace = pace or Pace()
    all_of_them = list(pictures)
    fresh = [pace.arrived(picture.arrived_ns) for picture in all_of_them]
    ages = [picture.arrived - picture.made for picture, good in zip(all_of_them, fresh, strict=True) if good]
    doubts = [picture.arrived for picture, good in zip(all_of_them, fresh, strict=True) if not good]
    return Trust(len(doubts) / len(fresh), max(ages), max(doubts, default=0.0))


@pytest.mark.parametrize("rate", [1, 5, 10, 25, 60, 120])
@pytest.mark.parametrize("jitter", ["none", "some", "80 ms"])
def test_a_healthy_camera_is_believed(rate: float, jitter: str) -> None:
    """Promise 2 the other way round: for an hour, or 18,000 pictures."""
    found = trust(stream(rate, min(3600, 18_000 / rate), jitter))
    assert found.doubted < 0.03


def test_a_camera_that_leaves_pictures_out_is_believed() -> None:
    for rate, most in ((5, 0.08), (10, 0.04), (25, 0.02)):
        assert trust(stream(rate, 1200, left_out=0.02)).doubted < most


def test_a_camera_that_changes_its_rate_is_believed_after_a_while() -> None:
    moments = [n / 30 for n in range(3000)] + [100 + n / 5 for n in range(1, 1000)] + [300 + n / 30 for n in range(3000)]
    found = trust(Picture(moment, moment + DELAY_S) for moment in moments)
    assert found.doubted < 0.04


def test_a_source_that_began_with_us_is_believed_at_once() -> None:
    assert trust(stream(25, 60, "none"), Pace(fresh=True)).doubted == 0


@pytest.mark.parametrize(
    ("rate", "length"), [(1, 1.3), (1, 2.9), *((rate, length) for rate in (5, 10, 25, 60) for length in (0.6, 1.3, 2.9))]
)
def test_nothing_of_a_backlog_is_believed(rate: float, length: float) -> None:
    found = trust(stream(rate, 200, stalls=((100.3, length),)))
    assert found.oldest_s < 0.13
    assert 100.3 + length <= found.last_doubt_s < 101.3 + length + 4 / rate


@pytest.mark.parametrize("speed", [5.0, 2.0, 1.5, 1.2])
@pytest.mark.parametrize("length", [0.2, 0.6, 2.0])
def test_nothing_of_a_backlog_that_comes_in_slowly_is_believed(speed: float, length: float) -> None:
    assert trust(stream(25, 60, stalls=((20, length),), speed=speed)).oldest_s < 0.13


def test_two_stalls_in_a_row_with_a_picture_in_between() -> None:
    found = trust(stream(25, 60, stalls=((20, 1.0), (21.002, 1.5))))
    assert found.oldest_s < 0.13


@pytest.mark.parametrize(("every", "length"), [(2.5, 1.5), (1.0, 0.3), (4.0, 2.9)])
def test_stalls_again_and_again_cost_what_they_hold_up_and_no_more(every: float, length: float) -> None:
    pace = Pace()
    stalls = tuple((10 + every * n, length) for n in range(100))
    after = [end for begin, _ in stalls if (end := begin + length)]
    fresh = [picture.arrived for picture in stream(25, 10 + 100 * every, stalls=stalls) if pace.arrived(picture.arrived_ns)]
    for end in after:
        assert any(end < moment < end + 0.7 for moment in fresh)


@pytest.mark.parametrize("seed", range(20))
def test_any_stalls_on_any_connection(seed: int) -> None:
    """Once the rate is known: nothing older than the jitter that cannot be told apart, and believed again when it is over."""
    chance = random.Random(seed)
    rate, speed = chance.choice([5, 10, 25, 60]), chance.choice([None, 10.0, 5.0, 2.0])
    first, second = chance.uniform(10, 20), chance.uniform(22, 30)
    stalls = (first, chance.uniform(0.2, 2.9)), (second, chance.uniform(0.2, 2.9))
    found = trust(
        stream(rate, 60, chance.choice(["none", "some"]), stalls=stalls, speed=speed, left_out=chance.choice([0, 0.01]))
    )
    assert found.oldest_s < 0.25
    assert found.doubted < 0.2


@pytest.mark.parametrize("begin", [0.0, 0.05, 0.3])
def test_a_backlog_at_the_first_connection(begin: float) -> None:
    found = trust(stream(25, 30, stalls=((begin, 1.3),)))
    assert found.oldest_s < 0.13
    assert found.last_doubt_s < begin + 1.3 + 1.0


def test_a_camera_that_paused_by_itself_is_believed_again_soon() -> None:
    pictures = [picture for picture in stream(25, 60) if not 20 < picture.made < 22]
    found = trust(iter(pictures))
    assert found.last_doubt_s < 23.5


# With a clock of the source


@dataclass(frozen=True)
class Mapped:
    """What a ClockMap made of a stream: the share not settled, and of the others how much too late or too early they are said
    to be made (seconds; the smallest delay is not counted)."""

    unsettled: float
    too_late_s: float
    too_early_s: float


def mapped(pictures: Iterator[Picture], source: Callable[[float], float], clock: ClockMap | None = None) -> Mapped:
    clock = clock or ClockMap()
    wrong = []
    count = 0
    for picture in pictures:
        made_ns = clock.stamp(picture.arrived_ns, round(source(picture.made) * S))
        assert made_ns <= picture.arrived_ns
        count += 1
        if clock.settled:
            wrong.append((made_ns - START_NS) / S - picture.made - DELAY_S)
    return Mapped(1 - len(wrong) / count, max(wrong), -min(wrong))


@pytest.mark.parametrize("drift", [0.0, 2e-4, -2e-4, 5e-4, -5e-4])
@pytest.mark.parametrize(("rate", "jitter"), [(1, "80 ms"), (25, "some"), (25, "80 ms"), (25, "spikes")])
def test_clocks_that_drift_are_mapped_for_hours(rate: float, jitter: str, drift: float) -> None:
    found = mapped(stream(rate, 7200 if rate < 2 else 1800, jitter), lambda made: 50 + made * (1 + drift))
    assert found.unsettled < 0.01
    assert found.too_late_s < 0.06
    assert found.too_early_s < 0.001


@pytest.mark.parametrize("speed", [None, 5.0, 2.0, 1.2])
def test_a_backlog_is_seen_as_old(speed: float | None) -> None:
    """To a millisecond for each second that nothing came without delay."""
    stalls = ((60, 2.0), (62.1, 2.5))
    found = mapped(stream(25, 120, "none", stalls=stalls, speed=speed), lambda made: made)
    assert found.too_late_s < 0.03
    assert found.unsettled < 0.01


@pytest.mark.parametrize("speed", [None, 2.0, 1.2])
def test_pictures_held_up_before_anything_is_known_are_not_believed(speed: float | None) -> None:
    found = mapped(stream(25, 60, "none", stalls=((0, 1.3),), speed=speed), lambda made: made)
    assert found.too_late_s < 0.025


@pytest.mark.parametrize("step", [3600.0, 1.0, 0.1, -0.1, -1.0, -3600.0])
def test_a_source_clock_that_is_set_is_mapped_anew(step: float) -> None:
    found = mapped(stream(25, 120), lambda made: 5000 + made + (step if made > 60 else 0))
    assert found.too_late_s < 0.03 and found.too_early_s < 0.001
    assert found.unsettled < 0.02


@pytest.mark.parametrize("step", [2.0, 0.5, -0.5, -2.0])
def test_a_source_clock_that_is_set_during_a_stall(step: float) -> None:
    stalls = ((60, 2.0),)
    found = mapped(stream(25, 120, "none", stalls=stalls), lambda made: 5000 + made + (step if made > 60.5 else 0))
    assert found.too_late_s < 0.03


def test_a_source_clock_that_wraps_or_begins_anew() -> None:
    found = mapped(stream(25, 120), lambda made: made % 47.7)
    assert found.too_late_s < 0.03 and found.too_early_s < 0.001
    assert found.unsettled < 0.02


def test_a_path_that_is_longer_for_good_is_forgotten_only_slowly() -> None:
    """A network that takes a second longer from now on: the pictures are a second older, and stay so for minutes."""
    clock = ClockMap()
    for number in range(25 * 120):
        made = number / 25
        arrived = made + DELAY_S + (1.0 if made > 60 else 0.0)
        made_ns = clock.stamp(START_NS + round(arrived * S), round(made * S))
    assert (START_NS + round(arrived * S) - made_ns) / S == pytest.approx(1.0, abs=0.07)


def test_clocks_that_were_read_together_show_the_delay_itself() -> None:
    clock = ClockMap()
    clock.tie(START_NS, START_NS, 500 * S)
    made_ns = clock.stamp(START_NS + round(1.03 * S), 501 * S)
    assert clock.settled
    assert (made_ns - START_NS) / S == pytest.approx(1.0, abs=0.002)


def test_a_picture_from_before_the_clocks_were_read_together_is_no_step() -> None:
    clock = ClockMap()
    clock.stamp(START_NS, 500 * S)
    clock.tie(START_NS + S, START_NS + S, 501 * S)
    made_ns = clock.stamp(START_NS + round(1.01 * S), round(500.9 * S))
    assert clock.settled
    assert (made_ns - START_NS) / S == pytest.approx(0.9, abs=0.002)
