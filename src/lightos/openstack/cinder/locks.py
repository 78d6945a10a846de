# SPDX-License-Identifier: Apache-2.0
"""Locks across all cinder-volume processes of a deployment; `attachments` tells what for.

They are Cinder's own, but for a lock manager that is away: Cinder fails what needs a lock at that
moment, at once. A restart of etcd or Redis takes seconds, and nothing has been done yet, so here
the lock is asked for again.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import tooz.coordination
from cinder import coordination

from lightos.waiting import Deadline, backoff

LOG = logging.getLogger(__name__)

AWAY_SECONDS = 30.0
"""How long a lock manager may be away."""

_AWAY = (tooz.coordination.ToozConnectionError, tooz.coordination.OperationTimedOut)


class _PatientLock:
    """A lock of Cinder's, as `coordination.synchronized` uses it."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.name = lock.name
        self.release = lock.release

    def acquire(self, blocking: bool | float) -> bool:
        """Wait for the lock, and for the lock manager; tooz's exceptions."""
        deadline = Deadline(AWAY_SECONDS)
        for pause in backoff(0.1, ceiling=1.0):
            try:
                return self._lock.acquire(blocking)
            except _AWAY as error:
                if deadline.expired:
                    raise
                LOG.info("Asking again for lock %s: %s", self.name, error)
                deadline.sleep(pause)
        raise AssertionError("unreachable: pauses have no end")


class _PatientCoordinator:
    """Cinder's coordinator, with patient locks."""

    def get_lock(self, name: str) -> _PatientLock:
        return _PatientLock(coordination.COORDINATOR.get_lock(name))


synchronized = functools.partial(coordination.synchronized, coordinator=_PatientCoordinator())
"""Cinder's decorator: runs a method under the lock of a name with its arguments."""
