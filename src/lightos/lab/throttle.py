# SPDX-License-Identifier: Apache-2.0
"""Rate limits on the data path: per volume one lane for reads and one for writes.

A lane is a token bucket that all nodes, hosts and connections share. What finds no tokens waits,
without holding up anything else, and connections take turns: one with a deep queue does not keep
out one with a shallow queue. Over any time T at most `rate * T` plus one bucket get through; a
bucket holds `BURST_SECONDS` of the rate, or one command where that is more.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Protocol
from uuid import UUID

from lightos.lab.view import ClusterView, RateLimit, RateUnit

BURST_SECONDS = 0.1
SHORTEST_PAUSE_SECONDS = 0.001
"""At high rates, many commands are let through at each turn of a timer."""

Go = Callable[[], None]


class Direction(enum.Enum):
    """Which of a volume's limits counts."""

    READ = enum.auto()
    WRITE = enum.auto()


class Timer(Protocol):
    """What can be called off."""

    def cancel(self) -> None: ...


CallLater = Callable[[float, Go], Timer]


def _call_later(delay: float, callback: Go) -> Timer:
    return asyncio.get_running_loop().call_later(delay, callback)


class Lane:
    """One direction of one volume. Single-threaded; time comes from what it is given."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float], call_later: CallLater) -> None:
        self._clock = clock
        self._call_later = call_later
        self._waiting: OrderedDict[Hashable, deque[tuple[int, Go]]] = OrderedDict()
        self._timer: Timer | None = None
        self._limit: RateLimit | None = limit
        self._tokens = 0.0
        self._filled_at = clock()

    def cost(self, length_bytes: int) -> int:
        """Tokens that a command of so many bytes takes."""
        limit = self._limit
        return length_bytes if limit is not None and limit.unit is RateUnit.BYTES else 1

    def admit(self, length_bytes: int) -> bool:
        """Let a command through now, if nobody waits and there are tokens for it."""
        return not self._waiting and self._take(self.cost(length_bytes))

    def wait(self, connection: Hashable, length_bytes: int, go: Go) -> None:
        """Call `go` when it is the turn of a command; never from within this call."""
        self._waiting.setdefault(connection, deque()).append((length_bytes, go))
        self._arm()

    def leave(self, connection: Hashable) -> None:
        """Forget what a connection waits for."""
        if self._waiting.pop(connection, None) is not None:
            self._disarm()
            self._arm()

    def follow(self, limit: RateLimit | None) -> None:
        """Take another limit, for those that wait already too; None lets everyone through.

        The bucket starts empty, so that changing limits is no way around them.
        """
        if limit != self._limit:
            self._limit = limit
            self._tokens = 0.0
            self._filled_at = self._clock()
            self._disarm()
            self._release()

    def _take(self, cost: int) -> bool:
        missing = self._missing(cost)
        if missing <= 0:
            self._tokens -= cost
        return missing <= 0

    def _missing(self, cost: int) -> float:
        """Tokens that a command still lacks.

        One that is larger than the bucket goes when that is full, and leaves a debt.
        """
        if self._limit is None:
            return 0.0
        rate = self._limit.per_second
        capacity = max(rate * BURST_SECONDS, 1.0)
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._filled_at) * rate, capacity)
        self._filled_at = now
        return min(cost, capacity) - self._tokens

    def _release(self) -> None:
        """Let through whose turn it is, one command of each connection after the other."""
        try:
            while self._waiting:
                connection, commands = next(iter(self._waiting.items()))
                length_bytes, go = commands[0]
                if not self._take(self.cost(length_bytes)):
                    break
                commands.popleft()
                if commands:
                    self._waiting.move_to_end(connection)
                else:
                    del self._waiting[connection]
                go()
        finally:
            self._arm()

    def _arm(self) -> None:
        """Wake when the first that waits has its tokens."""
        if self._waiting and self._timer is None:
            length_bytes, _ = next(iter(self._waiting.values()))[0]
            rate = self._limit.per_second if self._limit is not None else 1
            delay = self._missing(self.cost(length_bytes)) / rate
            self._timer = self._call_later(max(delay, SHORTEST_PAUSE_SECONDS), self._wake)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        self._release()


class Throttles:
    """The lanes of every volume that has limits; one for all nodes of a cluster."""

    def __init__(
        self,
        view: ClusterView,
        clock: Callable[[], float] = time.monotonic,
        call_later: CallLater = _call_later,
    ) -> None:
        self._view = view
        self._clock = clock
        self._call_later = call_later
        self._lanes: dict[tuple[UUID, Direction], Lane] = {}
        view.subscribe(lambda change: self._follow() if change.limits else None)

    def lane(self, volume_uuid: UUID, direction: Direction) -> Lane | None:
        """Where commands on a volume have to wait their turn; None where they need not."""
        limit = self._limit(volume_uuid, direction)
        if limit is None:
            return None
        lane = self._lanes.get((volume_uuid, direction))
        if lane is None:
            lane = Lane(limit, self._clock, self._call_later)
            self._lanes[volume_uuid, direction] = lane
        return lane

    def _limit(self, volume_uuid: UUID, direction: Direction) -> RateLimit | None:
        limits = self._view.rate_limits(volume_uuid)
        return limits.read if direction is Direction.READ else limits.write

    def _follow(self) -> None:
        for (uuid, direction), lane in list(self._lanes.items()):
            limit = self._limit(uuid, direction)
            if limit is None:
                del self._lanes[uuid, direction]
            lane.follow(limit)
