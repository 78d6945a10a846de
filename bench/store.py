# SPDX-License-Identifier: Apache-2.0
"""What one read or write of the lab's store costs, by size and by depth of the snapshot chain.

    python -m bench.store [DIRECTORY]

Every figure is the median of single calls in microseconds, on one thread, in the page cache.
"first write" is of extents that the volume does not hold itself, so the map changes too; at
depths above 0 the data that is read lies scattered over all layers of the chain.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

from lightos.lab.store import ThinStore

VOLUME_BYTES = 256 << 20
SIZES_BYTES = {"4 KiB": 4 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20}
DEPTHS = (0, 5, 50)
EXTENT_BYTES = 4096


def median_us(call: Callable[[int], object], offsets: list[int]) -> float:
    """The median time of one call, over all offsets."""
    times = []
    for offset in offsets:
        begin = time.perf_counter_ns()
        call(offset)
        times.append(time.perf_counter_ns() - begin)
    return statistics.median(times) / 1000


def volume_of_depth(store: ThinStore, depth: int, rng: random.Random) -> UUID:
    """A volume that is written everywhere, with `depth` snapshots, 2 MiB changed after each."""
    volume = uuid4()
    store.create_volume(volume, VOLUME_BYTES)
    block = rng.randbytes(1 << 20)
    for offset in range(0, VOLUME_BYTES, len(block)):
        store.write(volume, offset, block)
    for _ in range(depth):
        store.create_snapshot(volume, uuid4())
        for _ in range(512):
            offset = rng.randrange(VOLUME_BYTES // EXTENT_BYTES) * EXTENT_BYTES
            store.write(volume, offset, block[:EXTENT_BYTES])
    return volume


def measure(store: ThinStore, depth: int, rng: random.Random) -> None:
    volume = volume_of_depth(store, depth, rng)
    for name, size in SIZES_BYTES.items():
        offsets = [i * size for i in range(VOLUME_BYTES // size)]
        rng.shuffle(offsets)
        offsets = offsets[:4000]
        data = rng.randbytes(size)

        def read(offset: int, size: int = size) -> bytes:
            return store.read(volume, offset, size)

        def write(offset: int, data: bytes = data) -> None:
            store.write(volume, offset, data)

        median_us(read, offsets)
        read_us = median_us(read, offsets)
        store.create_snapshot(volume, snapshot := uuid4())
        first_us = median_us(write, offsets)
        again_us = median_us(write, offsets)
        store.roll_back(volume, snapshot)
        store.delete(snapshot)
        store.settle()
        print(f"{depth:5}  {name:>6}  {read_us:8.1f}  {first_us:11.1f}  {again_us:8.1f}")


def main() -> None:
    with ExitStack() as stack:
        parent = sys.argv[1] if len(sys.argv) > 1 else None
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir=parent))
        store = ThinStore(Path(directory))
        stack.callback(store.close)
        rng = random.Random(1)  # noqa: S311
        source, target = bytes(1 << 20), bytearray(1 << 20)
        copy_us = median_us(
            lambda _: memoryview(target).__setitem__(slice(None), source), [0] * 500
        )
        print(f"one copy of 1 MiB in memory: {copy_us:.1f} us\n")
        print("depth    size      read  first write     write   (us)")
        for depth in DEPTHS:
            measure(store, depth, rng)


if __name__ == "__main__":
    main()
