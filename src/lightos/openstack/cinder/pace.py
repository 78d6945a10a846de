# SPDX-License-Identifier: Apache-2.0
"""When to look whether a change has happened. Pure: seconds in, seconds out.

A cluster takes about the same time for the same kind of change, so each wait learns from those
before it: the first look comes when the change is expected to be done, and the ones after it in
small steps. That keeps both the requests per change and the time lost to polling near the least
possible, whatever the cluster's speed, and follows it when it changes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

SHORTEST_STEP_SECONDS = 0.01
LONGEST_STEP_SECONDS = 1.0
FINE_STEP = 0.05
"""Step after the expected moment, as a share of the time waited; decides what a miss costs."""
COARSE_STEP = 0.25
"""Step when nothing is known yet, or when it takes far longer than expected."""
FAR = 1.5
"""How many times the expected time is far longer; also how far one slow change moves it."""
LONGEST_EXPECTED_SECONDS = 4.0
"""What takes longer is looked for in steps from then on: a wait that was long once, for whatever
reason, must not make all later ones sleep through what is done at once."""
FIRST_EASING = 0.01


@dataclass
class _Estimate:
    seconds: float = 0.0
    easing: float = FIRST_EASING
    """Share by which the next lucky first look lowers the estimate; doubles with each."""


class Pace:
    """What is known of each kind of change. Shared by all threads of a driver."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._estimates: dict[str, _Estimate] = {}

    def expected_seconds(self, kind: str) -> float:
        """How long such a change is expected to take; 0 when none was seen yet."""
        with self._lock:
            return self._estimates.get(kind, _Estimate()).seconds

    def intervals(self, kind: str) -> Iterator[float]:
        """Seconds to wait before each look, without end."""
        expected = elapsed = self.expected_seconds(kind)
        yield expected
        while True:
            share = FINE_STEP if elapsed < expected * FAR else COARSE_STEP
            step = min(max(elapsed * share, SHORTEST_STEP_SECONDS), LONGEST_STEP_SECONDS)
            elapsed += step
            yield step

    def learn(self, kind: str, *, looks: int, seconds: float) -> None:
        """The change showed at look number `looks`, made `seconds` after the request."""
        with self._lock:
            estimate = self._estimates.setdefault(kind, _Estimate())
            if looks == 1:
                # Done by then, perhaps long before: try a little earlier next time.
                estimate.seconds *= 1 - estimate.easing
                estimate.easing = min(estimate.easing * 2, 0.5)
            else:
                # One change that got stuck must not slow all others down.
                limit = estimate.seconds * FAR or seconds
                estimate.seconds = min(seconds, limit, LONGEST_EXPECTED_SECONDS)
                estimate.easing = FIRST_EASING
