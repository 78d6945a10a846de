# SPDX-License-Identifier: Apache-2.0
"""How long volumes, snapshots and nodes stay in a state, and which one comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from lightos.lab.records import (
    NodeRecord,
    NodeState,
    Record,
    SnapshotRecord,
    SnapshotState,
    VolumeRecord,
    VolumeState,
)
from lightos.lab.schedule import Schedule

FAILED_KEPT_SECONDS = 60.0
"""A Failed object cannot be deleted; the cluster drops it by itself after this time."""

RETRY_SECONDS = 1.0


class Lifecycle:
    """When each record's present state ends, on injected clocks; faults hold states and spoil them.

    `settled` are the nodes that hosts had their time to find since they serve, so that they may
    be primary again.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        now: Callable[[], datetime],
        transition_seconds: float,
        failback_seconds: float,
    ) -> None:
        self.settled: set[UUID] = set()
        self._monotonic = monotonic
        self._now = now
        self._transition_seconds = transition_seconds
        self._failback_seconds = failback_seconds
        self._schedule: Schedule[UUID] = Schedule()
        self._held: dict[UUID, str] = {}
        self._failing: set[UUID] = set()

    def seconds_to_next_due(self) -> float | None:
        """After how many seconds `pop_due` is wanted; None while nothing is under way."""
        due = self._schedule.next_due()
        return None if due is None else max(0.0, due - self._monotonic())

    def pop_due(self) -> list[UUID]:
        """Take the objects whose present state ends by now, earliest first."""
        return self._schedule.pop_due(self._monotonic())

    def end_now(self, uuid: UUID) -> None:
        """Have an object's present state end at once."""
        self._schedule.set(uuid, self._monotonic())

    def postpone(self, records: Iterable[Record]) -> None:
        """Try again later what was due."""
        for record in records:
            self._schedule.set(record.uuid, self._monotonic() + RETRY_SECONDS)

    def forget(self, uuid: UUID) -> None:
        """Nothing of this object is due any more: it is gone."""
        self._held.pop(uuid, None)
        self._failing.discard(uuid)
        self._schedule.cancel(uuid)

    def follow(self, record: Record) -> None:
        """Say when a record's present state ends, if it ends by itself."""
        now = self._monotonic()
        due: float | None = None
        match record:
            case VolumeRecord() | SnapshotRecord() if self._is_held(record):
                pass
            case VolumeRecord(state=VolumeState.AVAILABLE):
                pass
            case (
                VolumeRecord(state=VolumeState.FAILED) | SnapshotRecord(state=SnapshotState.FAILED)
            ):
                due = now + FAILED_KEPT_SECONDS
            case SnapshotRecord(state=SnapshotState.AVAILABLE):
                if record.retention_seconds is not None:
                    age = (self._now() - record.created_at).total_seconds()
                    due = now + max(0.0, record.retention_seconds - age)
            case NodeRecord(state=NodeState.ACTIVE):
                if record.uuid not in self.settled:
                    due = now + self._failback_seconds
            case NodeRecord(state=NodeState.INACTIVE):
                pass
            case VolumeRecord() | SnapshotRecord() | NodeRecord():
                due = now + self._transition_seconds
            case _:
                return
        if due is None:
            self._schedule.cancel(record.uuid)
        else:
            self._schedule.set(record.uuid, due)

    def after_volume(self, volume: VolumeRecord) -> VolumeRecord | None:
        """What becomes of a volume whose present state ends; None when it goes."""
        if volume.state in (VolumeState.DELETING, VolumeState.FAILED):
            return None
        if volume.uuid in self._failing:
            return replace(volume, state=VolumeState.FAILED)
        migrating = self._held.get(volume.uuid) == VolumeState.MIGRATING.wire_name
        state = VolumeState.MIGRATING if migrating else VolumeState.AVAILABLE
        return replace(volume, state=state)

    def after_snapshot(self, snapshot: SnapshotRecord) -> SnapshotRecord | None:
        """What becomes of a snapshot whose present state ends; None when it goes."""
        match snapshot.state:
            case SnapshotState.CREATING:
                failed = snapshot.doomed or snapshot.uuid in self._failing
                state = SnapshotState.FAILED if failed else SnapshotState.AVAILABLE
                return replace(snapshot, state=state)
            case SnapshotState.AVAILABLE:  # its retention time is over
                return replace(snapshot, state=SnapshotState.DELETING, etag=snapshot.etag + 1)
        return None

    def hold(self, uuid: UUID, state: str) -> None:
        """Keep a volume or snapshot in a state (its wire name), whenever it gets there."""
        self._held[uuid] = state

    def release(self, uuid: UUID) -> None:
        """Let an object that was held settle, once it is followed again."""
        self._held.pop(uuid, None)

    def let_fail(self, uuid: UUID) -> None:
        """Let a volume or snapshot end Failed when its present change does."""
        self._failing.add(uuid)

    def _is_held(self, record: VolumeRecord | SnapshotRecord) -> bool:
        return self._held.get(record.uuid) == record.state.wire_name
