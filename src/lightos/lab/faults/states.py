# SPDX-License-Identifier: Apache-2.0
"""Volumes and snapshots that do not come out of a change as they should."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec, TypeVar
from uuid import UUID

from lightos.lab.changes import Change, Changes
from lightos.lab.cluster import Cluster
from lightos.lab.faults.rules import End, Stay
from lightos.lab.records import Record, SnapshotRecord, SnapshotState, VolumeRecord, VolumeState

P = ParamSpec("P")
R = TypeVar("R", bound=Record)


class DisturbedChanges:
    """Carries out changes as the queue behind it does, with one effect on what they touch."""

    def __init__(
        self, changes: Changes, cluster: Cluster, effect: Stay | End, touched: set[UUID]
    ) -> None:
        """`touched` gets the UUIDs of the objects that now stay as they are."""
        self._changes = changes
        self._cluster = cluster
        self._effect = effect
        self._touched = touched

    async def carry_out(
        self, operation: Callable[P, Change[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Change[R]:
        plan = functools.partial(operation, *args, **kwargs)
        return await self._changes.carry_out(lambda: self._disturbed(plan()))

    def _disturbed(self, change: Change[R]) -> Change[R]:
        if not change.put:
            return change  # nothing changes, so nothing can go wrong
        record, *others = change.put
        match self._effect:
            case Stay(state):
                record = _in_state(record, state)

                def disturb() -> None:
                    self._cluster.hold(record.uuid, state)
                    self._touched.add(record.uuid)

            case End():

                def disturb() -> None:
                    self._cluster.let_fail(record.uuid)

        return replace(change, put=[record, *others], when_taken=disturb)


def _in_state(record: R, state: str) -> R:
    match record:
        case VolumeRecord():
            return replace(record, state=VolumeState.by_wire_name()[state])
        case SnapshotRecord():
            return replace(record, state=SnapshotState.by_wire_name()[state])
    return record
