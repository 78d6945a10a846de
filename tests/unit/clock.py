# SPDX-License-Identifier: Apache-2.0
"""A clock for what waits, so that no test does."""

from __future__ import annotations


class FakeClock:
    """Time passes only while someone sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
