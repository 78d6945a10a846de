# SPDX-License-Identifier: Apache-2.0
"""Locks across all cinder-volume processes of a deployment; `attachments` tells what for.

They are Cinder's own, but for a lock manager that is away: Cinder fails what needs a lock at that
moment, at once, and holds a lock on etcd that it could not release for as long as the process
lives. A restart of etcd or Redis takes seconds, so here both are asked for again.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import tooz.coordination
from cinder import coordination

from lightos.openstack.cinder.under_way import Activity, UnderWay
from lightos.waiting import Deadline, backoff

LOG = logging.getLogger(__name__)

AWAY_SECONDS = 30.0
"""How long a lock manager may be away."""

under_way = UnderWay()
"""The locks of this process that are held or waited for."""

_AWAY = (tooz.coordination.ToozConnectionError, tooz.coordination.OperationTimedOut)


class _PatientLock:
    """A lock of Cinder's, as `coordination.synchronized` uses it; raises tooz's exceptions."""

    def __init__(self, lock: Any, name: str) -> None:
        self._lock = lock
        self.name = lock.name
        self._told_as = name
        self._held: Activity

    def acquire(self, blocking: bool | float) -> bool:
        """Wait for the lock, and for the lock manager."""
        with under_way.doing(f"{self._told_as}: waited for"):
            acquired = self._patiently(lambda: self._lock.acquire(blocking))
        if acquired:
            self._held = under_way.begin(f"{self._told_as}: held")
        return acquired

    def release(self) -> bool:
        """Release the lock, as soon as the lock manager is there."""
        try:
            return self._patiently(self._lock.release)
        finally:
            under_way.end(self._held)

    def _patiently(self, request: Callable[[], bool]) -> bool:
        deadline = Deadline(AWAY_SECONDS)
        for pause in backoff(0.1, ceiling=1.0):
            try:
                return request()
            except _AWAY as error:
                if deadline.expired:
                    raise
                LOG.info("Asking the lock manager again for lock %s: %s", self.name, error)
                deadline.sleep(pause)
        raise AssertionError("unreachable: pauses have no end")


class _PatientCoordinator:
    """Cinder's coordinator, with patient locks."""

    def get_lock(self, name: str) -> _PatientLock:
        return _PatientLock(coordination.COORDINATOR.get_lock(name), name)


synchronized = functools.partial(coordination.synchronized, coordinator=_PatientCoordinator())
"""Cinder's decorator: runs a method under the lock of a name with its arguments."""
