# SPDX-License-Identifier: Apache-2.0
"""Changes of reservations: what hosts command, and what becomes of hosts an ACL leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from lightos.lab.access import VISIBLE_STATES, acl_admits
from lightos.lab.changes import Change
from lightos.lab.records import Record, ReservationRecord, VolumeRecord
from lightos.lab.reservations.rules import (
    Decision,
    Host,
    Reservation,
    ReservationCommand,
    decide,
    leave_out,
)
from lightos.lab.reservations.table import ReservationTable, reservation_record
from lightos.lab.subscribers import Subscribers
from lightos.lab.view import ClusterChange, ReservationChange
from lightos.nvme_tcp.constants import Status
from lightos.nvme_tcp.errors import CommandFailed


class Reservations:
    """The reservations of a cluster's volumes, and how they change."""

    def __init__(
        self,
        records: Iterable[ReservationRecord],
        volumes: Mapping[UUID, VolumeRecord],
        subscribers: Subscribers,
    ) -> None:
        """As an earlier run left them; `volumes` is the cluster's own table."""
        self._table = ReservationTable(records)
        self._volumes = volumes
        self._subscribers = subscribers

    def get(self, volume_uuid: UUID) -> Reservation | None:
        """None where no host ever registered."""
        return self._table.get(volume_uuid)

    def drop(self, volume_uuid: UUID) -> None:
        self._table.drop(volume_uuid)

    def records_of(self, gone: Iterable[Record]) -> list[ReservationRecord]:
        """What of the reservations goes with these volumes."""
        return [
            reservation_record(record.uuid, reservation)
            for record in gone
            if (reservation := self._table.get(record.uuid)) is not None
        ]

    def reserve(
        self, volume_uuid: UUID, host: Host, command: ReservationCommand
    ) -> Change[ReservationRecord]:
        """Carry out a host's reservation command.

        Raises CommandFailed, for a volume that the host has not (any more) too.
        """
        volume = self._volumes.get(volume_uuid)
        if volume is None or volume.state not in VISIBLE_STATES:
            raise CommandFailed(Status.INVALID_NAMESPACE)
        if not acl_admits(volume.acl, host.nqn):
            raise CommandFailed(Status.INVALID_NAMESPACE)
        decision = decide(self._table.get(volume_uuid) or Reservation(), host, command)
        if decision.status:
            raise CommandFailed(decision.status)
        return self._with_decision(Change(), volume, decision)

    def with_acl(
        self, change: Change[Any], volume: VolumeRecord, acl: Sequence[str]
    ) -> Change[Any]:
        """A change of a volume that leaves out the hosts which its new ACL does not admit."""
        reservation = self._table.get(volume.uuid)
        if reservation is None:
            return change
        decision = leave_out(reservation, lambda host_nqn: acl_admits(acl, host_nqn))
        return self._with_decision(change, volume, decision)

    def _with_decision(
        self, change: Change[Any], volume: VolumeRecord, decision: Decision
    ) -> Change[Any]:
        """A change that takes a volume's reservation along; it is on disk if it persists or did."""
        before = self._table.get(volume.uuid) or Reservation()
        after = decision.reservation
        if before == after:
            return change
        told = ReservationChange(volume.nsid, decision.notices, decision.aborted)

        def take() -> None:
            self._table.put(volume.uuid, after)
            self._subscribers.tell(ClusterChange(reservation=told))

        if not (before.persists or after.persists):
            return replace(change, when_taken=take)
        return replace(
            change,
            put=[*change.put, reservation_record(volume.uuid, after)],
            replaced=[*change.replaced, reservation_record(volume.uuid, before)],
            when_taken=take,
        )
