# SPDX-License-Identifier: Apache-2.0
"""The store does whatever a dictionary of byte arrays does."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lightos.lab.store import ThinStore

SECTOR = 512
CHUNK = 4 << 20
MAX_OBJECTS = 8

# Around the ends of extents (8 sectors) and of the 4 MiB that one index chunk covers.
sizes = st.one_of(
    st.integers(1, 100).map(lambda sectors: sectors * SECTOR),
    st.integers(-12, 30).map(lambda sectors: CHUNK + sectors * SECTOR),
)
fills = st.integers(1, 255)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.store = ThinStore(self.directory, max_open_files=4, max_cached_chunks=3)
        self.volumes: dict[UUID, bytearray] = {}
        self.snapshots: dict[UUID, bytes] = {}
        self.last = 0

    def new_uuid(self) -> UUID:
        self.last += 1
        return UUID(int=self.last)

    def pick(self, data: st.DataObject, objects: dict[UUID, bytearray] | dict[UUID, bytes]) -> UUID:
        return data.draw(st.sampled_from(sorted(objects)))

    def a_range(self, data: st.DataObject, size: int) -> tuple[int, int]:
        sectors = size // SECTOR
        near_end = st.integers(max(0, sectors - 60), sectors)
        begin = data.draw(st.one_of(st.integers(0, min(sectors, 60)), near_end), label="begin")
        length = data.draw(
            st.one_of(st.integers(0, 40), st.integers(0, sectors)).map(
                lambda length: min(length, sectors - begin)
            ),
            label="length",
        )
        return begin * SECTOR, length * SECTOR

    @property
    def has_room(self) -> bool:
        return len(self.volumes) + len(self.snapshots) < MAX_OBJECTS

    @precondition(lambda self: self.has_room)
    @rule(size=sizes)
    def create(self, size: int) -> None:
        uuid = self.new_uuid()
        self.store.create_volume(uuid, size)
        self.volumes[uuid] = bytearray(size)

    @precondition(lambda self: self.volumes)
    @rule(data=st.data(), fill=fills)
    def write(self, data: st.DataObject, fill: int) -> None:
        uuid = self.pick(data, self.volumes)
        offset, length = self.a_range(data, len(self.volumes[uuid]))
        self.store.write(uuid, offset, memoryview(bytes([fill]) * length))
        self.volumes[uuid][offset : offset + length] = bytes([fill]) * length

    @precondition(lambda self: self.volumes)
    @rule(data=st.data())
    def deallocate(self, data: st.DataObject) -> None:
        uuid = self.pick(data, self.volumes)
        offset, length = self.a_range(data, len(self.volumes[uuid]))
        self.store.deallocate(uuid, offset, length)
        self.volumes[uuid][offset : offset + length] = bytes(length)

    @precondition(lambda self: self.volumes or self.snapshots)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        objects = {**self.volumes, **self.snapshots}
        uuid = self.pick(data, objects)
        offset, length = self.a_range(data, len(objects[uuid]))
        assert self.store.read(uuid, offset, length) == objects[uuid][offset : offset + length]

    @precondition(lambda self: self.volumes and self.has_room)
    @rule(data=st.data())
    def snapshot(self, data: st.DataObject) -> None:
        uuid, snapshot = self.pick(data, self.volumes), self.new_uuid()
        self.store.create_snapshot(uuid, snapshot)
        self.snapshots[snapshot] = bytes(self.volumes[uuid])

    @precondition(lambda self: self.snapshots and self.has_room)
    @rule(data=st.data(), more=st.integers(0, 20))
    def clone(self, data: st.DataObject, more: int) -> None:
        snapshot, uuid = self.pick(data, self.snapshots), self.new_uuid()
        contents = bytearray(self.snapshots[snapshot]) + bytes(more * SECTOR)
        self.store.clone_snapshot(snapshot, uuid, len(contents))
        self.volumes[uuid] = contents

    @precondition(lambda self: self.volumes and self.snapshots)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        uuid, snapshot = self.pick(data, self.volumes), self.pick(data, self.snapshots)
        size = len(self.volumes[uuid])
        self.store.roll_back(uuid, snapshot)
        self.volumes[uuid] = bytearray(self.snapshots[snapshot][:size].ljust(size, b"\0"))

    @precondition(lambda self: self.volumes)
    @rule(data=st.data(), size=sizes)
    def resize(self, data: st.DataObject, size: int) -> None:
        uuid = self.pick(data, self.volumes)
        self.store.resize_volume(uuid, size)
        self.volumes[uuid] = self.volumes[uuid][:size].ljust(size, b"\0")

    @precondition(lambda self: self.volumes or self.snapshots)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        uuid = self.pick(data, {**self.volumes, **self.snapshots})
        self.store.delete(uuid)
        self.volumes.pop(uuid, None)
        self.snapshots.pop(uuid, None)

    @precondition(lambda self: self.volumes)
    @rule(data=st.data())
    def flush(self, data: st.DataObject) -> None:
        self.store.flush(self.pick(data, self.volumes))

    @rule()
    def settle(self) -> None:
        self.store.settle()
        assert self.store.verify() == []

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = ThinStore(self.directory, max_open_files=4, max_cached_chunks=3)

    @invariant()
    def knows_its_objects(self) -> None:
        assert self.store.uuids() == self.volumes.keys() | self.snapshots.keys()

    def teardown(self) -> None:
        try:
            for uuid, contents in {**self.volumes, **self.snapshots}.items():
                assert self.store.read(uuid, 0, len(contents)) == contents
            self.store.settle()
            assert self.store.verify() == []
            for uuid, contents in {**self.volumes, **self.snapshots}.items():
                assert self.store.read(uuid, 0, len(contents)) == contents
                self.store.delete(uuid)
            assert self.store.total_used_bytes() == 0
            assert self.store.verify() == []
        finally:
            self.store.close()
            shutil.rmtree(self.directory)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
