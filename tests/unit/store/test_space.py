# SPDX-License-Identifier: Apache-2.0
"""Disk space, memory and file descriptors follow what is used, not what exists."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

from lightos.lab.store import ThinStore

MIB = 1 << 20
TIB = 1 << 40
MAP_BYTES = 4096
"""What the map of a few extents takes: one block of the file system."""

VOLUME, SNAPSHOT, CLONE = UUID(int=1), UUID(int=2), UUID(int=3)


def disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (directory / "layers").iterdir())


def test_space_is_taken_where_data_is(store: ThinStore, tmp_path: Path) -> None:
    store.create_volume(VOLUME, TIB)
    assert store.used_bytes(VOLUME) == 0
    store.write(VOLUME, TIB // 2, b"x" * MIB)
    store.write(VOLUME, TIB - 512, b"y" * 512)
    assert store.used_bytes(VOLUME) <= MIB + 4096 + 3 * MAP_BYTES + 8192
    assert store.total_used_bytes() == store.used_bytes(VOLUME) == disk_bytes(tmp_path / "store")


def test_snapshots_and_clones_take_what_differs(store: ThinStore) -> None:
    store.create_volume(VOLUME, 64 * MIB)
    store.write(VOLUME, 0, b"x" * 16 * MIB)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.clone_snapshot(SNAPSHOT, CLONE, 64 * MIB)
    before = store.used_bytes(SNAPSHOT)
    assert store.used_bytes(VOLUME) == store.used_bytes(CLONE) == 0
    store.write(CLONE, MIB, b"z" * 512)
    assert store.used_bytes(CLONE) == 4096 + MAP_BYTES
    assert store.total_used_bytes() == before + 4096 + MAP_BYTES


def test_deallocation_frees_whole_extents(store: ThinStore) -> None:
    store.create_volume(VOLUME, 64 * MIB)
    store.write(VOLUME, 0, b"x" * 8 * MIB)
    store.deallocate(VOLUME, 512, 4 * MIB)
    assert store.used_bytes(VOLUME) <= 4 * MIB + 4096 + MAP_BYTES
    assert store.read(VOLUME, 0, 1024) == b"x" * 512 + bytes(512)
    assert store.read(VOLUME, 4 * MIB, 1024) == bytes(512) + b"x" * 512
    store.deallocate(VOLUME, 0, 64 * MIB)
    assert store.used_bytes(VOLUME) <= MAP_BYTES


def test_deallocating_what_was_never_written_costs_nothing(store: ThinStore) -> None:
    store.create_volume(VOLUME, TIB)
    store.deallocate(VOLUME, 512, TIB - 1024)
    assert store.used_bytes(VOLUME) == 0


def test_a_shrink_frees_what_it_cuts(store: ThinStore) -> None:
    store.create_volume(VOLUME, 64 * MIB)
    store.write(VOLUME, 0, b"x" * 8 * MIB)
    store.resize_volume(VOLUME, 2 * MIB)
    assert store.used_bytes(VOLUME) <= 2 * MIB + MAP_BYTES


def test_space_of_a_deleted_snapshot_in_the_midst_is_freed(store: ThinStore) -> None:
    store.create_volume(VOLUME, 16 * MIB)
    for number in range(5):
        store.write(VOLUME, 0, bytes([number + 1]) * 2 * MIB)
        store.create_snapshot(VOLUME, UUID(int=100 + number))
    store.write(VOLUME, 0, b"\xff" * 2 * MIB)
    for number in (2, 1, 3):
        store.delete(UUID(int=100 + number))
        store.settle()
    assert store.read(UUID(int=100), 0, 2 * MIB) == b"\x01" * 2 * MIB
    assert store.read(UUID(int=104), 0, 2 * MIB) == b"\x05" * 2 * MIB
    assert store.total_used_bytes() <= 3 * (2 * MIB + MAP_BYTES)
    store.delete(UUID(int=100))
    store.delete(UUID(int=104))
    store.settle()
    assert store.read(VOLUME, 0, 2 * MIB) == b"\xff" * 2 * MIB
    assert store.total_used_bytes() <= 2 * MIB + MAP_BYTES


def test_a_volume_outlives_its_snapshot_and_the_other_way_round(store: ThinStore) -> None:
    store.create_volume(VOLUME, MIB)
    store.write(VOLUME, 0, b"x" * MIB)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.clone_snapshot(SNAPSHOT, CLONE, 2 * MIB)
    store.delete(VOLUME)
    assert store.read(SNAPSHOT, 0, MIB) == b"x" * MIB
    store.delete(SNAPSHOT)
    store.settle()
    assert store.read(CLONE, 0, 2 * MIB) == b"x" * MIB + bytes(MIB)
    store.delete(CLONE)
    assert store.total_used_bytes() == 0


def test_descriptors_are_bounded(tmp_path: Path) -> None:
    store = ThinStore(tmp_path / "store", max_open_files=16)
    layers = str(tmp_path / "store" / "layers")
    volumes = [UUID(int=number) for number in range(1, 100)]
    for volume in volumes:
        store.create_volume(volume, MIB)
        store.write(volume, 0, volume.bytes * 32)
    for volume in volumes:
        assert store.read(volume, 0, 512) == volume.bytes * 32
    links = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if entry.is_symlink()]
    assert 0 < sum(link.startswith(layers) for link in links) <= 16
    assert store.verify() == []
    store.close()


MEMORY_SCRIPT = """
import os, sys
from pathlib import Path
from uuid import UUID
from lightos.lab.store import ThinStore

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

store = ThinStore(Path(sys.argv[1]))
before = resident_bytes()
for number in range(1000):
    store.create_volume(UUID(int=number), 1 << 40)
for number in range(1000):
    assert store.read(UUID(int=number), 1 << 39, 4096) == bytes(4096)
print(resident_bytes() - before)
store.close()
"""


def test_a_thousand_empty_volumes_fit_in_20_mb(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(tmp_path / "store")]
    grown_bytes = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert grown_bytes < 20_000_000
