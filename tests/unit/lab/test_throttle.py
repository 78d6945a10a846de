# SPDX-License-Identifier: Apache-2.0
"""Rate limits in virtual time: who gets through when."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightos.lab.throttle import BURST_SECONDS, Direction, Go, Lane, Throttles
from lightos.lab.view import RateLimit, RateLimits, RateUnit
from tests.unit.target.cluster import LiteralCluster

COMMANDS, BYTES = RateUnit.COMMANDS, RateUnit.BYTES
KIB = 1024
VOLUME, OTHER = UUID(int=1), UUID(int=2)


@dataclass
class Timer:
    callback: Go
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Time:
    """A clock that moves only here, and the timers on it."""

    now: float = 1000.0
    timers: list[tuple[float, int, Timer]] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def clock(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Go) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self.timers, (self.now + delay, next(self.numbers), timer))
        return timer

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            self.now, _, timer = heapq.heappop(self.timers)
            if not timer.cancelled:
                timer.callback()
        self.now = end


@dataclass
class Hosts:
    """Commands that hosts send to one lane, and what came through when."""

    time: Time
    lane: Lane
    through: list[tuple[float, str, int]] = field(default_factory=list)

    def send(self, host: str, length_bytes: int = 4 * KIB, then: Go = lambda: None) -> None:
        def go() -> None:
            self.through.append((self.time.now, host, length_bytes))
            then()

        if self.lane.admit(length_bytes):
            go()
        else:
            self.lane.wait(host, length_bytes, go)

    def keep_sending(self, host: str, depth: int, length_bytes: int = 4 * KIB) -> None:
        """As a host with a queue of this depth, that sends one more for each that is done."""

        def again() -> None:
            # A round trip, so that a fast lane does not turn into endless recursion.
            self.time.call_later(0.0001, lambda: self.send(host, length_bytes, again))

        for _ in range(depth):
            self.send(host, length_bytes, again)

    def per_host(self) -> Counter[str]:
        return Counter(host for _, host, _ in self.through)


def hosts_on(limit: RateLimit) -> Hosts:
    time = Time()
    return Hosts(time, Lane(limit, time.clock, time.call_later))


def test_commands_come_through_at_the_rate_and_not_faster() -> None:
    hosts = hosts_on(RateLimit(256, COMMANDS))
    hosts.keep_sending("a", depth=64)
    hosts.time.run(10)
    assert 2550 <= len(hosts.through) <= 2560


def test_bytes_come_through_at_the_rate_whatever_their_packing() -> None:
    for length in (512, 4 * KIB, 1024 * KIB):
        hosts = hosts_on(RateLimit(10_000_000, BYTES))
        hosts.keep_sending("a", depth=32, length_bytes=length)
        hosts.time.run(10)
        moved = sum(length for _, _, length in hosts.through)
        assert 98_000_000 <= moved <= 100_000_000 + 1024 * KIB


def test_a_command_larger_than_the_bucket_comes_through_and_is_paid_for() -> None:
    hosts = hosts_on(RateLimit(1_000_000, BYTES))
    for _ in range(3):
        hosts.send("a", 1_000_000)
    hosts.time.run(10)
    first, second, third = (when for when, _, _ in hosts.through)
    assert (second - first, third - second) == (pytest.approx(1, 0.01), pytest.approx(1, 0.01))


def test_idling_saves_up_no_more_than_one_bucket() -> None:
    hosts = hosts_on(RateLimit(1000, COMMANDS))
    hosts.time.run(3600)
    for _ in range(1000):
        hosts.send("a")
    assert len(hosts.through) == int(1000 * BURST_SECONDS)


def test_connections_take_turns_whatever_their_depth() -> None:
    hosts = hosts_on(RateLimit(512, COMMANDS))
    hosts.keep_sending("deep", depth=128)
    hosts.keep_sending("shallow", depth=2)
    hosts.keep_sending("other", depth=32)
    hosts.time.run(10)
    shares = hosts.per_host()
    assert max(shares.values()) - min(shares.values()) <= 0.05 * sum(shares.values())


def test_nobody_overtakes_who_waits_on_the_same_connection() -> None:
    hosts = hosts_on(RateLimit(256, COMMANDS))
    for number in range(100):
        hosts.send("a", number)
    hosts.time.run(10)
    assert [length for _, _, length in hosts.through] == list(range(100))


def test_a_raised_limit_counts_for_who_waits() -> None:
    hosts = hosts_on(RateLimit(1, COMMANDS))
    for _ in range(1000):
        hosts.send("a")
    hosts.time.run(2)
    assert len(hosts.through) <= 3
    hosts.lane.follow(RateLimit(1_000_000, COMMANDS))
    hosts.time.run(0.01)
    assert len(hosts.through) == 1000


def test_a_lifted_limit_lets_everyone_through_at_once() -> None:
    hosts = hosts_on(RateLimit(1, BYTES))
    for _ in range(1000):
        hosts.send("a")
    hosts.lane.follow(None)
    assert len(hosts.through) == 1000
    hosts.time.run(10)
    assert len(hosts.through) == 1000


def test_changing_the_limit_gives_no_more_than_its_rate() -> None:
    hosts = hosts_on(RateLimit(256, COMMANDS))
    hosts.keep_sending("a", depth=64)
    for _ in range(100):
        for limit in (RateLimit(512, COMMANDS), RateLimit(256, COMMANDS)):
            hosts.lane.follow(limit)
            hosts.time.run(0.05)
    assert len(hosts.through) <= 10 * (512 + 256) / 2


def test_who_leaves_takes_no_turn() -> None:
    hosts = hosts_on(RateLimit(256, COMMANDS))
    for number in range(100):
        hosts.send("gone", number)
    hosts.send("stays")
    came = len(hosts.through)
    hosts.lane.leave("gone")
    hosts.lane.leave("never was here")
    hosts.time.run(0.02)
    assert [host for _, host, _ in hosts.through[came:]] == ["stays"]
    hosts.lane.leave("stays")
    hosts.time.run(10)
    assert len(hosts.through) == came + 1


def test_a_command_that_fails_does_not_stop_the_lane() -> None:
    hosts = hosts_on(RateLimit(1000, COMMANDS))

    def fail() -> None:
        raise ValueError("a defect")

    hosts.send("a", then=fail)
    hosts.send("b")
    with pytest.raises(ValueError, match="a defect"):
        hosts.time.run(10)
    hosts.time.run(10)
    assert hosts.per_host() == {"a": 1, "b": 1}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 2_000_000),
    st.sampled_from(RateUnit),
    st.lists(
        st.tuples(
            st.floats(0, 0.3), st.sampled_from("abc"), st.integers(0, 1 << 20), st.integers(1, 40)
        ),
        max_size=30,
    ),
)
def test_no_window_sees_more_than_the_limit_allows(
    rate: int, unit: RateUnit, bursts: list[tuple[float, str, int, int]]
) -> None:
    hosts = hosts_on(RateLimit(rate, unit))
    for pause, host, length, count in bursts:
        hosts.time.run(pause)
        for _ in range(count):
            hosts.send(host, length)
    hosts.time.run(1)
    costs = [(when, 1 if unit is COMMANDS else length) for when, _, length in hosts.through]
    largest = max((cost for _, cost in costs), default=0)
    bucket = max(rate * BURST_SECONDS, 1, largest)
    for first in range(len(costs)):
        total = 0
        for when, cost in costs[first:]:
            total += cost
            # The last command of a window is paid for by then, or is the debt that the bucket
            # allows for.
            assert total <= rate * (when - costs[first][0]) + bucket + largest + 1e-3


# Every volume's lanes


def throttles(time: Time, cluster: LiteralCluster) -> Throttles:
    return Throttles(cluster, time.clock, time.call_later)


def test_volumes_and_directions_have_lanes_of_their_own() -> None:
    time, cluster = Time(), LiteralCluster([])
    cluster.limit(VOLUME, RateLimits(read=RateLimit(256, COMMANDS), write=RateLimit(9, BYTES)))
    made = throttles(time, cluster)
    assert made.lane(OTHER, Direction.READ) is None
    read = made.lane(VOLUME, Direction.READ)
    assert read is not None
    assert made.lane(VOLUME, Direction.READ) is read
    assert made.lane(VOLUME, Direction.WRITE) not in (None, read)


def test_the_cluster_changes_the_limits_of_who_waits() -> None:
    time, cluster = Time(), LiteralCluster([])
    cluster.limit(VOLUME, RateLimits(read=RateLimit(1, COMMANDS)))
    made = throttles(time, cluster)
    lane = made.lane(VOLUME, Direction.READ)
    assert lane is not None
    through: list[int] = []

    def waiter(number: int) -> Callable[[], None]:
        return lambda: through.append(number)

    for number in range(5):
        lane.wait("a", 4096, waiter(number))
    cluster.limit(OTHER, RateLimits(read=RateLimit(1, COMMANDS)))
    assert through == []
    cluster.limit(VOLUME, RateLimits(write=RateLimit(1, COMMANDS)))
    assert through == [0, 1, 2, 3, 4]
    assert made.lane(VOLUME, Direction.READ) is None
