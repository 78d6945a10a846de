# SPDX-License-Identifier: Apache-2.0
"""Locks outlive a restart of the lock manager, and no more than that."""

from __future__ import annotations

import pytest
import tooz.coordination
from cinder import coordination

from lightos.openstack.cinder import locks
from lightos.waiting import Deadline, poll_until


class LockManager:
    """Is away for the next `away` requests."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.held: list[str] = []

    def get_lock(self, name: str) -> Lock:
        return Lock(self, name)

    def connect(self) -> None:
        if self.away:
            self.away -= 1
            raise tooz.coordination.ToozConnectionError("connection refused")


class Lock:
    def __init__(self, manager: LockManager, name: str) -> None:
        self.manager = manager
        self.name = name

    def acquire(self, blocking: bool) -> bool:
        self.manager.connect()
        self.manager.held.append(self.name)
        return True

    def release(self) -> bool:
        self.manager.connect()
        self.manager.held.remove(self.name)
        return True


@locks.synchronized("lightos-{name}")
def held_meanwhile(manager: LockManager, name: str, away: int = 0) -> list[str]:
    """What is held; the lock manager is `away` when it is to be released."""
    manager.away = away
    return list(manager.held)


def test_a_lock_is_asked_for_until_the_lock_manager_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = LockManager(away=3)
    monkeypatch.setattr(coordination, "COORDINATOR", manager)
    assert held_meanwhile(manager, "volume") == ["lightos-volume"]
    assert manager.held == []


def test_a_lock_is_released_when_the_lock_manager_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long that takes; whoever held it goes on at once."""
    manager = LockManager(away=0)
    monkeypatch.setattr(coordination, "COORDINATOR", manager)
    monkeypatch.setattr(locks, "AWAY_SECONDS", 0.3)
    held_meanwhile(manager, "volume", away=1000)
    assert manager.held == ["lightos-volume"]
    assert any("lightos-volume: held" in line for line in locks.under_way.told())
    manager.away = 3
    poll_until(
        lambda: None if manager.held or locks.under_way.told() else True,
        deadline=Deadline(30.0),
        intervals=(0.05,),
    )


def test_a_lock_manager_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = LockManager(away=1000)
    monkeypatch.setattr(coordination, "COORDINATOR", manager)
    monkeypatch.setattr(locks, "AWAY_SECONDS", 0.3)
    with pytest.raises(tooz.coordination.ToozConnectionError):
        held_meanwhile(manager, "volume")
