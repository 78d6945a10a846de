# SPDX-License-Identifier: Apache-2.0
"""Volumes and snapshots that do not come out of a change as they should."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ParamSpec, TypeVar
from uuid import UUID

from lightos.lab.changes import Change, Changes
from lightos.lab.cluster import Cluster
from lightos.lab.faults.rules import End, Stay
from lightos.lab.records import Record, SnapshotRecord, SnapshotState, VolumeRecord, VolumeState

P = ParamSpec("P")
R = TypeVar("R", bound=Record)


@dataclass
class RuleInForce:
    """What a rule has going: `held` objects stay as they are, and calls wait, until `cleared`."""

    cleared: asyncio.Event = field(default_factory=asyncio.Event)
    held: set[UUID] = field(default_factory=set)


class DisturbedChanges:
    """Carries out changes as the queue behind it does, with one effect on what they touch."""

    def __init__(
        self, changes: Changes, cluster: Cluster, effect: Stay | End, in_force: RuleInForce
    ) -> None:
        """`in_force` gets the objects that now stay as they are; once it is cleared, none do."""
        self._changes = changes
        self._cluster = cluster
        self._effect = effect
        self._in_force = in_force

    async def carry_out(
        self, operation: Callable[P, Change[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Change[R]:
        plan = functools.partial(operation, *args, **kwargs)
        return await self._changes.carry_out(lambda: self._disturbed(plan()))

    def _disturbed(self, change: Change[R]) -> Change[R]:
        if not change.put or self._in_force.cleared.is_set():
            return change  # nothing changes, or nothing is to go wrong any more
        record, *others = change.put
        match self._effect:
            case Stay(state):
                record = _in_state(record, state)

                def disturb() -> None:
                    self._cluster.lifecycle.hold(record.uuid, state)
                    self._in_force.held.add(record.uuid)

            case End():

                def disturb() -> None:
                    self._cluster.lifecycle.let_fail(record.uuid)

        return replace(change, put=[record, *others], when_taken=disturb)


def _in_state(record: R, state: str) -> R:
    match record:
        case VolumeRecord():
            return replace(record, state=VolumeState.by_wire_name()[state])
        case SnapshotRecord():
            return replace(record, state=SnapshotState.by_wire_name()[state])
    return record
