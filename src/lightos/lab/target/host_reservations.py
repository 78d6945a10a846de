# SPDX-License-Identifier: Apache-2.0
"""Reservations as one controller's host has them: commands, features, notifications."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from lightos.lab.controller.outcome import GatherSink, Sink
from lightos.lab.errors import Internal
from lightos.lab.reservations.rules import (
    Acquire,
    Clear,
    Host,
    Preempt,
    Register,
    Release,
    ReplaceKey,
    Reservation,
    ReservationCommand,
    SetPersistence,
    Unregister,
)
from lightos.lab.view import ClusterView, NamespaceView, ReservationChange
from lightos.nvme_tcp.commands import IGNORE_EXISTING_KEY, Command
from lightos.nvme_tcp.constants import (
    AcquireAction,
    IoOpcode,
    PersistenceChange,
    RegisterAction,
    ReleaseAction,
    ReservationNoticeType,
    ReservationType,
    Status,
)
from lightos.nvme_tcp.errors import CommandFailed
from lightos.nvme_tcp.structures import (
    AcquireData,
    RegisterData,
    RegistrantStatus,
    ReleaseData,
    ReservationNotification,
    ReservationReport,
)

Reserve = Callable[[UUID, Host, ReservationCommand], Awaitable[object]]
"""Carries a command out, durably where that was asked for.

Raises CommandFailed, and Internal when the disk fails."""

MAX_PAGES = 255
"""Notifications that a controller keeps until they are read; the oldest go first."""

_PERSISTS = {
    PersistenceChange.NONE: None,
    PersistenceChange.CLEAR: False,
    PersistenceChange.SET: True,
}
_MASKABLE = sum(1 << notice for notice in ReservationNoticeType)

E = TypeVar("E", bound=enum.IntEnum)


class HostReservations:
    """What one controller's host asks of reservations and is told of them."""

    def __init__(
        self,
        view: ClusterView,
        reserve: Reserve,
        host: Host,
        namespace: Callable[[int], NamespaceView],
    ) -> None:
        """`namespace` gives what an nsid names if it is served to the host; else CommandFailed."""
        self._view = view
        self._reserve = reserve
        self._host = host
        self._namespace = namespace
        self._pages: deque[ReservationNotification] = deque(maxlen=MAX_PAGES)
        self._page_count = 0
        self._masks: dict[UUID, int] = {}

    def reset(self) -> None:
        """Controller Level Reset."""
        self._pages.clear()
        self._page_count = 0
        self._masks.clear()

    # ---- commands

    def change(self, command: Command) -> Sink:
        """Reservation Register, Acquire or Release."""
        namespace = self._namespace(command.nsid)
        size, parse = _PARSERS[command.opcode]
        return GatherSink(
            command, size, lambda data: self._carry_out(namespace, parse(command, data))
        )

    async def _carry_out(self, namespace: NamespaceView, command: ReservationCommand) -> None:
        try:
            await self._reserve(namespace.uuid, self._host, command)
        except Internal as cause:
            raise CommandFailed(Status.INTERNAL_ERROR, do_not_retry=False) from cause

    def report(self, command: Command) -> bytes:
        namespace = self._namespace(command.nsid)
        if not command.cdw11 & 1:
            # Host identifiers have 128 bits; Base, "Reservation Report command".
            raise CommandFailed(Status.HOST_IDENTIFIER_INCONSISTENT_FORMAT)
        length = 4 * (command.cdw10 + 1)
        if length > command.data_length:
            raise CommandFailed(Status.DATA_SGL_LENGTH_INVALID)
        reservation = self._view.reservation(namespace.uuid) or Reservation()
        return _report(reservation).encode()[:length].ljust(length, b"\0")

    # ---- features: the notification mask is the controller's, persistence the namespace's

    def mask(self, namespace: NamespaceView) -> int:
        return self._masks.get(namespace.uuid, 0)

    def set_mask(self, namespaces: Collection[NamespaceView], mask: int) -> None:
        if mask & ~_MASKABLE:
            raise CommandFailed(Status.INVALID_FIELD)
        for namespace in namespaces:
            self._masks[namespace.uuid] = mask

    def persists(self, namespace: NamespaceView) -> bool:
        reservation = self._view.reservation(namespace.uuid)
        return reservation is not None and reservation.persists

    async def set_persists(self, namespaces: Collection[NamespaceView], persists: bool) -> None:
        for namespace in namespaces:
            await self._carry_out(namespace, SetPersistence(persists))

    # ---- notifications

    def note(self, namespace: NamespaceView, change: ReservationChange) -> bool:
        """Queue what the host is to be told; True if there is anything."""
        unmasked = [
            notice.type
            for notice in change.notices
            if notice.host_id == self._host.host_id and not self.mask(namespace) >> notice.type & 1
        ]
        for notice_type in unmasked:
            self._page_count += 1
            self._pages.append(
                ReservationNotification(
                    count=self._page_count, notice_type=notice_type, nsid=namespace.nsid
                )
            )
        return bool(unmasked)

    def page(self) -> bytes:
        """The oldest notification that was not read."""
        if not self._pages:
            return bytes(ReservationNotification.SIZE)
        return replace(self._pages[0], available=len(self._pages) - 1).encode()

    def page_read(self) -> None:
        if self._pages:
            self._pages.popleft()


