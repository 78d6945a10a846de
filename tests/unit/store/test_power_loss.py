# SPDX-License-Identifier: Apache-2.0
"""What was flushed survives a power cut: an image of the disk without what its cache held."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from uuid import UUID

import pytest

from lightos.lab.store import ThinStore
from lightos.lab.store.merge import Fold

EXTENT = 4096
EXTENTS = 1500
VOLUME, SNAPSHOT = UUID(int=1), UUID(int=2)

Mount = Callable[..., Path]


class Recorder:
    """Writes to a volume, and knows what each extent may hold after a power cut."""

    def __init__(self, store: ThinStore, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.possible = [{bytes(EXTENT)} for _ in range(EXTENTS)]
        self.latest = [bytes(EXTENT)] * EXTENTS

    def write(self, times: int) -> None:
        for _ in range(times):
            first = self.rng.randrange(EXTENTS)
            count = min(EXTENTS - first, self.rng.choice((1, 1, 1, 8, 100)))
            if self.rng.random() < 0.2:
                data = bytes(EXTENT)
                self.store.deallocate(VOLUME, first * EXTENT, count * EXTENT)
            else:
                data = self.rng.randbytes(EXTENT)
                self.store.write(VOLUME, first * EXTENT, data * count)
            for extent in range(first, first + count):
                self.possible[extent].add(data)
                self.latest[extent] = data

    def flush(self) -> None:
        self.store.flush(VOLUME)
        self.possible = [{data} for data in self.latest]

    def check(self, store: ThinStore) -> None:
        for extent, possible in enumerate(self.possible):
            assert store.read(VOLUME, extent * EXTENT, EXTENT) in possible, extent


def after_power_cut(mount: Mount, disk: Path) -> ThinStore:
    """The store as the next boot finds it."""
    directory = mount(disk) / "store"
    with sqlite3.connect(directory / "catalog.sqlite") as catalog:
        # This kernel never went down, so the boot id has to be another one by hand.
        catalog.execute("UPDATE last_run SET boot_id = 'an earlier boot'")
    catalog.close()
    return ThinStore(directory)


@pytest.mark.parametrize("maps_reach_the_disk_first", [False, True])
@pytest.mark.parametrize("snapshots", [0, 2])
def test_flushed_writes_survive(
    disk_image: Mount, maps_reach_the_disk_first: bool, snapshots: int
) -> None:
    disk = disk_image()
    store = ThinStore(disk / "store")
    store.create_volume(VOLUME, EXTENTS * EXTENT)
    recorder = Recorder(store, seed=snapshots)
    for number in range(snapshots):
        recorder.write(20)
        store.create_snapshot(VOLUME, UUID(int=100 + number))
    recorder.write(60)
    recorder.flush()
    recorder.write(60)
    if maps_reach_the_disk_first:
        # The kernel writes pages back in any order it likes.
        for path in (disk / "store" / "layers").glob("*.map"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
    survivor = after_power_cut(disk_image, disk)
    recorder.check(survivor)
    assert survivor.verify() == []
    survivor.close()
    recorder.check(store)
    store.close()


def test_a_snapshot_that_was_taken_keeps_unflushed_writes(disk_image: Mount) -> None:
    disk = disk_image()
    store = ThinStore(disk / "store")
    store.create_volume(VOLUME, EXTENTS * EXTENT)
    recorder = Recorder(store, seed=3)
    recorder.write(50)
    store.create_snapshot(VOLUME, SNAPSHOT)
    survivor = after_power_cut(disk_image, disk)
    assert survivor.read(SNAPSHOT, 0, EXTENTS * EXTENT) == b"".join(recorder.latest)
    survivor.close()
    store.close()


@contextlib.contextmanager
def directory_fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def around_every_sync(cut: Callable[[], None]) -> Iterator[None]:
    """Call `cut` before and after each fdatasync(2) that this thread makes."""

    def on_event(_frame: FrameType, event: str, function: object) -> None:
        if event in ("c_call", "c_return") and function is os.fdatasync:
            sys.setprofile(None)
            cut()
            sys.setprofile(on_event)

    sys.setprofile(on_event)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("writes_above", [5, 200], ids=["pushed down", "pulled up"])
def test_a_power_cut_at_any_sync_of_a_fold(disk_image: Mount, writes_above: int) -> None:
    disk = disk_image()
    store = ThinStore(disk / "store")
    store.create_volume(VOLUME, EXTENTS * EXTENT)
    recorder = Recorder(store, seed=writes_above)
    recorder.write(50)
    store.create_snapshot(VOLUME, SNAPSHOT)
    recorder.write(writes_above)
    recorder.flush()
    # In this thread, where each sync can be met.
    store._merger.stop()
    store.delete(SNAPSHOT)
    lower, upper = store._tree.layers.values()
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        cuts += 1
        if cuts % 2:
            # Metadata (such as holes that were punched) may get there before any data does.
            with directory_fd(disk) as fd:
                os.fsync(fd)
        survivor = after_power_cut(disk_image, disk)
        recorder.check(survivor)
        survivor.settle()
        recorder.check(survivor)
        assert survivor.verify() == []
        survivor.close()

    fold = Fold(lower, upper, store._merger._shared)
    done = False
    while not done:
        with around_every_sync(cut):
            done = fold.step()
        cut()
        cut()
        if not done and cuts < 30:
            recorder.write(2)
            recorder.flush()
            recorder.write(1)
    assert len(store._tree.layers) == 1
    assert store.read(VOLUME, 0, EXTENTS * EXTENT) == b"".join(recorder.latest)
    assert store.verify() == []
    store.close()
