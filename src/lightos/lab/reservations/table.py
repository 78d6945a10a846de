# SPDX-License-Identifier: Apache-2.0
"""The reservations of all volumes in memory, and how one becomes a record on disk and back."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from lightos.lab.records import ReservationRecord
from lightos.lab.reservations.rules import Host, Registrant, Reservation, after_power_loss
from lightos.nvme_tcp.constants import ReservationType


class ReservationTable:
    """By volume. A volume that no host ever registered with has none."""

    def __init__(self, records: Iterable[ReservationRecord]) -> None:
        """As the lab finds them after its power was lost."""
        self._reservations = {r.uuid: after_power_loss(_reservation(r)) for r in records}

    def get(self, volume_uuid: UUID) -> Reservation | None:
        return self._reservations.get(volume_uuid)

    def put(self, volume_uuid: UUID, reservation: Reservation) -> None:
        self._reservations[volume_uuid] = reservation

    def drop(self, volume_uuid: UUID) -> None:
        self._reservations.pop(volume_uuid, None)


def reservation_record(volume_uuid: UUID, reservation: Reservation) -> ReservationRecord:
    """What is to be on disk: of one that does not persist, only that."""
    kept = after_power_loss(reservation)
    return ReservationRecord(
        uuid=volume_uuid,
        generation=kept.generation,
        reservation_type=kept.type or 0,
        holder_id=None if kept.holder_id is None else UUID(bytes=kept.holder_id),
        host_ids=tuple(UUID(bytes=r.host.host_id) for r in kept.registrants),
        host_nqns=tuple(r.host.nqn for r in kept.registrants),
        keys=tuple(r.key for r in kept.registrants),
        persists=kept.persists,
    )


def _reservation(record: ReservationRecord) -> Reservation:
    registrants = zip(record.host_ids, record.host_nqns, record.keys, strict=True)
    return Reservation(
        tuple(Registrant(Host(host_id.bytes, nqn), key) for host_id, nqn, key in registrants),
        ReservationType(record.reservation_type) if record.reservation_type else None,
        None if record.holder_id is None else record.holder_id.bytes,
        record.generation,
        record.persists,
    )
