# SPDX-License-Identifier: Apache-2.0
"""The kernel's device announcements (netlink kobject uevents): a socket that says "look again".

sysfs stays the truth: of what arrives only the device's name is read, to pass over what does not
matter. Standard library only, for os-brick
waits with this too; no right is needed. Announcements reach only network namespaces that the
initial user namespace owns, so whoever waits here also looks from time to time.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from lightos.waiting import Deadline, SystemClock

_NETLINK_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1
_DATAGRAM_BYTES = 8192


class Uevents:
    """Announcements since this was made. Raises OSError where the kernel has none.

    `matters` tells by the kernel's name of a device, such as `nvme0n1`, whether it does.
    """

    def __init__(self, matters: Callable[[str], bool]) -> None:
        self._matters = matters
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

    def drain(self) -> bool:
        """Take what was announced; whether any of it matters. An overflow (ENOBUFS) does."""
        any_matters = False
        while True:
            try:
                name = _device_name(self._socket.recv(_DATAGRAM_BYTES))
            except BlockingIOError:
                return any_matters
            except OSError:
                any_matters = True
            else:
                any_matters = any_matters or self._matters(name)

    def wait(self, seconds: float) -> None:
        """Return after the next announcement that matters, at the latest after `seconds`."""
        deadline = Deadline(seconds)
        while not deadline.expired:
            self._wait_for_any(deadline.remaining())
            if self.drain():
                return

    def _wait_for_any(self, seconds: float) -> None:
        # Neither select nor poll itself: the one takes no descriptor above 1023, of which a service
        # with many volumes has more; and the other is gone under eventlet's monkey patching.
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.select(seconds)


def _device_name(datagram: bytes) -> str:
    """`nvme0n1` of `add@/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1\\0ACTION=add...`."""
    return datagram.partition(b"\0")[0].rpartition(b"/")[2].decode(errors="replace")


class UeventClock(SystemClock):
    """A clock whose sleep ends early when the kernel announces a change of a device that matters.

    Where announcements cannot be had it just sleeps.
    """

    def __init__(self, matters: Callable[[str], bool]) -> None:
        self._uevents: Uevents | None = None
        with contextlib.suppress(OSError):
            self._uevents = Uevents(matters)

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
        """Return after the next announcement that matters, at the latest after `seconds`."""
        if self._uevents is None:
            super().sleep(seconds)
        else:
            self._uevents.wait(seconds)
