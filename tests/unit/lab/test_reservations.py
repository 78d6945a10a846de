# SPDX-License-Identifier: Apache-2.0
"""Reservations as the cluster keeps them: through restarts, and with what becomes of volumes."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from lightos.lab.errors import Internal
from lightos.lab.records import ReservationRecord
from lightos.lab.reservations.rules import (
    Acquire,
    Clear,
    Host,
    Preempt,
    Register,
    Reservation,
    ReservationCommand,
    SetPersistence,
)
from lightos.lab.view import ReservationChange
from lightos.nvme_tcp.constants import ReservationType, Status
from lightos.nvme_tcp.errors import CommandFailed
from tests.unit.lab.harness import GIB, HOST, OTHER_HOST, Harness

WE, EA, WE_RO, *_ = ReservationType
A, B = Host(b"a" * 16, HOST), Host(b"b" * 16, OTHER_HOST)
A_KEY, B_KEY = 2**64 - 1, 0xB


def reserve(lab: Harness, uuid: UUID, host: Host, *requests: ReservationCommand) -> None:
    for request in requests:
        lab.cluster.carry_out(lab.cluster.reservations.reserve(uuid, host, request))


def refusal(lab: Harness, uuid: UUID, host: Host, request: ReservationCommand) -> int:
    with pytest.raises(CommandFailed) as refused:
        lab.cluster.reservations.reserve(uuid, host, request)
    return refused.value.status


def reserved(lab: Harness, *, persists: bool | None = None, name: str = "vol") -> UUID:
    """A volume that A holds and B is registered with."""
    uuid = lab.ready_volume(name, acl=[HOST, OTHER_HOST]).uuid
    reserve(lab, uuid, A, Register(A_KEY, persists), Acquire(A_KEY, WE_RO))
    reserve(lab, uuid, B, Register(B_KEY))
    return uuid


def changes(lab: Harness) -> list[ReservationChange]:
    found = [change.reservation for change in lab.told if change.reservation is not None]
    lab.told.clear()
    return found


def test_it_persists_when_asked(lab: Harness) -> None:
    uuid = reserved(lab, persists=True)
    before = lab.cluster.reservation(uuid)
    assert before is not None
    assert (before.type, before.holder_id, before.generation) == (WE_RO, A.host_id, 2)
    lab.restart()
    assert lab.cluster.reservation(uuid) == before
    reserve(lab, uuid, B, Preempt(B_KEY, A_KEY, EA))
    lab.restart()
    after = lab.cluster.reservation(uuid)
    assert after is not None
    assert (after.type, after.holder_id, after.generation) == (EA, B.host_id, 3)
    assert [(r.host, r.key) for r in after.registrants] == [(B, B_KEY)]


def test_it_is_gone_after_a_restart_otherwise(lab: Harness) -> None:
    uuid = reserved(lab)
    lab.restart()
    assert lab.cluster.reservation(uuid) is None
    kept, dropped = reserved(lab, name="kept"), reserved(lab, persists=True, name="dropped")
    reserve(lab, kept, B, SetPersistence(True))
    reserve(lab, dropped, B, SetPersistence(False))
    lab.restart()
    assert lab.cluster.reservation(dropped) == Reservation()
    found = lab.cluster.reservation(kept)
    assert found is not None
    assert found.holder_id == A.host_id


def test_nodes_that_stop_and_leave_do_not_matter(lab: Harness) -> None:
    uuid = reserved(lab)
    before = lab.cluster.reservation(uuid)
    lab.stop_node(0)
    lab.add_node("127.0.0.9")
    lab.wait()
    lab.remove_node(lab.node_uuid(1))
    lab.update(uuid, size_bytes=2 * GIB)
    lab.wait()
    assert lab.cluster.reservation(uuid) == before


def test_neither_snapshots_nor_clones_inherit_it(lab: Harness) -> None:
    uuid = reserved(lab, persists=True)
    before = lab.cluster.reservation(uuid)
    snapshot = lab.ready_snapshot(lab.cluster.volumes[uuid])
    clone = lab.ready_volume("clone", source_snapshot=snapshot.uuid, acl=[HOST, OTHER_HOST])
    assert lab.cluster.reservation(clone.uuid) is None
    rollback = lab.cluster.volumes.roll_back("default", uuid, snapshot=snapshot.uuid)
    lab.cluster.carry_out(rollback)
    lab.wait()
    assert lab.cluster.reservation(uuid) == before


@pytest.mark.parametrize("persists", [False, True])
def test_it_goes_with_its_volume(lab: Harness, persists: bool) -> None:
    uuid = reserved(lab, persists=persists)
    lab.delete_volume(uuid)
    assert refusal(lab, uuid, A, Clear(A_KEY)) == Status.INVALID_NAMESPACE
    lab.wait()
    assert lab.cluster.reservation(uuid) is None
    assert not lab.database.load(ReservationRecord)
    lab.restart()
    assert lab.cluster.reservation(uuid) is None


@pytest.mark.parametrize("persists", [False, True])
def test_a_host_that_the_acl_leaves_out_is_unregistered(lab: Harness, persists: bool) -> None:
    uuid = reserved(lab, persists=persists)
    changes(lab)
    lab.update(uuid, acl=[OTHER_HOST])
    (told,) = changes(lab)
    assert {notice.host_id for notice in told.notices} == {A.host_id, B.host_id}
    after = lab.cluster.reservation(uuid)
    assert after is not None
    assert [r.host for r in after.registrants] == [B]
    assert after.type is None
    assert refusal(lab, uuid, A, Register(A_KEY)) == Status.INVALID_NAMESPACE
    lab.restart()
    assert lab.cluster.reservation(uuid) == (after if persists else None)


@pytest.mark.parametrize("acl", [["ALLOW_ANY"], [OTHER_HOST, HOST]])
def test_a_host_that_the_acl_admits_stays(lab: Harness, acl: list[str]) -> None:
    uuid = reserved(lab)
    before = lab.cluster.reservation(uuid)
    changes(lab)
    lab.update(uuid, acl=acl, ip_acl=["10.0.0.1"])
    assert lab.cluster.reservation(uuid) == before
    assert not changes(lab)
    lab.wait()
    lab.update(uuid, acl=["ALLOW_NONE"])
    assert lab.cluster.reservation(uuid) == Reservation(generation=3)


def test_hosts_are_told_of_the_volume_by_its_nsid(lab: Harness) -> None:
    uuid = reserved(lab)
    nsid = lab.cluster.volumes[uuid].nsid
    changes(lab)
    reserve(lab, uuid, B, Preempt(B_KEY, A_KEY, WE_RO, aborts=True))
    (told,) = changes(lab)
    assert (told.nsid, told.aborted) == (nsid, {A.host_id})
    reserve(lab, uuid, B, Acquire(B_KEY, WE_RO))
    assert not changes(lab), "nothing changed"


def test_what_is_refused_changes_nothing(lab: Harness) -> None:
    uuid = reserved(lab)
    before = lab.cluster.reservation(uuid)
    assert refusal(lab, uuid, A, Clear(1)) == Status.RESERVATION_CONFLICT
    assert refusal(lab, UUID(int=5), A, Register(1)) == Status.INVALID_NAMESPACE
    assert lab.cluster.reservation(uuid) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda lab, uuid: lab.cluster.reservations.reserve(uuid, A, Register(A_KEY)),
        lambda lab, uuid: lab.cluster.volumes.update(None, uuid, acl=[OTHER_HOST], size_bytes=GIB),
    ],
)
def test_what_cannot_be_made_durable_is_not_true(
    lab: Harness, change: Callable[[Harness, UUID], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = reserved(lab, persists=True)
    before = lab.cluster.reservation(uuid)

    def fail(*_arguments: object) -> None:
        raise Internal("the disk fails")

    with monkeypatch.context() as patch:
        patch.setattr(lab.database, "commit", fail)
        with pytest.raises(Internal):
            lab.cluster.carry_out(change(lab, uuid))
    assert lab.cluster.reservation(uuid) == before
    lab.restart()
    assert lab.cluster.reservation(uuid) == before


def test_a_resize_that_fails_leaves_the_acl_and_its_registrations(
    lab: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = reserved(lab, persists=True)
    before = lab.cluster.reservation(uuid)

    def fail(*_arguments: object) -> None:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(lab.store, "resize_volume", fail)
        with pytest.raises(Internal):
            lab.update(uuid, acl=[OTHER_HOST], size_bytes=2 * GIB)
    assert lab.cluster.reservation(uuid) == before
    lab.restart()
    assert lab.cluster.reservation(uuid) == before
