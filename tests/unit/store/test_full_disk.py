# SPDX-License-Identifier: Apache-2.0
"""A disk that is really full: tmpfs, which allocates at once, and ext4, which does so later."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from lightos.lab.store import ThinStore
from tests.unit.store.conftest import sound_store

MIB = 1 << 20
GIB = 1 << 30
VOLUME, SNAPSHOT, OTHER = UUID(int=1), UUID(int=2), UUID(int=3)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest) -> Path:
    if request.param == "tmpfs":
        return request.getfixturevalue("small_disk")
    return request.getfixturevalue("disk_image")()


@pytest.fixture
def store(disk: Path) -> Iterator[ThinStore]:
    with sound_store(disk / "store") as store:
        yield store


def raises_full() -> pytest.RaisesExc:
    return pytest.raises(OSError, check=lambda error: error.errno == errno.ENOSPC)


def fill(store: ThinStore, uuid: UUID, byte: bytes, step: int = MIB) -> int:
    """Write from the start on until the disk is full; how many bytes were."""
    data = byte * step
    with raises_full():
        for offset in range(0, GIB, step):
            store.write(uuid, offset, data)
    return offset


def test_a_write_that_does_not_fit_changes_nothing(store: ThinStore) -> None:
    store.create_volume(VOLUME, GIB)
    written = fill(store, VOLUME, b"a")
    used = store.used_bytes(VOLUME)
    assert used <= written + 16384
    with raises_full():
        store.write(VOLUME, 512 * MIB, b"x" * MIB)
    assert store.read(VOLUME, 0, written) == b"a" * written
    assert store.read(VOLUME, written, MIB) == bytes(MIB)
    assert store.read(VOLUME, 512 * MIB, MIB) == bytes(MIB)
    assert store.used_bytes(VOLUME) <= used + 8192
    store.write(VOLUME, 0, b"b" * written)
    store.flush(VOLUME)
    assert store.read(VOLUME, 0, written) == b"b" * written


def test_old_contents_stay_behind_a_write_that_does_not_fit(store: ThinStore) -> None:
    store.create_volume(VOLUME, GIB)
    store.create_volume(OTHER, GIB)
    store.write(VOLUME, 0, b"s" * 2 * MIB)
    store.create_snapshot(VOLUME, SNAPSHOT)
    fill(store, OTHER, b"o", 64 << 10)
    with raises_full():
        for offset in range(0, 2 * MIB, 256 << 10):
            store.write(VOLUME, offset, b"n" * (256 << 10))
    assert store.read(SNAPSHOT, 0, 2 * MIB) == b"s" * 2 * MIB
    contents = store.read(VOLUME, 0, 2 * MIB)
    assert contents == b"n" * contents.count(b"n") + b"s" * contents.count(b"s")
    assert contents.endswith(b"s")


@pytest.mark.parametrize("way", ["deallocate", "delete", "shrink"])
def test_freed_space_can_be_used(store: ThinStore, way: str) -> None:
    store.create_volume(VOLUME, GIB)
    store.create_volume(OTHER, GIB)
    written = fill(store, VOLUME, b"a", 64 << 10)
    with raises_full():
        for offset in range(0, GIB, 4096):
            store.write(OTHER, offset, b"z" * 4096)
    if way == "deallocate":
        store.deallocate(VOLUME, 0, written)
    elif way == "delete":
        store.delete(VOLUME)
    else:
        store.resize_volume(VOLUME, 4096)
    store.flush(OTHER)
    store.write(OTHER, 0, b"b" * 4 * MIB)
    assert store.read(OTHER, 0, 4 * MIB) == b"b" * 4 * MIB


def test_a_full_store_opens_again(disk: Path) -> None:
    store = ThinStore(disk / "store")
    store.create_volume(VOLUME, GIB)
    written = fill(store, VOLUME, b"a", 4096)
    store.close()
    store = ThinStore(disk / "store")
    assert store.read(VOLUME, 0, written) == b"a" * written
    store.delete(VOLUME)
    assert store.total_used_bytes() == 0
    store.create_volume(VOLUME, GIB)
    store.write(VOLUME, 0, b"b" * (written // 2))
    assert store.verify() == []
    store.close()


def test_structure_changes_on_a_full_disk_happen_or_not(store: ThinStore) -> None:
    store.create_volume(VOLUME, GIB)
    written = fill(store, VOLUME, b"a", 4096)
    snapshots = [UUID(int=100 + number) for number in range(5000)]
    with raises_full():
        for uuid in snapshots:
            store.create_snapshot(VOLUME, uuid)
    made = snapshots[: snapshots.index(uuid)]
    assert store.uuids() == {VOLUME, *made}
    assert store.read(VOLUME, 0, written) == b"a" * written
    for uuid in made:
        store.delete(uuid)
    store.settle()
    assert store.read(VOLUME, 0, written) == b"a" * written


def fold_for_want_of_space(store: ThinStore, expected: bytes) -> None:
    """Delete the volume's snapshot while the disk is full, then what fills it."""
    fill(store, OTHER, b"o", 4096)
    store.delete(SNAPSHOT)
    store.settle()
    assert store.read(VOLUME, 0, len(expected)) == expected
    store.delete(OTHER)
    store.settle()
    assert store.read(VOLUME, 0, len(expected)) == expected


@pytest.mark.parametrize("upper_mib", [1, 3], ids=["pushed down", "pulled up"])
def test_a_fold_waits_for_space(store: ThinStore, upper_mib: int) -> None:
    store.create_volume(VOLUME, GIB)
    store.create_volume(OTHER, GIB)
    store.write(VOLUME, 0, b"s" * 2 * MIB)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.write(VOLUME, MIB, b"v" * upper_mib * MIB)
    expected = b"s" * MIB + b"v" * upper_mib * MIB
    fold_for_want_of_space(store, expected)
    assert len(store._tree.layers) == 1
    assert store.total_used_bytes() <= len(expected) + 16384


def test_a_fold_below_a_shrunk_volume_waits_too(store: ThinStore) -> None:
    store.create_volume(VOLUME, GIB)
    store.create_volume(OTHER, GIB)
    store.write(VOLUME, 0, b"s" * 2 * MIB)
    store.write(VOLUME, 9 * MIB, b"s" * 4096)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.resize_volume(VOLUME, MIB)
    store.resize_volume(VOLUME, GIB)
    store.write(VOLUME, 4 * MIB, b"v" * 3 * MIB)
    expected = b"s" * MIB + bytes(3 * MIB) + b"v" * 3 * MIB + bytes(3 * MIB)
    fold_for_want_of_space(store, expected)
    assert store.total_used_bytes() <= 4 * MIB + 16384
