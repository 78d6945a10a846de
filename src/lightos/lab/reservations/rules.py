# SPDX-License-Identifier: Apache-2.0
"""What a reservation command makes of a namespace's reservation, and whom a reservation keeps out.

Pure: (reservation, host, command) to the next reservation, what hosts are told of it, and the
status. All of it is the section "Reservations" of the NVM Express Base Specification 2.0.

A host is known by its 128-bit host identifier, whatever controllers it has; its NQN is kept
only to tell which registrants an ACL leaves out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, replace

from lightos.nvme_tcp.constants import ReservationNoticeType, ReservationType, Status

MAX_REGISTRANTS = 1024
"""Of one namespace: with an ACL open to all, host identifiers could be made up without end."""
MAX_GENERATION = 0xFFFFFFFF

_WRITE_EXCLUSIVE = frozenset(
    {
        ReservationType.WRITE_EXCLUSIVE,
        ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
        ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS,
    }
)
_HOLDER_ONLY = frozenset({ReservationType.WRITE_EXCLUSIVE, ReservationType.EXCLUSIVE_ACCESS})
_ALL_REGISTRANTS = frozenset(
    {
        ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS,
        ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
    }
)


class Access(enum.Enum):
    """Command group of the figure "Command Behavior in the Presence of a Reservation"."""

    READ = enum.auto()
    """Read and Compare."""
    WRITE = enum.auto()
    """Write, Write Zeroes, Dataset Management and Flush."""


@dataclass(frozen=True)
class Host:
    """Who sends a command."""

    host_id: bytes
    nqn: str


@dataclass(frozen=True)
class Registrant:
    """A host with its reservation key, which is never 0."""

    host: Host
    key: int


@dataclass(frozen=True)
class Reservation:
    """Registrants of a namespace in the order they came, and the reservation they hold, if any.

    `holder_id` is None while nobody holds it, and while every registrant does.
    """

    registrants: tuple[Registrant, ...] = ()
    type: ReservationType | None = None
    holder_id: bytes | None = None
    generation: int = 0
    persists: bool = False
    """Persist Through Power Loss."""

    def registrant(self, host_id: bytes) -> Registrant | None:
        for registrant in self.registrants:
            if registrant.host.host_id == host_id:
                return registrant
        return None

    def holds(self, host_id: bytes) -> bool:
        """Whether the host is a reservation holder."""
        if self.type in _ALL_REGISTRANTS:
            return self.registrant(host_id) is not None
        return self.type is not None and self.holder_id == host_id


# Commands. A current key of None is Ignore Existing Key; persistence of None is no change.


@dataclass(frozen=True)
class Register:
    new_key: int
    persists: bool | None = None


@dataclass(frozen=True)
class Unregister:
    current_key: int | None
    persists: bool | None = None


@dataclass(frozen=True)
class ReplaceKey:
    current_key: int | None
    new_key: int
    persists: bool | None = None


@dataclass(frozen=True)
class Acquire:
    current_key: int
    type: ReservationType


@dataclass(frozen=True)
class Preempt:
    current_key: int
    preempt_key: int
    type: ReservationType
    aborts: bool = False
    """Preempt and Abort."""


@dataclass(frozen=True)
class Release:
    current_key: int
    type: ReservationType


@dataclass(frozen=True)
class Clear:
    current_key: int


@dataclass(frozen=True)
class SetPersistence:
    """Set Features, Reservation Persistence."""

    persists: bool


ReservationCommand = (
    Register | Unregister | ReplaceKey | Acquire | Preempt | Release | Clear | SetPersistence
)


@dataclass(frozen=True)
class Notice:
    """What a host is told."""

    host_id: bytes
    type: ReservationNoticeType


@dataclass(frozen=True)
class Decision:
    """The next reservation, which is the same unless `status` is success.

    `aborted` are hosts whose outstanding commands on the namespace end.
    """

    reservation: Reservation
    status: Status = Status.SUCCESS
    notices: tuple[Notice, ...] = ()
    aborted: frozenset[bytes] = frozenset()


def conflicts(reservation: Reservation, host_id: bytes, access: Access) -> bool:
    """Whether a host's command has to end with Reservation Conflict."""
    held = reservation.type
    if held is None or reservation.holds(host_id):
        return False
    if access is Access.READ and held in _WRITE_EXCLUSIVE:
        return False
    return held in _HOLDER_ONLY or reservation.registrant(host_id) is None


