# SPDX-License-Identifier: Apache-2.0
"""Volumes or snapshots in memory: by UUID, by name, and in the order that lists are paged in."""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar
from uuid import UUID

from lightos.lab.errors import NotFound
from lightos.lab.records import SnapshotRecord, SnapshotState, VolumeRecord, VolumeState

Object = TypeVar("Object", VolumeRecord, SnapshotRecord)


class Names:
    """UUIDs by project and name. Names of dead objects can be given again, hence lists."""

    def __init__(self) -> None:
        self._uuids: dict[tuple[str, str], list[UUID]] = {}

    def add(self, record: VolumeRecord | SnapshotRecord) -> None:
        self._uuids.setdefault((record.project, record.name), []).append(record.uuid)

    def remove(self, record: VolumeRecord | SnapshotRecord) -> None:
        key = record.project, record.name
        self._uuids[key].remove(record.uuid)
        if not self._uuids[key]:
            del self._uuids[key]

    def uuids(self, project: str, name: str) -> Sequence[UUID]:
        """Oldest first."""
        return self._uuids.get((project, name), ())


class Table(dict[UUID, Object]):
    """Objects by UUID, also by name, and in the order of UUIDs that lists are paged in."""

    def __init__(self, kind: str, dead: Collection[VolumeState | SnapshotState]) -> None:
        """Of objects called `kind`; those in a `dead` state yield their name to others."""
        super().__init__()
        self.names = Names()
        self._kind = kind
        self._dead = dead
        self._order: list[UUID] = []

    def put(self, record: Object) -> None:
        before = self.get(record.uuid)
        if before is None:
            insort(self._order, record.uuid)
        if before is None or before.name != record.name:
            if before is not None:
                self.names.remove(before)
            self.names.add(record)
        self[record.uuid] = record

    def drop(self, record: Object) -> None:
        self.names.remove(self.pop(record.uuid))
        del self._order[bisect_right(self._order, record.uuid) - 1]

    def named(self, project: str, name: str) -> list[Object]:
        return [self[uuid] for uuid in self.names.uuids(project, name)]

    def find(self, project: str | None, key: UUID | str) -> Object:
        """By UUID, or by name: the newest of that name, one that lives before a dead one.

        Without a project, a UUID of any. Raises NotFound.
        """
        where = f" in project {project}" if project else ""
        if isinstance(key, UUID):
            record = self.get(key)
            if record is None or project not in (None, record.project):
                raise NotFound(f"{self._kind} {key} does not exist{where}")
            return record
        namesakes = [] if project is None else self.named(project, key)
        if not namesakes:
            raise NotFound(f"{self._kind} named {key} does not exist{where}")
        living = [record for record in namesakes if record.state not in self._dead]
        return (living or namesakes)[-1]

    def page(
        self,
        project: str | None,
        admits: Callable[[Object], bool],
        *,
        limit: int,
        offset: UUID | None,
        name: str | None,
        uuid: UUID | None,
    ) -> list[Object]:
        """The first `limit` objects in ascending UUID that match what is not None.

        Those up to and including `offset` are left out.
        """
        start = 0 if offset is None else bisect_right(self._order, offset)
        records = (self[each] for each in itertools.islice(self._order, start, None))
        matching = (
            record
            for record in records
            if project in (None, record.project)
            and name in (None, record.name)
            and uuid in (None, record.uuid)
            and admits(record)
        )
        return list(itertools.islice(matching, limit))
