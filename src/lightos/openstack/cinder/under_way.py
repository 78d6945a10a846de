# SPDX-License-Identifier: Apache-2.0
"""What takes time at the moment, for the Guru Meditation Report.

Thread-safe without a lock of its own: the report is made in a signal handler, and the code that
the signal interrupted would never release one. What is done to the dictionary are single
operations of the interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightos.waiting import SYSTEM_CLOCK, Clock


@dataclass(frozen=True, eq=False)
class Activity:
    """Something that began at `since` (seconds on the registry's clock) in a thread."""

    what: str
    since: float
    thread: int
    """As `threading.get_ident`, and the section "Threads" of the report, have it."""

    def told(self, now: float) -> str:
        """The activity, how long it has lasted, and where."""
        return f"{self.what}, for {now - self.since:.1f} s, in thread {self.thread}"


class UnderWay:
    """The activities that began and have not ended."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._activities: dict[int, Activity] = {}

    def begin(self, what: str) -> Activity:
        """Note an activity, until it is given to `end`."""
        activity = Activity(what, self._clock.monotonic(), threading.get_ident())
        self._activities[id(activity)] = activity
        return activity

    def end(self, activity: Activity) -> None:
        """Forget it."""
        self._activities.pop(id(activity), None)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Note an activity for as long as the block lasts."""
        activity = self.begin(what)
        try:
            yield
        finally:
            self.end(activity)

    def told(self) -> list[str]:
        """A line for each, the oldest first."""
        now = self._clock.monotonic()
        activities = self._activities.copy().values()
        return [each.told(now) for each in sorted(activities, key=lambda each: each.since)]