def decide(reservation: Reservation, host: Host, command: ReservationCommand) -> Decision:
    """Carry out one command of a host."""
    match command:
        case Register() | ReplaceKey():
            return _register(reservation, host, command)
        case Unregister():
            return _unregister(reservation, host, command)
        case SetPersistence():
            return Decision(replace(reservation, persists=command.persists))
        case _:
            return _decide_for_registrant(reservation, host, command)


def _decide_for_registrant(
    reservation: Reservation, host: Host, command: Acquire | Preempt | Release | Clear
) -> Decision:
    registrant = reservation.registrant(host.host_id)
    if registrant is None or registrant.key != command.current_key:
        return Decision(reservation, Status.RESERVATION_CONFLICT)
    match command:
        case Acquire():
            return _acquire(reservation, host, command)
        case Preempt():
            return _preempt(reservation, host, command)
        case Release():
            return _release(reservation, host, command)
        case Clear():
            return _clear(reservation, host)


def leave_out(reservation: Reservation, admits: Callable[[str], bool]) -> Decision:
    """Unregister the hosts whose NQN is not admitted any more, as if they had been preempted."""
    gone = {r.host.host_id for r in reservation.registrants if not admits(r.host.nqn)}
    if not gone:
        return Decision(reservation)
    after = _without(reservation, gone)
    return Decision(
        _counted(after),
        notices=(
            *_notices(gone, ReservationNoticeType.REGISTRATION_PREEMPTED),
            *_release_notices(reservation, after, but=gone),
        ),
    )


def after_power_loss(reservation: Reservation) -> Reservation:
    """What is left of it when everything that is only in memory is lost."""
    return reservation if reservation.persists else Reservation()


def _register(reservation: Reservation, host: Host, command: Register | ReplaceKey) -> Decision:
    mine = reservation.registrant(host.host_id)
    if command.new_key == 0 or not any(host.host_id):
        # Preempting takes key 0 for "all", so a host registered with it could not be preempted.
        # Host identifier 0 is no host's own.
        return Decision(reservation, Status.INVALID_FIELD)
    match command:
        case Register():
            allowed = mine is None or mine.key == command.new_key
        case ReplaceKey(current_key=None):
            allowed = True  # "without regard to its registration status"
        case ReplaceKey():
            allowed = mine is not None and mine.key == command.current_key
    if not allowed:
        return Decision(reservation, Status.RESERVATION_CONFLICT)
    if mine is None and len(reservation.registrants) >= MAX_REGISTRANTS:
        return Decision(reservation, Status.INTERNAL_ERROR)
    registrant = Registrant(host, command.new_key)
    if mine is None:
        registrants = (*reservation.registrants, registrant)
    else:
        registrants = tuple(registrant if r is mine else r for r in reservation.registrants)
    after = replace(reservation, registrants=registrants)
    return Decision(_counted(after, persists=command.persists))


def _unregister(reservation: Reservation, host: Host, command: Unregister) -> Decision:
    mine = reservation.registrant(host.host_id)
    if mine is None or command.current_key not in (None, mine.key):
        return Decision(reservation, Status.RESERVATION_CONFLICT)
    after = _without(reservation, {host.host_id})
    return Decision(
        _counted(after, persists=command.persists),
        notices=_release_notices(reservation, after, but={host.host_id}),
    )


