# SPDX-License-Identifier: Apache-2.0
"""Locks across all cinder-volume processes of a deployment; `attachments` tells what for.

They are Cinder's own, but for a lock manager that is away: Cinder fails what needs a lock at that
moment, at once, and holds a lock on etcd that it could not release for as long as the process
lives. A restart of etcd or Redis takes seconds, so here both are asked for again. (tooz forgets a
lock on Redis that it could not release; that one ends with its time, `lock_timeout`.)
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import tooz.coordination
from cinder import coordination

from lightos.openstack.cinder.under_way import Activity, UnderWay
from lightos.waiting import Deadline, backoff

LOG = logging.getLogger(__name__)

AWAY_SECONDS = 30.0
"""How long a lock manager may be away before whoever asks it gives up."""

under_way = UnderWay()
"""The locks of this process that are held or waited for."""

_AWAY = (tooz.coordination.ToozConnectionError, tooz.coordination.OperationTimedOut)
_NO_ANSWER = (tooz.coordination.ToozError, OSError)
"""What tooz gives when the lock manager, or a proxy before it, answers something else than whether
the lock is released: some errors of HTTP as they are."""


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
            acquired = self._patiently(lambda: self._lock.acquire(blocking), _AWAY, AWAY_SECONDS)
        if acquired:
            self._held = under_way.begin(f"{self._told_as}: held")
        return acquired

    def release(self) -> bool:
        """Release the lock; when the lock manager is away, as soon as it is there.

        Whoever held the lock does not wait for that, but somebody has to ask again, or it is held
        for as long as this process lives. False: it is not released yet.
        """
        with contextlib.ExitStack() as ended:
            ended.callback(under_way.end, self._held)
            try:
                return self._lock.release()
            except _NO_ANSWER as error:
                LOG.info("Lock %s is released when the lock manager is back: %s", self.name, error)
                ended.pop_all()
                threading.Thread(target=self._release_later, daemon=True).start()
                return False

    def _release_later(self) -> None:
        try:
            self._patiently(self._lock.release, _NO_ANSWER, math.inf)
        finally:
            under_way.end(self._held)

    def _patiently(
        self,
        request: Callable[[], bool],
        away: tuple[type[Exception], ...],
        seconds: float,
    ) -> bool:
        """Ask until there is an answer; what is in `away` is none."""
        deadline = Deadline(seconds)
        for pause in backoff(0.1, ceiling=1.0):
            try:
                return request()
            except away as error:
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
