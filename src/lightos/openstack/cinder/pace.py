# SPDX-License-Identifier: Apache-2.0
"""When to look whether a change has happened. Pure: seconds in, seconds out.

A cluster takes about the same time for the same kind of change, so each wait learns from those
before it: the first look comes when the change is expected to be done, and the ones after it in
small steps. That keeps both the requests per change and the time lost to polling near the least
possible, whatever the cluster's speed, and follows it when it changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SHORTEST_STEP_SECONDS = 0.005
LONGEST_STEP_SECONDS = 1.0
LONGEST_EXPECTED_SECONDS = 4.0
"""What takes longer is looked for in steps from then on: a wait that was long once, for whatever
reason, must not make all later ones sleep through what is done at once."""
FIRST_STEP = 0.02
"""Step after a first look that came too early, as a share of the time expected."""
GROWTH = 1.5
"""How many times longer each further step is, ..."""
LARGEST_STEP = 0.25
"""... up to this share of the time waited; decides what a change of unknown duration costs."""
FIRST_EASING, EASING_GROWTH, LARGEST_EASING = 0.001, 1.6, 0.5
"""Share by which a first look that was late enough lowers the estimate: little while it holds the
mark, more and more while every first look succeeds, because the cluster may be faster by now."""
GUESS_EASING = 0.02
"""The same for the first change seen: one says little."""
FIRST_RAISE, RAISE_GROWTH, LARGEST_RAISE = 0.04, 4.0, 0.5
"""Share by which a first look that came too early may raise it: one change that got stuck must
not slow all others down, and several in a row are not stuck."""


@dataclass
class _Estimate:
    seconds: float
    easing: float = GUESS_EASING
    raising: float = FIRST_RAISE


class Pace:
    """What is known of each kind of change. Shared by all threads of a driver."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._estimates: dict[str, _Estimate] = {}

    def expected_seconds(self, kind: str) -> float:
        """How long such a change is expected to take; 0 when none was seen yet."""
        with self._lock:
            estimate = self._estimates.get(kind)
            return estimate.seconds if estimate else 0.0

    def intervals(
        self, kind: str, look_seconds: Callable[[], float] = lambda: 0.0
    ) -> Iterator[float]:
        """Seconds to wait before each look, without end.

        `look_seconds` tells how long the last look took. An answer that comes slowly is a sign of
        load, which more looks would add to: the next step is as long, up to the time expected.
        """
        expected = elapsed = self.expected_seconds(kind)
        yield expected
        step = expected * FIRST_STEP
        while True:
            step = max(step, min(look_seconds(), expected), SHORTEST_STEP_SECONDS)
            step = min(step, LONGEST_STEP_SECONDS)
            elapsed += step
            yield step
            step = min(step * GROWTH, elapsed * LARGEST_STEP)

    def learn(self, kind: str, *, expected: float, looks: int, seconds: float) -> None:
        """The change showed at look number `looks`, made `seconds` after the request.

        `expected` is how long it was waited for before the first look. Of many changes at once,
        those that began before one of them has taught something teach no more of the same.
        """
        with self._lock:
            estimate = self._estimates.get(kind)
            if estimate is None:
                self._estimates[kind] = _Estimate(min(seconds, LONGEST_EXPECTED_SECONDS))
            elif looks == 1 and expected <= estimate.seconds:
                # Done by then, perhaps long before: try a little earlier next time.
                estimate.seconds *= 1 - estimate.easing
                estimate.easing = min(estimate.easing * EASING_GROWTH, LARGEST_EASING)
                estimate.raising = FIRST_RAISE
            elif looks > 1 and expected >= estimate.seconds:
                raised = max(estimate.seconds * (1 + estimate.raising), SHORTEST_STEP_SECONDS)
                estimate.seconds = min(seconds, raised, LONGEST_EXPECTED_SECONDS)
                estimate.easing = FIRST_EASING
                estimate.raising = min(estimate.raising * RAISE_GROWTH, LARGEST_RAISE)
