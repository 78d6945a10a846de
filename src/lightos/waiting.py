# SPDX-License-Identifier: Apache-2.0
"""Deadlines and polling: the only module that sleeps or reads a clock, and both are injected.

Blocking and thread-safe. `SystemClock` looks `time.sleep` up at each call, so that under
eventlet's monkey patching it yields to other green threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    """A monotonic clock, and a way to let it advance."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment."""

    def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed."""


class SystemClock:
    """The machine's monotonic clock."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread (under eventlet: this green thread)."""
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


def utc_now() -> datetime:
    """Return what the calendar says; only for dates that others wrote, never to measure time."""
    return datetime.now(UTC)


LAST_PROBE_SHARE = 0.1
"""Of the time that is left before the last probe, what is kept for it to be answered."""


class DeadlineExpired(TimeoutError):
    """The deadline passed before a probe saw what it waits for."""


class Deadline:
    """A moment on a monotonic clock; made once by whoever waits, then handed down unchanged."""

    def __init__(self, seconds: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self.seconds = seconds
        """What was allowed in all, for messages."""
        self.clock = clock
        self._ends_at = clock.monotonic() + seconds

    def __repr__(self) -> str:
        return f"Deadline({self.seconds} s, {self.remaining():.3f} s left)"

    def remaining(self) -> float:
        """Return the seconds left, never negative."""
        return max(0.0, self._ends_at - self.clock.monotonic())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() <= 0

    def sleep(self, seconds: float) -> None:
        """Sleep, but not past the deadline."""
        self.clock.sleep(min(seconds, self.remaining()))


def backoff(first: float, *, factor: float = 2.0, ceiling: float) -> Iterator[float]:
    """Yield seconds to wait, forever: `first`, then `factor` times more up to `ceiling`."""
    interval = first
    while True:
        yield min(interval, ceiling)
        interval = min(interval * factor, ceiling)


def poll_until(
    probe: Callable[[], T | None], *, deadline: Deadline, intervals: Iterable[float]
) -> T:
    """Call `probe` until it gives something other than None, and return that.

    `intervals` are the seconds between probes; the last one repeats. The first probe comes at
    once, and the last one a little before the deadline, so a probe may hand the same deadline on.
    What it raises ends the wait; DeadlineExpired says that the deadline passed.
    """
    steps = iter(intervals)
    interval = 0.0
    is_last = deadline.expired
    while True:
        found = probe()
        if found is not None:
            return found
        if is_last:
            raise DeadlineExpired(f"not seen within {deadline.seconds:g} s")
        interval = next(steps, interval)
        left = deadline.remaining()
        is_last = interval >= left
        deadline.sleep(left * (1 - LAST_PROBE_SHARE) if is_last else interval)
