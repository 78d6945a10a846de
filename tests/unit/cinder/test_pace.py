# SPDX-License-Identifier: Apache-2.0
"""When to look: few looks once the cluster's speed is known, and soon after it changes."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.openstack.cinder.pace import (
    LONGEST_EXPECTED_SECONDS,
    LONGEST_STEP_SECONDS,
    SHORTEST_STEP_SECONDS,
    Pace,
)


def follow(pace, takes_seconds, read_seconds=0.002):
    """One change that takes so long: (looks, seconds until it was seen)."""
    elapsed = 0.0
    expected = pace.expected_seconds("change")
    for looks, interval in enumerate(pace.intervals("change"), start=1):
        elapsed += interval
        if elapsed >= takes_seconds:
            pace.learn("change", expected=expected, looks=looks, seconds=elapsed)
            return looks, elapsed + read_seconds
        elapsed += read_seconds
    raise AssertionError("intervals never end")


@pytest.mark.parametrize("takes_seconds", [0.0, 0.01, 0.05, 0.3, 2.0])
def test_a_known_speed_costs_few_looks_and_little_time(takes_seconds):
    pace = Pace()
    for _ in range(10):
        follow(pace, takes_seconds)
    looks, seconds = zip(*(follow(pace, takes_seconds) for _ in range(50)), strict=True)
    assert sorted(looks)[25] == 1
    assert max(looks) <= 3
    assert max(seconds) <= takes_seconds * 1.15 + 0.03


def test_it_follows_a_cluster_that_becomes_faster_and_slower():
    pace = Pace()
    for takes_seconds in (0.3, 0.05, 1.0, 0.05):
        for _ in range(20):
            follow(pace, takes_seconds)
        assert follow(pace, takes_seconds)[1] <= takes_seconds * 1.15 + 0.03


def test_one_stuck_change_hardly_slows_the_next():
    pace = Pace()
    for _ in range(10):
        follow(pace, 0.3)
    follow(pace, 60.0)
    assert pace.expected_seconds("change") <= 0.3 * 1.6


def test_a_first_change_that_is_slow_hardly_slows_the_next():
    pace = Pace()
    follow(pace, 80.0)
    assert follow(pace, 0.3)[1] <= LONGEST_EXPECTED_SECONDS + 0.1
    for _ in range(12):
        follow(pace, 0.3)
    assert follow(pace, 0.3)[1] <= 0.3 * 1.5


def test_many_changes_at_once_teach_no_more_than_one():
    pace = Pace()
    for _ in range(10):
        follow(pace, 0.3)
    expected = pace.expected_seconds("change")
    for _ in range(64):
        pace.learn("change", expected=expected, looks=1, seconds=expected)
    lowered = pace.expected_seconds("change")
    assert expected * 0.9 <= lowered < expected
    for _ in range(64):
        pace.learn("change", expected=lowered, looks=3, seconds=60.0)
    assert lowered < pace.expected_seconds("change") <= expected * 1.6


def test_kinds_do_not_mix():
    pace = Pace()
    follow(pace, 2.0)
    assert pace.expected_seconds("another change") == 0


@given(st.lists(st.floats(0, 100), max_size=20))
def test_waits_are_never_negative_nor_endless(durations):
    pace = Pace()
    for takes_seconds in durations:
        follow(pace, takes_seconds)
    expected, *steps = islice(pace.intervals("change"), 100)
    assert 0 <= expected <= max([0.0, *durations]) * 1.25 + 0.02
    assert all(0 < step <= LONGEST_STEP_SECONDS for step in steps)


@pytest.mark.parametrize(
    ("look_seconds", "least_step"), [(0.001, SHORTEST_STEP_SECONDS), (0.04, 0.04), (2.0, 2.0)]
)
def test_looks_that_are_answered_slowly_come_less_often(look_seconds, least_step):
    pace = Pace()
    follow(pace, 0.1)
    expected, *steps = islice(pace.intervals("change", lambda: look_seconds), 5)
    assert steps[0] == pytest.approx(min(least_step, expected))
    assert min(steps) >= steps[0]
