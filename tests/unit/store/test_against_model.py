# SPDX-License-Identifier: Apache-2.0
"""The store does whatever a dictionary of byte arrays does."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lightos.lab.store import ThinStore
from tests.unit.store.model import SECTOR, ModelStore, do

CHUNK = 4 << 20
EXTENT = 4096
MAX_OBJECTS = 8

# Around the ends of extents (8 sectors) and of the 4 MiB that one index chunk covers.
sizes = st.one_of(
    st.integers(1, 100).map(lambda sectors: sectors * SECTOR),
    st.integers(-12, 30).map(lambda sectors: CHUNK + sectors * SECTOR),
)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.store = self.open()
        self.model = ModelStore()
        self.last = 0

    def open(self) -> ThinStore:
        return ThinStore(self.directory, max_open_files=4, max_cached_chunks=3)

    def new_uuid(self) -> UUID:
        self.last += 1
        return UUID(int=self.last)

    def a_volume(self, data: st.DataObject) -> UUID:
        return data.draw(st.sampled_from(sorted(self.model.volumes)))

    def a_snapshot(self, data: st.DataObject) -> UUID:
        return data.draw(st.sampled_from(sorted(self.model.snapshots)))

    def anything(self, data: st.DataObject) -> UUID:
        return data.draw(st.sampled_from(sorted(self.model.contents())))

    def a_range(self, data: st.DataObject, size: int) -> tuple[int, int]:
        sectors = size // SECTOR
        near_end = st.integers(max(0, sectors - 60), sectors)
        begin = data.draw(st.one_of(st.integers(0, min(sectors, 60)), near_end), label="begin")
        length = data.draw(st.one_of(st.integers(0, 40), st.integers(0, sectors)), label="length")
        return begin * SECTOR, min(length, sectors - begin) * SECTOR

    def both(self, name: str, *arguments: Any) -> None:
        do(self.store, (name, arguments))
        do(self.model, (name, arguments))

    @property
    def has_room(self) -> bool:
        return len(self.model.volumes) + len(self.model.snapshots) < MAX_OBJECTS

    @precondition(lambda self: self.has_room)
    @rule(size=sizes)
    def create(self, size: int) -> None:
        self.both("create_volume", self.new_uuid(), size)

    @precondition(lambda self: self.model.volumes)
    @rule(data=st.data(), fill=st.binary(min_size=1, max_size=1))
    def write(self, data: st.DataObject, fill: bytes) -> None:
        uuid = self.a_volume(data)
        offset, length = self.a_range(data, len(self.model.volumes[uuid]))
        self.both("write", uuid, offset, memoryview(fill * length))

    @precondition(lambda self: self.model.volumes)
    @rule(data=st.data())
    def deallocate(self, data: st.DataObject) -> None:
        uuid = self.a_volume(data)
        self.both("deallocate", uuid, *self.a_range(data, len(self.model.volumes[uuid])))

    @precondition(lambda self: self.model.volumes)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        uuid = self.anything(data)
        contents = self.model.contents()[uuid]
        offset, length = self.a_range(data, len(contents))
        assert self.store.read(uuid, offset, length) == contents[offset : offset + length]

    @precondition(lambda self: self.model.volumes and self.has_room)
    @rule(data=st.data())
    def snapshot(self, data: st.DataObject) -> None:
        self.both("create_snapshot", self.a_volume(data), self.new_uuid())

    @precondition(lambda self: self.model.volumes or self.model.snapshots)
    @rule(data=st.data(), has_base=st.booleans())
    def compare(self, data: st.DataObject, has_base: bool) -> None:
        """What is not told to differ is the same as in the base, or zeroes."""
        contents = self.model.contents()
        uuid = self.anything(data)
        base = self.anything(data) if has_base else None
        expected = bytearray(contents[base] if base else b"")
        expected[:] = expected[: len(contents[uuid])].ljust(len(contents[uuid]), b"\0")
        begin = data.draw(st.integers(0, len(expected) // EXTENT)) * EXTENT
        end = begin
        for position, ranges in self.store.differences(uuid, base, begin):
            for offset, length in ranges:
                assert end <= offset < offset + length <= position
                expected[offset : offset + length] = contents[uuid][offset : offset + length]
                end = offset + length
        assert expected[begin:] == contents[uuid][begin:]

    @precondition(lambda self: self.model.snapshots and self.has_room)
    @rule(data=st.data(), more=st.integers(0, 20))
    def clone(self, data: st.DataObject, more: int) -> None:
        uuid = self.a_snapshot(data)
        size = len(self.model.snapshots[uuid]) + more * SECTOR
        self.both("clone_snapshot", uuid, self.new_uuid(), size)

    @precondition(lambda self: self.model.volumes and self.model.snapshots)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        self.both("roll_back", self.a_volume(data), self.a_snapshot(data))

    @precondition(lambda self: self.model.volumes)
    @rule(data=st.data(), size=sizes)
    def resize(self, data: st.DataObject, size: int) -> None:
        self.both("resize_volume", self.a_volume(data), size)

    @precondition(lambda self: self.model.volumes or self.model.snapshots)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.both("delete", self.anything(data))

    @precondition(lambda self: self.model.volumes)
    @rule(data=st.data())
    def flush(self, data: st.DataObject) -> None:
        self.store.flush(self.a_volume(data))

    @precondition(lambda self: self.model.snapshots)
    @rule()
    def settle(self) -> None:
        self.store.settle()
        assert self.store.verify() == []

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    @invariant()
    def knows_its_objects(self) -> None:
        assert self.store.uuids() == self.model.contents().keys()

    def teardown(self) -> None:
        try:
            self.check_contents()
            self.store.settle()
            assert self.store.verify() == []
            self.check_contents()
            for uuid in self.model.contents():
                self.store.delete(uuid)
            assert self.store.total_used_bytes() == 0
            assert self.store.verify() == []
        finally:
            self.store.close()
            shutil.rmtree(self.directory)

    def check_contents(self) -> None:
        for uuid, contents in self.model.contents().items():
            assert self.store.read(uuid, 0, len(contents)) == contents


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
