# SPDX-License-Identifier: Apache-2.0
"""Asymmetric namespace access: which node serves which placement group at this moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from lightos.lab.placement import PlacementGroup, primary_of
from lightos.lab.view import AnaGroup, AnaState


class Paths:
    """The primary of every group, and the ANA log that follows from it.

    Change counts rise with every change of a group's state or members (NVM Express Base 2.0,
    "Asymmetric Namespace Access" log page: CHGCNT of the page and of each descriptor).
    """

    def __init__(self) -> None:
        """Without groups; `regroup` gives some."""
        self.groups: tuple[PlacementGroup, ...] = ()
        self.change_count = 1
        self._groups: dict[int, PlacementGroup] = {}
        self._primaries: dict[int, UUID | None] = {}
        self._members: dict[int, set[int]] = {}
        self._sorted_members: dict[int, tuple[int, ...]] = {}
        self._change_counts: dict[int, int] = {}
        self._moved_at: dict[int, int] = {}

    def regroup(self, groups: Iterable[PlacementGroup]) -> None:
        """Have these groups from now on; those that go have no members any more."""
        self._groups = {group.group_id: group for group in groups}
        self.groups = tuple(self._groups[group_id] for group_id in sorted(self._groups))
        for group_id in self._members.keys() - self._groups.keys():
            del self._members[group_id], self._primaries[group_id], self._change_counts[group_id]
            self._sorted_members.pop(group_id, None)
            self._moved_at.pop(group_id, None)
            self.change_count += 1
        for group_id in self._groups.keys() - self._members.keys():
            self._members[group_id] = set()
            self._primaries[group_id] = None
            self._change_counts[group_id] = 1

    def group(self, group_id: int) -> PlacementGroup:
        return self._groups[group_id]

    def primary(self, group_id: int) -> UUID | None:
        """The node that serves the group's I/O; None when no replica serves."""
        return self._primaries[group_id]

    def state(self, node_uuid: UUID, group_id: int) -> AnaState:
        """A LightOS host sees the primary optimized and every other node inaccessible."""
        optimized = self._primaries.get(group_id) == node_uuid
        return AnaState.OPTIMIZED if optimized else AnaState.INACCESSIBLE

    def moved_at(self, group_id: int) -> int:
        """`change_count` when the group last got another primary."""
        return self._moved_at.get(group_id, self.change_count)

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

    def follow(self, serving: Collection[UUID], settled: Collection[UUID]) -> bool:
        """Choose every primary anew; True when at least one group changed its state."""
        changed = False
        for group in self.groups:
            primary = primary_of(group, serving, settled)
            if primary != self._primaries[group.group_id]:
                self._primaries[group.group_id] = primary
                self._changed(group.group_id)
                self._moved_at[group.group_id] = self.change_count
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
