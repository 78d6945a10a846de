# SPDX-License-Identifier: Apache-2.0
"""The kernel's device announcements (netlink kobject uevents): a socket that says "look again".

sysfs stays the truth: what arrives is drained unread. Standard library only, for os-brick
waits with this too; no right is needed. Announcements reach only network namespaces that the
initial user namespace owns, so whoever waits here also looks from time to time.
"""

from __future__ import annotations

import contextlib
import select
import socket
from types import TracebackType
from typing import Self

from lightos.waiting import SystemClock

_NETLINK_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1
_DATAGRAM_BYTES = 8192


class Uevents:
    """Announcements since this was made. Raises OSError where the kernel has none."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_KOBJECT_UEVENT
        )
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, _KERNEL_GROUP))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Readable when something was announced; then call `drain`."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget what was announced. An overflow (ENOBUFS) is news like any other."""
        while True:
            try:
                self._socket.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue

    def wait(self, seconds: float) -> None:
        """Return after the next announcement, at the latest after `seconds`."""
        select.select([self._socket], [], [], max(0.0, seconds))
        self.drain()


class UeventClock(SystemClock):
    """A clock whose sleep ends early when the kernel announces a device change.

    Where announcements cannot be had it just sleeps.
    """

    def __init__(self) -> None:
        self._uevents: Uevents | None = None
        with contextlib.suppress(OSError):
            self._uevents = Uevents()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._uevents is not None:
            self._uevents.__exit__(kind, error, trace)

    def sleep(self, seconds: float) -> None:
        """Return after the next announcement, at the latest after `seconds`."""
        if self._uevents is None:
            super().sleep(seconds)
        else:
            self._uevents.wait(seconds)
