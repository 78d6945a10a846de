# SPDX-License-Identifier: Apache-2.0
"""What the store promises its callers, case by case."""

from __future__ import annotations

import errno
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from lightos.lab.store import ThinStore
from lightos.lab.store.catalog import Catalog
from lightos.lab.view import BlockStore

MIB = 1 << 20
VOLUME, SNAPSHOT, CLONE, UNKNOWN = (UUID(int=number) for number in range(1, 5))


def test_it_is_a_block_store(store: ThinStore) -> None:
    seam: BlockStore = store
    assert seam.uuids() == frozenset()


def test_a_second_process_is_told_who_is_in_the_way(store: ThinStore, tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError, match="in use by another process"):
        ThinStore(tmp_path / "store")


def test_unknown_and_known_uuids(store: ThinStore) -> None:
    store.create_volume(VOLUME, MIB)
    store.create_snapshot(VOLUME, SNAPSHOT)
    for call in (
        lambda: store.read(UNKNOWN, 0, 512),
        lambda: store.write(UNKNOWN, 0, bytes(512)),
        lambda: store.deallocate(UNKNOWN, 0, 512),
        lambda: store.flush(UNKNOWN),
        lambda: store.delete(UNKNOWN),
        lambda: store.used_bytes(UNKNOWN),
        lambda: store.resize_volume(SNAPSHOT, MIB),
        lambda: store.create_snapshot(SNAPSHOT, UNKNOWN),
        lambda: store.clone_snapshot(VOLUME, UNKNOWN, MIB),
        lambda: store.roll_back(VOLUME, UNKNOWN),
    ):
        with pytest.raises(KeyError):
            call()
    for create in (
        lambda: store.create_volume(SNAPSHOT, MIB),
        lambda: store.create_snapshot(VOLUME, SNAPSHOT),
        lambda: store.clone_snapshot(SNAPSHOT, VOLUME, MIB),
    ):
        with pytest.raises(FileExistsError):
            create()
    assert store.uuids() == {VOLUME, SNAPSHOT}