def _report(reservation: Reservation) -> ReservationReport:
    return ReservationReport(
        reservation.generation,
        reservation.type or 0,
        reservation.persists,
        tuple(
            RegistrantStatus(
                status=int(reservation.holds(registrant.host.host_id)),
                key=registrant.key,
                host_id=registrant.host.host_id,
            )
            for registrant in reservation.registrants
        ),
    )


# ---- from dwords and data to commands; reserved values are Invalid Field


def _parse_register(command: Command, data: bytes) -> ReservationCommand:
    keys = RegisterData.decode(data)
    current_key = None if command.cdw10 & IGNORE_EXISTING_KEY else keys.current_key
    persists = _PERSISTS[_value(PersistenceChange, command.cdw10 >> 30)]
    match _value(RegisterAction, command.cdw10 & 7):
        case RegisterAction.REGISTER:
            return Register(keys.new_key, persists)
        case RegisterAction.UNREGISTER:
            return Unregister(current_key, persists)
        case RegisterAction.REPLACE:
            return ReplaceKey(current_key, keys.new_key, persists)


def _parse_acquire(command: Command, data: bytes) -> ReservationCommand:
    _refuse_ignore_existing_key(command)
    keys = AcquireData.decode(data)
    action = _value(AcquireAction, command.cdw10 & 7)
    reservation_type = _value(ReservationType, command.cdw10 >> 8 & 0xFF)
    if action is AcquireAction.ACQUIRE:
        return Acquire(keys.current_key, reservation_type)
    return Preempt(
        keys.current_key,
        keys.preempt_key,
        reservation_type,
        aborts=action is AcquireAction.PREEMPT_AND_ABORT,
    )


def _parse_release(command: Command, data: bytes) -> ReservationCommand:
    _refuse_ignore_existing_key(command)
    current_key = ReleaseData.decode(data).current_key
    if _value(ReleaseAction, command.cdw10 & 7) is ReleaseAction.CLEAR:
        return Clear(current_key)
    return Release(current_key, _value(ReservationType, command.cdw10 >> 8 & 0xFF))


def _refuse_ignore_existing_key(command: Command) -> None:
    """Since NVM Express 1.3 only Reservation Register may ignore the existing key."""
    if command.cdw10 & IGNORE_EXISTING_KEY:
        raise CommandFailed(Status.INVALID_FIELD)


def _value(kind: type[E], number: int) -> E:
    try:
        return kind(number)
    except ValueError:
        raise CommandFailed(Status.INVALID_FIELD) from None


_PARSERS: dict[int, tuple[int, Callable[[Command, bytes], ReservationCommand]]] = {
    IoOpcode.RESERVATION_REGISTER: (RegisterData.SIZE, _parse_register),
    IoOpcode.RESERVATION_ACQUIRE: (AcquireData.SIZE, _parse_acquire),
    IoOpcode.RESERVATION_RELEASE: (ReleaseData.SIZE, _parse_release),
}
