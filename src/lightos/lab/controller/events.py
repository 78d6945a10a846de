# SPDX-License-Identifier: Apache-2.0
"""Asynchronous events of one controller (Base, "Asynchronous Event Request command")."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from lightos.nvme_tcp.constants import AEC_BIT, AsyncEvent, Status
from lightos.nvme_tcp.errors import CommandFailed

MAX_REQUESTS = 4
"""Requests that may be outstanding; AERL says one less."""


class AsyncEvents:
    """Pairs events with the host's outstanding requests.

    An event that was reported stays masked until the host reads the log page it points to,
    so a burst of changes is one event.
    """

    def __init__(self, complete: Callable[[int, int], None]) -> None:
        """`complete(cid, result)` completes an outstanding request."""
        self._complete = complete
        self._requests: deque[int] = deque()
        self._waiting: list[AsyncEvent] = []
        self._masked: set[AsyncEvent] = set()
        self.enabled = 0
        """Asynchronous Event Configuration, as set by the host."""

    def request(self, cid: int) -> None:
        """An Asynchronous Event Request arrived."""
        if len(self._requests) >= MAX_REQUESTS:
            raise CommandFailed(Status.ASYNC_EVENT_LIMIT_EXCEEDED)
        self._requests.append(cid)
        self._report()

    def abort(self, cid: int) -> bool:
        """Take a request back; True if it was outstanding."""
        if cid not in self._requests:
            return False
        self._requests.remove(cid)
        return True

    def notify(self, event: AsyncEvent) -> None:
        """Something happened that the host may want to hear of."""
        bit = AEC_BIT.get(event)
        if bit is not None and not self.enabled & bit:
            return
        if event in self._masked or event in self._waiting:
            return
        self._waiting.append(event)
        self._report()

    def log_page_read(self, page: int) -> None:
        """The host read a log page without Retain Asynchronous Event."""
        self._masked = {event for event in self._masked if event >> 16 != page}
        self._waiting = [event for event in self._waiting if event >> 16 != page]

    def reset(self) -> list[int]:
        """Forget everything; returns the requests that will never complete."""
        dropped = list(self._requests)
        self._requests.clear()
        self._waiting.clear()
        self._masked.clear()
        self.enabled = 0
        return dropped

    def _report(self) -> None:
        while self._requests and self._waiting:
            event = self._waiting.pop(0)
            self._masked.add(event)
            self._complete(self._requests.popleft(), event)