def _acquire(reservation: Reservation, host: Host, command: Acquire) -> Decision:
    if reservation.type is None:
        return Decision(_held(reservation, host, command.type))
    if reservation.holds(host.host_id) and reservation.type is command.type:
        return Decision(reservation)
    return Decision(reservation, Status.RESERVATION_CONFLICT)


def _preempt(reservation: Reservation, host: Host, command: Preempt) -> Decision:
    """Section "Preempting a Reservation or Registration"."""
    others = {r.host.host_id for r in reservation.registrants} - {host.host_id}
    matching = {r.host.host_id for r in reservation.registrants if r.key == command.preempt_key}
    if reservation.type in _ALL_REGISTRANTS:
        takes_over = command.preempt_key == 0
        gone = others if takes_over else matching
    elif reservation.type is not None:
        if command.preempt_key == 0:
            return Decision(reservation, Status.INVALID_FIELD)
        takes_over = reservation.holder_id in matching
        gone = matching - {host.host_id} if takes_over else matching
    else:
        takes_over = False
        gone = matching
    if not takes_over and not gone:
        return Decision(reservation, Status.RESERVATION_CONFLICT)
    after = _without(reservation, gone)
    if takes_over:
        after = _held(after, host, command.type)
    preempted = gone - {host.host_id}
    return Decision(
        _counted(after),
        notices=(
            *_notices(preempted, ReservationNoticeType.REGISTRATION_PREEMPTED),
            *_release_notices(reservation, after, but={host.host_id}),
        ),
        aborted=frozenset(preempted) if command.aborts else frozenset(),
    )


def _release(reservation: Reservation, host: Host, command: Release) -> Decision:
    if not reservation.holds(host.host_id):
        return Decision(reservation)
    if reservation.type is not command.type:
        return Decision(reservation, Status.INVALID_FIELD)
    after = replace(reservation, type=None, holder_id=None)
    return Decision(after, notices=_release_notices(reservation, after, but={host.host_id}))


def _clear(reservation: Reservation, host: Host) -> Decision:
    others = {r.host.host_id for r in reservation.registrants} - {host.host_id}
    after = replace(reservation, registrants=(), type=None, holder_id=None)
    return Decision(
        _counted(after), notices=_notices(others, ReservationNoticeType.RESERVATION_PREEMPTED)
    )


def _held(reservation: Reservation, host: Host, held: ReservationType) -> Reservation:
    holder_id = None if held in _ALL_REGISTRANTS else host.host_id
    return replace(reservation, type=held, holder_id=holder_id)


def _without(reservation: Reservation, gone: Set[bytes]) -> Reservation:
    """Without some registrants; what nobody is left to hold is released."""
    left = tuple(r for r in reservation.registrants if r.host.host_id not in gone)
    after = replace(reservation, registrants=left)
    if reservation.holder_id in gone or not left:
        after = replace(after, type=None, holder_id=None)
    return after


def _counted(reservation: Reservation, *, persists: bool | None = None) -> Reservation:
    """As a command leaves it that the generation counter counts."""
    return replace(
        reservation,
        generation=(reservation.generation + 1) & MAX_GENERATION,
        persists=reservation.persists if persists is None else persists,
    )


def _release_notices(
    before: Reservation, after: Reservation, *, but: Set[bytes]
) -> tuple[Notice, ...]:
    """For the registrants that are left, when a reservation that they had a part in is no more."""
    if before.type is None or before.type is after.type:
        return ()
    if before.type in _HOLDER_ONLY and after.type is None:
        return ()
    left = (r.host.host_id for r in after.registrants)
    return _notices(
        (host_id for host_id in left if host_id not in but),
        ReservationNoticeType.RESERVATION_RELEASED,
    )


def _notices(host_ids: Iterable[bytes], notice: ReservationNoticeType) -> tuple[Notice, ...]:
    return tuple(Notice(host_id, notice) for host_id in sorted(host_ids))
