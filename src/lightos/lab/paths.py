# SPDX-License-Identifier: Apache-2.0
"""Asymmetric namespace access: which node serves which placement group at this moment."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from lightos.lab.placement import PlacementGroup, placement_groups, primary_of
from lightos.lab.view import AnaGroup, AnaState


class Paths:
    """The primary of every group, and the ANA log that follows from it.

    Change counts rise with every change of a group's state or members (NVM Express Base 2.0,
    "Asymmetric Namespace Access" log page: CHGCNT of the page and of each descriptor).
    """

    def __init__(self, node_uuids: Sequence[UUID]) -> None:
        self.groups = placement_groups(node_uuids)
        self.change_count = 1
        self._primaries: dict[int, UUID | None] = {group.group_id: None for group in self.groups}
        self._members: dict[int, set[int]] = {group.group_id: set() for group in self.groups}
        self._sorted_members: dict[int, tuple[int, ...]] = {}
        self._change_counts = {group.group_id: 1 for group in self.groups}

    def group(self, group_id: int) -> PlacementGroup:
        return self.groups[group_id - 1]

    def primary(self, group_id: int) -> UUID | None:
        """The node that serves the group's I/O; None when no replica serves."""
        return self._primaries[group_id]

    def state(self, node_uuid: UUID, group_id: int) -> AnaState:
        """A LightOS host sees the primary optimized and every other node inaccessible."""
        optimized = self._primaries.get(group_id) == node_uuid
        return AnaState.OPTIMIZED if optimized else AnaState.INACCESSIBLE

    def ana_groups(self, node_uuid: UUID) -> tuple[AnaGroup, ...]:
        return tuple(
            AnaGroup(
                group_id=group.group_id,
                state=self.state(node_uuid, group.group_id),
                nsids=self._nsids(group.group_id),
                change_count=self._change_counts[group.group_id],
            )
            for group in self.groups
        )

    def add(self, group_id: int, nsid: int) -> None:
        """Make a namespace member of its group; nothing happens when it is one."""
        if nsid not in self._members[group_id]:
            self._members[group_id].add(nsid)
            self._changed(group_id)

    def remove(self, group_id: int, nsid: int) -> None:
        if nsid in self._members[group_id]:
            self._members[group_id].remove(nsid)
            self._changed(group_id)

    def volumes_of_group(self) -> dict[int, int]:
        return {group_id: len(members) for group_id, members in self._members.items()}

    def follow(self, serving: Collection[UUID], settled: Collection[UUID]) -> bool:
        """Choose every primary anew; True when at least one group changed its state."""
        changed = False
        for group in self.groups:
            primary = primary_of(group, serving, settled)
            if primary != self._primaries[group.group_id]:
                self._primaries[group.group_id] = primary
                self._changed(group.group_id)
                changed = True
        return changed

    def _nsids(self, group_id: int) -> tuple[int, ...]:
        nsids = self._sorted_members.get(group_id)
        if nsids is None:
            nsids = self._sorted_members[group_id] = tuple(sorted(self._members[group_id]))
        return nsids

    def _changed(self, group_id: int) -> None:
        self.change_count += 1
        self._change_counts[group_id] += 1
        self._sorted_members.pop(group_id, None)