@pytest.mark.parametrize("size", [0, -512, 100, 513])
def test_sizes_are_whole_sectors(store: ThinStore, size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 512"):
        store.create_volume(VOLUME, size)
    assert store.uuids() == frozenset()


@pytest.mark.parametrize(
    ("offset", "length"), [(-512, 512), (0, 100), (1, 512), (MIB, 512), (0, MIB + 512), (512, -512)]
)
def test_ranges_lie_in_the_volume(store: ThinStore, offset: int, length: int) -> None:
    store.create_volume(VOLUME, MIB)
    with pytest.raises(ValueError, match=r"multiples of 512|end beyond"):
        store.read(VOLUME, offset, length)
    with pytest.raises(ValueError, match=r"multiples of 512|end beyond"):
        store.deallocate(VOLUME, offset, length)
    if length > 0:
        with pytest.raises(ValueError, match=r"multiples of 512|end beyond"):
            store.write(VOLUME, offset, bytes(length))


def test_a_snapshot_is_read_only(store: ThinStore) -> None:
    store.create_volume(VOLUME, MIB)
    store.create_snapshot(VOLUME, SNAPSHOT)
    with pytest.raises(OSError, match="never written") as caught:
        store.write(SNAPSHOT, 0, bytes(512))
    assert caught.value.errno == errno.EROFS
    with pytest.raises(OSError, match="never written"):
        store.deallocate(SNAPSHOT, 0, 512)


def test_what_a_shrink_cut_does_not_come_back(store: ThinStore) -> None:
    store.create_volume(VOLUME, MIB)
    store.write(VOLUME, 0, b"x" * MIB)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.resize_volume(VOLUME, 6144 + 512)
    store.resize_volume(VOLUME, MIB)
    assert store.read(VOLUME, 0, MIB) == b"x" * 6656 + bytes(MIB - 6656)
    assert store.read(SNAPSHOT, 0, MIB) == b"x" * MIB


def test_a_fold_keeps_what_was_written_after_shrink_and_growth(store: ThinStore) -> None:
    store.create_volume(VOLUME, MIB)
    store.write(VOLUME, 0, b"x" * MIB)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.resize_volume(VOLUME, 8192)
    store.resize_volume(VOLUME, MIB)
    store.write(VOLUME, MIB // 2, b"y" * 4096)
    store.delete(SNAPSHOT)
    store.settle()
    expected = (b"x" * 8192).ljust(MIB // 2, b"\0") + b"y" * 4096
    assert store.read(VOLUME, 0, MIB) == expected.ljust(MIB, b"\0")
    assert store.used_bytes(VOLUME) <= 3 * 4096 + 4096


def test_a_clone_larger_than_a_snapshot_that_ends_within_an_extent(store: ThinStore) -> None:
    store.create_volume(VOLUME, 8192)
    store.write(VOLUME, 0, b"x" * 8192)
    store.resize_volume(VOLUME, 4608)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.clone_snapshot(SNAPSHOT, CLONE, MIB)
    assert store.read(CLONE, 0, MIB) == b"x" * 4608 + bytes(MIB - 4608)
    with pytest.raises(ValueError, match="takes at least"):
        store.clone_snapshot(SNAPSHOT, UNKNOWN, 4096)


def test_a_roll_back_keeps_the_size(store: ThinStore) -> None:
    store.create_volume(VOLUME, MIB)
    store.write(VOLUME, 0, b"x" * MIB)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.resize_volume(VOLUME, 2 * MIB)
    store.write(VOLUME, 0, b"y" * 2 * MIB)
    store.roll_back(VOLUME, SNAPSHOT)
    assert store.read(VOLUME, 0, 2 * MIB) == b"x" * MIB + bytes(MIB)
    store.resize_volume(VOLUME, 4096)
    store.roll_back(VOLUME, SNAPSHOT)
    assert store.read(VOLUME, 0, 4096) == b"x" * 4096
    store.resize_volume(VOLUME, MIB)
    assert store.read(VOLUME, 0, MIB) == b"x" * 4096 + bytes(MIB - 4096)


def test_files_of_a_failed_roll_back_never_become_another_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next layer gets the id of the one that was not committed."""
    store = ThinStore(tmp_path / "blocks")
    store.create_volume(VOLUME, 8192)
    store.write(VOLUME, 0, b"a" * 8192)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.resize_volume(VOLUME, 4608)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as full:
        full.setattr(Catalog, "set_entry_layer", fail)
        with pytest.raises(OSError, match="no space"):
            store.roll_back(VOLUME, SNAPSHOT)
    store.create_volume(UNKNOWN, 8192)
    store.close()
    store = ThinStore(tmp_path / "blocks")
    assert store.read(UNKNOWN, 0, 8192) == bytes(8192)
    assert store.verify() == []
    store.close()


def test_verify_finds_damage(store: ThinStore, tmp_path: Path) -> None:
    store.create_volume(VOLUME, MIB)
    store.write(VOLUME, 0, b"x" * 8192)
    layers = tmp_path / "store" / "layers"
    (map_file,) = layers.glob("*.map")
    (data_file,) = layers.glob("*.data")
    good_map, good_data = map_file.read_bytes(), data_file.read_bytes()
    map_file.write_bytes(b"\x01\x37")
    assert any("no states" in problem for problem in store.verify())
    map_file.write_bytes(b"\x01\x02")
    assert any("differ from the maps" in problem for problem in store.verify())
    map_file.write_bytes(good_map)
    with data_file.open("r+b") as file:
        file.truncate(4096)
    assert any("is shorter" in problem for problem in store.verify())
    with pytest.raises(OSError, match="cut by someone else"):
        store.read(VOLUME, 0, 8192)
    data_file.write_bytes(good_data)
    (layers / "999.data").touch()
    assert any("belong to no one" in problem for problem in store.verify())
    (layers / "999.data").unlink()


def test_a_deep_chain_reads_and_shrinks_right(store: ThinStore) -> None:
    store.create_volume(VOLUME, MIB)
    snapshots = [UUID(int=100 + number) for number in range(64)]
    for number, snapshot in enumerate(snapshots):
        store.write(VOLUME, number * 4096, bytes([number]) * 4096)
        store.create_snapshot(VOLUME, snapshot)
    expected = b"".join(bytes([number]) * 4096 for number in range(64))
    expected = expected.ljust(MIB, b"\0")
    assert store.read(VOLUME, 0, MIB) == expected
    random.Random(5).shuffle(snapshots)
    for snapshot in snapshots[10:]:
        store.delete(snapshot)
    store.settle()
    assert store.read(VOLUME, 0, MIB) == expected
    for snapshot in snapshots[:10]:
        upto = (snapshot.int - 100 + 1) * 4096
        assert store.read(snapshot, 0, MIB) == expected[:upto].ljust(MIB, b"\0")


def flush_until(done: threading.Event, store: ThinStore) -> None:
    while not done.is_set():
        store.flush(VOLUME)


def snapshot_and_delete(done: threading.Event, store: ThinStore, size: int) -> None:
    """Take snapshots and delete old ones, which must not have changed meanwhile."""
    rng = random.Random(1)
    alive: list[tuple[UUID, bytes]] = []
    try:
        for number in range(40):
            uuid = UUID(int=100 + number)
            store.create_snapshot(VOLUME, uuid)
            alive.append((uuid, store.read(uuid, 0, size)))
            if len(alive) > 3:
                uuid, contents = alive.pop(rng.randrange(len(alive)))
                assert store.read(uuid, 0, size) == contents
                store.delete(uuid)
        for uuid, contents in alive:
            assert store.read(uuid, 0, size) == contents
            store.delete(uuid)
    finally:
        done.set()


def test_io_goes_on_in_one_thread_while_others_flush_snapshot_and_fold(store: ThinStore) -> None:
    """One writer, as in the target; the others do what the REST side and flushes do."""
    size = 12 * MIB
    store.create_volume(VOLUME, size)
    done = threading.Event()
    with ThreadPoolExecutor() as pool:
        others = [
            pool.submit(flush_until, done, store),
            pool.submit(flush_until, done, store),
            pool.submit(snapshot_and_delete, done, store, size),
        ]
        rng = random.Random(2)
        model = bytearray(size)
        while not done.is_set():
            offset = rng.randrange(size // 512) * 512
            length = min(rng.choice((512, 4096, 65536, MIB)), size - offset)
            if rng.random() < 0.1:
                store.deallocate(VOLUME, offset, length)
                model[offset : offset + length] = bytes(length)
            else:
                data = rng.randbytes(64) * (length // 64)
                store.write(VOLUME, offset, data)
                model[offset : offset + length] = data
            assert store.read(VOLUME, offset, length) == model[offset : offset + length]
        for other in others:
            other.result()
    assert store.read(VOLUME, 0, size) == model
    store.settle()
    assert store.read(VOLUME, 0, size) == model
    assert len(store._tree.layers) == 1


def compared(
    store: ThinStore, uuid: UUID, base: UUID | None = None, offset_bytes: int = 0
) -> list[tuple[int, int]]:
    return [piece for _, found in store.differences(uuid, base, offset_bytes) for piece in found]


def test_a_comparison_tells_the_extents_that_were_written_and_not_discarded(
    store: ThinStore,
) -> None:
    store.create_volume(VOLUME, 64 * MIB)
    store.write(VOLUME, 4096, b"a" * 8192)
    store.write(VOLUME, 4 * MIB - 4096, b"b" * 8192)
    store.write(VOLUME, 63 * MIB, b"c" * MIB)
    store.deallocate(VOLUME, 8192, 4096)
    store.create_snapshot(VOLUME, SNAPSHOT)
    store.write(VOLUME, 32 * MIB, b"later" * 4096)
    around_a_chunk = [(4 * MIB - 4096, 4096), (4 * MIB, 4096)]
    assert compared(store, SNAPSHOT) == [(4096, 4096), *around_a_chunk, (63 * MIB, MIB)]
    last = 64 * MIB - 4096
    assert compared(store, SNAPSHOT, offset_bytes=last) == [(last, 4096)]


def test_a_comparison_with_a_base_tells_what_was_written_and_discarded_since(
    store: ThinStore,
) -> None:
    earlier, later, of_clone = SNAPSHOT, UUID(int=5), UUID(int=6)
    store.create_volume(VOLUME, MIB)
    store.write(VOLUME, 0, b"a" * 65536)
    store.create_snapshot(VOLUME, earlier)
    store.write(VOLUME, 4096, b"b" * 4096)
    store.deallocate(VOLUME, 32768, 4096)
    store.create_snapshot(VOLUME, later)
    changed = [(4096, 4096), (32768, 4096)]
    assert compared(store, later, earlier) == changed
    assert compared(store, earlier, later) == changed
    assert compared(store, later, later) == []

    store.clone_snapshot(earlier, CLONE, 2 * MIB)
    store.write(CLONE, MIB, b"c" * 4096)
    store.create_snapshot(CLONE, of_clone)
    assert compared(store, of_clone, earlier) == [(MIB, 4096)]
    assert compared(store, of_clone) == [(0, 65536), (MIB, 4096)]

    store.delete(earlier)
    store.settle()
    assert compared(store, later) == [(0, 32768), (36864, 28672)]


def test_a_comparison_ends_when_what_it_compares_is_deleted(store: ThinStore) -> None:
    store.create_volume(VOLUME, 64 * MIB)
    store.write(VOLUME, 0, b"a" * 4096)
    store.write(VOLUME, 32 * MIB, b"a" * 4096)
    store.create_snapshot(VOLUME, SNAPSHOT)
    found = store.differences(SNAPSHOT, None, 0)
    assert next(found) == (4 * MIB, [(0, 4096)])
    store.delete(SNAPSHOT)
    with pytest.raises(KeyError):
        next(found)
