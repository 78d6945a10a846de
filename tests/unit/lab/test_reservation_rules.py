# SPDX-License-Identifier: Apache-2.0
"""Reservation rules one by one, each as the section "Reservations" of the specification has it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightos.lab.reservations.rules import (
    MAX_GENERATION,
    MAX_REGISTRANTS,
    Access,
    Acquire,
    Clear,
    Decision,
    Host,
    Notice,
    Preempt,
    Register,
    Registrant,
    Release,
    ReplaceKey,
    Reservation,
    ReservationCommand,
    SetPersistence,
    Unregister,
    after_power_loss,
    conflicts,
    decide,
    leave_out,
)
from lightos.nvme_tcp.constants import ReservationNoticeType, ReservationType, Status

A, B, C, D = (
    Host(letter * 16, f"nqn.host-{letter.decode()}") for letter in (b"A", b"B", b"C", b"D")
)
WE, EA, WE_RO, EA_RO, WE_AR, EA_AR = ReservationType
REGISTRATION_PREEMPTED, RELEASED, RESERVATION_PREEMPTED = ReservationNoticeType
KEY = {A: 0xA, B: 0xB, C: 0xC}


def three(held: ReservationType | None = None) -> Reservation:
    """A, B and C are registered; A holds, or everyone."""
    holder = A.host_id if held in (WE, EA, WE_RO, EA_RO) else None
    return Reservation(tuple(Registrant(h, KEY[h]) for h in (A, B, C)), held, holder, generation=7)


def hosts(reservation: Reservation) -> list[Host]:
    return [registrant.host for registrant in reservation.registrants]


def notices(decision: Decision) -> set[tuple[bytes, ReservationNoticeType]]:
    return {(notice.host_id, notice.type) for notice in decision.notices}


# Of the figure "Command Behavior in the Presence of a Reservation": what conflicts, for a host
# that is not registered and for a registrant that does not hold the reservation.
CONFLICTS = {
    WE: ("write", "write"),
    EA: ("read write", "read write"),
    WE_RO: ("write", ""),
    EA_RO: ("read write", ""),
    WE_AR: ("write", ""),
    EA_AR: ("read write", ""),
}


@pytest.mark.parametrize("held", ReservationType)
def test_whom_a_reservation_keeps_out(held: ReservationType) -> None:
    for host, refused in zip((D, B, A), (*CONFLICTS[held], ""), strict=True):
        for access in Access:
            expected = access.name.lower() in refused.split()
            assert conflicts(three(held), host.host_id, access) is expected, (host, access)


def test_no_reservation_keeps_nobody_out() -> None:
    for reservation in (Reservation(), three()):
        assert not any(conflicts(reservation, D.host_id, access) for access in Access)


@pytest.mark.parametrize(
    ("host", "command", "status"),
    [
        (D, Register(0xD), Status.SUCCESS),
        (D, Register(0xA), Status.SUCCESS),  # keys need not differ
        (A, Register(0xA), Status.SUCCESS),  # again, by another controller
        (A, Register(0xE), Status.RESERVATION_CONFLICT),
        (D, Register(0), Status.INVALID_FIELD),
        (Host(bytes(16), "nqn.nobody"), Register(1), Status.INVALID_FIELD),
        (Host(bytes(16), "nqn.nobody"), ReplaceKey(None, 1), Status.INVALID_FIELD),
        (A, ReplaceKey(0xA, 0xE), Status.SUCCESS),
        (A, ReplaceKey(0xB, 0xE), Status.RESERVATION_CONFLICT),
        (A, ReplaceKey(None, 0xE), Status.SUCCESS),
        (A, ReplaceKey(0xA, 0), Status.INVALID_FIELD),
        (D, ReplaceKey(0xA, 0xE), Status.RESERVATION_CONFLICT),
        (D, ReplaceKey(None, 0xE), Status.SUCCESS),
        (A, Unregister(0xA), Status.SUCCESS),
        (A, Unregister(None), Status.SUCCESS),
        (A, Unregister(0xB), Status.RESERVATION_CONFLICT),
        (D, Unregister(None), Status.RESERVATION_CONFLICT),
        (D, Acquire(0xA, WE), Status.RESERVATION_CONFLICT),
        (A, Acquire(0xB, WE), Status.RESERVATION_CONFLICT),
        (A, Preempt(0xB, 0xB, WE), Status.RESERVATION_CONFLICT),
        (A, Preempt(0xA, 0xE, WE), Status.RESERVATION_CONFLICT),  # nobody has that key
        (A, Preempt(0xA, 0, WE), Status.RESERVATION_CONFLICT),
        (A, Release(0xB, WE), Status.RESERVATION_CONFLICT),
        (A, Release(0xA, WE), Status.SUCCESS),  # there is none
        (D, Clear(0xA), Status.RESERVATION_CONFLICT),
        (D, SetPersistence(True), Status.SUCCESS),
    ],
)
def test_without_a_reservation(host: Host, command: ReservationCommand, status: Status) -> None:
    before = three()
    decision = decide(before, host, command)
    assert decision.status is status
    if status:
        assert decision == Decision(before, status)


def test_a_key_is_replaced_in_its_place() -> None:
    after = decide(three(WE), A, ReplaceKey(0xA, 0xE)).reservation
    assert [r.key for r in after.registrants] == [0xE, 0xB, 0xC]
    assert after.holds(A.host_id)


def test_more_registrants_than_can_be() -> None:
    crowd = tuple(Registrant(Host(n.to_bytes(16, "big"), "nqn.x"), 1) for n in range(1024))
    assert len(crowd) == MAX_REGISTRANTS
    full = Reservation(crowd)
    assert decide(full, A, Register(1)).status is Status.INTERNAL_ERROR
    assert decide(full, crowd[5].host, ReplaceKey(1, 2)).status is Status.SUCCESS


@pytest.mark.parametrize("held", ReservationType)
def test_acquire(held: ReservationType) -> None:
    taken = decide(three(), A, Acquire(0xA, held))
    assert taken == Decision(three(held))
    assert decide(taken.reservation, A, Acquire(0xA, held)) == taken, "once more is no error"
    for host, wanted in ((B, held), *((A, other) for other in ReservationType if other != held)):
        again = decide(taken.reservation, host, Acquire(KEY[host], wanted))
        everyone_holds = held in (WE_AR, EA_AR) and wanted is held
        assert again.status is (Status.SUCCESS if everyone_holds else Status.RESERVATION_CONFLICT)
        assert again.reservation == taken.reservation


@pytest.mark.parametrize("held", ReservationType)
def test_release(held: ReservationType) -> None:
    before = three(held)
    done = decide(before, A, Release(0xA, held))
    assert done.reservation == three()
    others = set() if held in (WE, EA) else {(B.host_id, RELEASED), (C.host_id, RELEASED)}
    assert notices(done) == others
    other_type = WE if held is not WE else EA
    assert decide(before, A, Release(0xA, other_type)).status is Status.INVALID_FIELD
    by_another = decide(before, B, Release(0xB, held))
    everyone_holds = held in (WE_AR, EA_AR)
    assert by_another.reservation == (three() if everyone_holds else before)


@pytest.mark.parametrize("held", ReservationType)
def test_the_holder_unregisters(held: ReservationType) -> None:
    done = decide(three(held), A, Unregister(0xA))
    assert hosts(done.reservation) == [B, C]
    stays = held in (WE_AR, EA_AR)
    assert done.reservation.type is (held if stays else None)
    told = {(B.host_id, RELEASED), (C.host_id, RELEASED)} if held in (WE_RO, EA_RO) else set()
    assert notices(done) == told
    last = decide(decide(done.reservation, B, Unregister(None)).reservation, C, Unregister(None))
    assert last.reservation == Reservation(generation=10)


@pytest.mark.parametrize("held", ReservationType)
def test_clear(held: ReservationType) -> None:
    done = decide(three(held), B, Clear(0xB))
    assert done.reservation == Reservation(generation=8)
    assert notices(done) == {(h.host_id, RESERVATION_PREEMPTED) for h in (A, C)}


@pytest.mark.parametrize("aborts", [False, True])
@pytest.mark.parametrize("held", [WE, EA, WE_RO, EA_RO])
def test_preempt_the_holder(held: ReservationType, aborts: bool) -> None:
    done = decide(three(held), B, Preempt(0xB, 0xA, held, aborts))
    assert hosts(done.reservation) == [B, C]
    assert (done.reservation.type, done.reservation.holder_id) == (held, B.host_id)
    assert done.reservation.generation == 8
    assert notices(done) == {(A.host_id, REGISTRATION_PREEMPTED)}
    assert done.aborted == ({A.host_id} if aborts else set())
    another = EA_AR if held is WE else WE
    changed = decide(three(held), B, Preempt(0xB, 0xA, another))
    assert changed.reservation.type is another
    assert notices(changed) == {(A.host_id, REGISTRATION_PREEMPTED), (C.host_id, RELEASED)}


def test_preempt_all_that_have_the_holders_key() -> None:
    shared = replace(three(WE_RO), registrants=tuple(Registrant(h, 0xA) for h in (A, B, C)))
    done = decide(shared, B, Preempt(0xA, 0xA, WE_RO))
    assert hosts(done.reservation) == [B], "the one that asks stays"
    assert done.reservation.holder_id == B.host_id


def test_preempt_oneself() -> None:
    done = decide(three(WE_RO), A, Preempt(0xA, 0xA, EA))
    assert hosts(done.reservation) == [A, B, C]
    assert (done.reservation.type, done.reservation.holder_id) == (EA, A.host_id)
    assert notices(done) == {(B.host_id, RELEASED), (C.host_id, RELEASED)}


@pytest.mark.parametrize("held", [None, *ReservationType])
def test_preempt_a_registration(held: ReservationType | None) -> None:
    done = decide(three(held), B, Preempt(0xB, 0xC, WE, aborts=True))
    assert hosts(done.reservation) == [A, B]
    assert (done.reservation.type, done.reservation.holder_id) == (held, three(held).holder_id)
    assert notices(done) == {(C.host_id, REGISTRATION_PREEMPTED)}
    assert done.aborted == {C.host_id}


def test_preempt_a_key_that_is_the_hosts_own_too() -> None:
    shared = Reservation(tuple(Registrant(h, 0xA) for h in (A, B)))
    done = decide(shared, A, Preempt(0xA, 0xA, WE, aborts=True))
    assert done.reservation == Reservation(generation=1)
    assert notices(done) == {(B.host_id, REGISTRATION_PREEMPTED)}
    assert done.aborted == {B.host_id}, "its own commands go on"


@pytest.mark.parametrize("held", [WE, EA, WE_RO, EA_RO])
def test_key_0_preempts_nobody_where_one_host_holds(held: ReservationType) -> None:
    assert decide(three(held), A, Preempt(0xA, 0, WE)).status is Status.INVALID_FIELD


@pytest.mark.parametrize("held", [WE_AR, EA_AR])
def test_key_0_preempts_all_others_where_all_hold(held: ReservationType) -> None:
    done = decide(three(held), B, Preempt(0xB, 0, EA, aborts=True))
    assert hosts(done.reservation) == [B]
    assert (done.reservation.type, done.reservation.holder_id) == (EA, B.host_id)
    assert notices(done) == {(h.host_id, REGISTRATION_PREEMPTED) for h in (A, C)}
    assert done.aborted == {A.host_id, C.host_id}


@pytest.mark.parametrize("held", [WE_AR, EA_AR])
def test_preempt_one_of_all_that_hold(held: ReservationType) -> None:
    done = decide(three(held), B, Preempt(0xB, 0xA, WE))
    assert hosts(done.reservation) == [B, C]
    assert done.reservation.type is held
    alone = Reservation((Registrant(B, 0xB),), held)
    assert decide(alone, B, Preempt(0xB, 0xB, WE)).reservation == Reservation(generation=1)


@pytest.mark.parametrize(
    "command",
    [Register(0xA), ReplaceKey(0xA, 0xE), Unregister(0xA), Preempt(0xA, 0xA, WE), Clear(0xA)],
)
def test_what_the_generation_counts(command: ReservationCommand) -> None:
    before = replace(three(WE), generation=MAX_GENERATION)
    assert decide(before, A, command).reservation.generation == 0


@pytest.mark.parametrize("command", [Acquire(0xA, WE), Release(0xA, WE), SetPersistence(True)])
def test_what_the_generation_does_not_count(command: ReservationCommand) -> None:
    assert decide(three(WE), A, command).reservation.generation == 7


@pytest.mark.parametrize(
    "command", [Register(0xA, True), ReplaceKey(0xA, 1, True), Unregister(0xA, True)]
)
def test_persistence_goes_with_a_registration(command: ReservationCommand) -> None:
    before = three(WE)
    after = decide(before, A, command).reservation
    assert after.persists
    assert after_power_loss(after) == after
    assert after_power_loss(before) == Reservation()
    assert not decide(after, A, SetPersistence(False)).reservation.persists
    refused = decide(before, A, Register(0xE, True))
    assert refused == Decision(before, Status.RESERVATION_CONFLICT)


def test_hosts_that_an_acl_leaves_out() -> None:
    unchanged = leave_out(three(WE_RO), lambda nqn: True)
    assert unchanged == Decision(three(WE_RO))
    done = leave_out(three(WE_RO), lambda nqn: nqn != A.nqn)
    assert hosts(done.reservation) == [B, C]
    assert done.reservation.type is None
    assert done.reservation.generation == 8
    assert done.notices == (
        Notice(A.host_id, REGISTRATION_PREEMPTED),
        Notice(B.host_id, RELEASED),
        Notice(C.host_id, RELEASED),
    )
    kept = leave_out(three(EA_AR), lambda nqn: nqn == B.nqn).reservation
    assert (hosts(kept), kept.type) == ([B], EA_AR)
