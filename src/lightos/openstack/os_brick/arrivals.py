# SPDX-License-Identifier: Apache-2.0
"""Threads that wait for devices to appear, and the one thread that looks for all of them.

Were each to read the kernel's announcements itself and then look, a hundred attaches at once
would be a hundred looks at a hundred devices for every one that comes.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from lightos.discovery.sysfs import is_namespace
from lightos.discovery.uevents import UeventClock
from lightos.openstack.os_brick.devices import namespaces
from lightos.waiting import Clock, SystemClock, backoff

_LOOK_INTERVALS_SECONDS = (0.05, 0.5)
"""First and longest; the kernel's announcement of a device ends each of them early."""


class Arrivals:
    """Who waits for which volume's device. The thread that looks ends when nobody waits."""

    def __init__(self, sysfs_root: Path) -> None:
        self._sysfs_root = sysfs_root
        self._lock = threading.Lock()
        self._awaited: dict[str, threading.Event] = {}
        self._watcher: threading.Thread | None = None

    @contextlib.contextmanager
    def awaiting(self, volume_uuid: UUID) -> Iterator[Clock]:
        """A clock whose sleep ends early when the volume has a device.

        One thread at a time may wait for a volume.
        """
        arrived = threading.Event()
        with self._lock:
            self._awaited[str(volume_uuid)] = arrived
            if self._watcher is None or not self._watcher.is_alive():  # an error may have ended it
                self._watcher = threading.Thread(
                    target=self._watch, daemon=True, name="lightos-arrivals"
                )
                self._watcher.start()
        try:
            yield _ArrivalClock(arrived)
        finally:
            with self._lock:
                del self._awaited[str(volume_uuid)]

    def _watch(self) -> None:
        with UeventClock(is_namespace) as clock:
            first, longest = _LOOK_INTERVALS_SECONDS
            for seconds in backoff(first, ceiling=longest):
                present = namespaces(self._sysfs_root)
                with self._lock:
                    for _, volume in present:
                        if volume in self._awaited:
                            self._awaited[volume].set()
                    if not self._awaited:
                        self._watcher = None
                        return
                clock.sleep(seconds)


@functools.cache
def arrivals(sysfs_root: Path) -> Arrivals:
    """Those of this process."""
    return Arrivals(sysfs_root)


os.register_at_fork(after_in_child=arrivals.cache_clear)  # the thread is the parent's


class _ArrivalClock(SystemClock):
    def __init__(self, arrived: threading.Event) -> None:
        self._arrived = arrived

    def sleep(self, seconds: float) -> None:
        if self._arrived.wait(seconds):
            self._arrived.clear()
