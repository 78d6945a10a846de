# SPDX-License-Identifier: Apache-2.0
"""Volumes or snapshots in memory: by UUID, by name, and in the order that lists are paged in."""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import TypeVar
from uuid import UUID

from lightos.lab.records import SnapshotRecord, VolumeRecord

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

    def __init__(self) -> None:
        super().__init__()
        self.names = Names()
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

    def after(self, offset: UUID | None) -> Iterator[Object]:
        """Objects in ascending UUID, those up to and including `offset` left out."""
        start = 0 if offset is None else bisect_right(self._order, offset)
        return (self[uuid] for uuid in itertools.islice(self._order, start, None))
