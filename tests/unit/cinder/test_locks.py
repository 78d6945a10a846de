# SPDX-License-Identifier: Apache-2.0
"""Locks outlive a restart of the lock manager, and no more than that."""

from __future__ import annotations

import pytest
import tooz.coordination
from cinder import coordination

from lightos.openstack.cinder import locks


class LockManager:
    """Is away for the first `away` requests for a lock."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.held: list[str] = []

    def get_lock(self, name: str) -> Lock:
        return Lock(self, name)


class Lock:
    def __init__(self, manager: LockManager, name: str) -> None:
        self.manager = manager
        self.name = name

    def acquire(self, blocking: bool) -> bool:
        if self.manager.away:
            self.manager.away -= 1
            raise tooz.coordination.ToozConnectionError("connection refused")
        self.manager.held.append(self.name)
        return True

    def release(self) -> None:
        self.manager.held.remove(self.name)


@locks.synchronized("lightos-{name}")
def held_meanwhile(manager: LockManager, name: str) -> list[str]:
    return list(manager.held)


def test_a_lock_is_asked_for_until_the_lock_manager_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = LockManager(away=3)
    monkeypatch.setattr(coordination, "COORDINATOR", manager)
    assert held_meanwhile(manager, "volume") == ["lightos-volume"]
    assert manager.held == []


def test_a_lock_manager_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = LockManager(away=1000)
    monkeypatch.setattr(coordination, "COORDINATOR", manager)
    monkeypatch.setattr(locks, "AWAY_SECONDS", 0.3)
    with pytest.raises(tooz.coordination.ToozConnectionError):
        held_meanwhile(manager, "volume")
