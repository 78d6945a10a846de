# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.waiting import (
    SYSTEM_CLOCK,
    Deadline,
    DeadlineExpired,
    SystemClock,
    backoff,
    poll_until,
)
from tests.unit.clock import FakeClock


def test_deadline_counts_down_and_never_below_zero() -> None:
    clock = FakeClock()
    deadline = Deadline(5, clock)
    assert (deadline.remaining(), deadline.expired) == (5, False)
    clock.now += 4
    assert (deadline.remaining(), deadline.expired) == (1, False)
    clock.now += 4
    assert (deadline.remaining(), deadline.expired) == (0, True)
    assert deadline.seconds == 5


def test_sleep_ends_at_the_deadline() -> None:
    clock = FakeClock()
    deadline = Deadline(1.5, clock)
    deadline.sleep(1)
    deadline.sleep(1)
    assert clock.slept == [1, 0.5]
    assert deadline.expired


def test_poll_returns_what_the_first_successful_probe_saw() -> None:
    clock = FakeClock()
    seen = iter([None, None, 0])
    assert poll_until(lambda: next(seen), deadline=Deadline(9, clock), intervals=[0.5, 2]) == 0
    assert clock.slept == [0.5, 2]


def test_the_last_interval_repeats() -> None:
    clock = FakeClock()
    seen = iter([None, None, None, "x"])
    poll_until(lambda: next(seen), deadline=Deadline(9, clock), intervals=(1,))
    assert clock.slept == [1, 1, 1]


def test_poll_gives_up_at_the_deadline_and_says_after_how_long() -> None:
    clock = FakeClock()
    probes = []
    with pytest.raises(DeadlineExpired, match=r"2\.5 s"):
        poll_until(lambda: probes.append(1), deadline=Deadline(2.5, clock), intervals=[1])
    assert clock.slept == [1, 1, 0.45]
    assert len(probes) == 4


def test_an_expired_deadline_still_allows_one_look() -> None:
    clock = FakeClock()
    deadline = Deadline(0, clock)
    assert poll_until(lambda: "there", deadline=deadline, intervals=[1]) == "there"
    with pytest.raises(DeadlineExpired):
        poll_until(lambda: None, deadline=deadline, intervals=[1])


def test_a_long_interval_does_not_sleep_the_last_look_away() -> None:
    clock = FakeClock()
    seen = iter([None, "there"])
    assert poll_until(lambda: next(seen), deadline=Deadline(20, clock), intervals=[60]) == "there"
    assert clock.slept == [18]


def test_what_a_probe_raises_ends_the_wait() -> None:
    def probe() -> None:
        raise KeyError("gone")

    clock = FakeClock()
    with pytest.raises(KeyError):
        poll_until(probe, deadline=Deadline(9, clock), intervals=[1])
    assert clock.slept == []


def test_an_expired_deadline_is_a_timeout_error() -> None:
    assert issubclass(DeadlineExpired, TimeoutError)


def test_backoff_grows_to_its_ceiling() -> None:
    assert list(islice(backoff(0.25, ceiling=2), 6)) == [0.25, 0.5, 1, 2, 2, 2]


@given(
    first=st.floats(0.001, 10),
    factor=st.floats(1, 10),
    ceiling=st.floats(0.001, 60),
    count=st.integers(1, 200),
)
def test_backoff_is_ascending_and_bounded(
    first: float, factor: float, ceiling: float, count: int
) -> None:
    steps = list(islice(backoff(first, factor=factor, ceiling=ceiling), count))
    assert steps == sorted(steps)
    assert steps[0] == min(first, ceiling)
    assert max(steps) <= ceiling


def test_the_system_clock_advances_while_it_sleeps() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01
    assert Deadline(60).clock is SYSTEM_CLOCK
