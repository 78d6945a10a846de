# SPDX-License-Identifier: Apache-2.0
"""A process killed at any instant leaves a store in which all that it was told is there."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import UUID

import pytest

from lightos.lab.store import ThinStore
from lightos.lab.store.layer import WRITTEN
from lightos.lab.store.sparse import next_data
from tests.unit.store.model import SECTOR, ModelStore, Operation, do, random_operation

ROOT = Path(__file__).parents[3]
EXTENT = 4096
MAX_BYTES = 9 << 20
GROWTH = 3 << 20
KILLS = 8


def run_and_kill(directory: Path, operations: list[Operation], after_seconds: float) -> int:
    """How many operations a killed process was told had been done."""
    operations_file = directory.with_name("operations")
    operations_file.write_bytes(pickle.dumps(operations))
    command = [sys.executable, "-m", "tests.unit.store.workload", directory, operations_file]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        done = process.stdout.read(1)
        time.sleep(after_seconds)
        process.kill()
        done += process.stdout.read()
    assert done
    return done.count(b".")


def size_of(store: ThinStore, uuid: UUID, candidates: set[int]) -> int:
    """The size of a volume, which is one of the candidates."""
    for size in sorted(candidates, reverse=True):
        try:
            store.read(uuid, size - SECTOR, SECTOR)
        except ValueError:
            continue
        with pytest.raises(ValueError, match="end beyond"):
            store.read(uuid, size, SECTOR)
        return size
    raise AssertionError(f"{uuid} has none of the sizes {candidates}")


def check(store: ThinStore, before: ModelStore, after: ModelStore, cut_short: str) -> ModelStore:
    """What the store holds now, which must be `before` or `after`, or for what writes, sector by
    sector either of them."""
    old, new = before.contents(), after.contents()
    assert store.uuids() in (old.keys(), new.keys())
    found = ModelStore()
    for uuid in store.uuids():
        allowed = [contents[uuid] for contents in (old, new) if uuid in contents]
        size = size_of(store, uuid, {len(contents) for contents in allowed})
        contents = store.read(uuid, 0, size)
        if contents not in allowed:
            assert cut_short in ("write", "deallocate")
            for at in range(0, size, SECTOR):
                assert contents[at : at + SECTOR] in [one[at : at + SECTOR] for one in allowed]
        if uuid in after.volumes or uuid in before.volumes:
            found.volumes[uuid] = bytearray(contents)
        else:
            found.snapshots[uuid] = contents
    return found


def leftovers(directory: Path) -> list[tuple[Path, int]]:
    """Extents that take space though neither of their states says that they are written."""
    found = []
    for data_path in (directory / "layers").glob("*.data"):
        states = data_path.with_suffix(".map").read_bytes()
        needed = {at for at, byte in enumerate(states) if WRITTEN in (byte & 3, byte >> 2 & 3)}
        with data_path.open("rb") as file:
            end = 0
            while (begin := next_data(file.fileno(), end)) is not None:
                end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
                extents = set(range(begin // EXTENT, -(-end // EXTENT)))
                found += [(data_path, extent) for extent in extents - needed]
    return found


def open_and_check(directory: Path, before: ModelStore, cut_short: list[Operation]) -> ModelStore:
    """Open the store of a killed process, which had done `before`, and at most the first of
    `cut_short`; what it holds, also once the background is through."""
    after = before.copy()
    for operation in cut_short[:1]:
        do(after, operation)
    store = ThinStore(directory)
    try:
        found = check(store, before, after, cut_short[0][0] if cut_short else "")
        store.settle()
        assert store.verify() == []
        assert leftovers(directory) == []
        for uuid, contents in found.contents().items():
            assert store.read(uuid, 0, len(contents)) == contents
        for uuid, contents in found.volumes.items():
            store.resize_volume(uuid, len(contents) + GROWTH)
            assert store.read(uuid, len(contents), GROWTH) == bytes(GROWTH)
            store.resize_volume(uuid, len(contents))
    finally:
        store.close()
    return found


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in (1, 2))]
)
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    directory = tmp_path / "store"
    found = ModelStore()
    for _ in range(KILLS):
        operations = []
        planned = found.copy()
        for _ in range(300):
            operations.append(random_operation(rng, planned, MAX_BYTES))
            do(planned, operations[-1])
        done = run_and_kill(directory, operations, rng.uniform(0, 0.5))
        for operation in operations[:done]:
            do(found, operation)
        found = open_and_check(directory, found, operations[done:])


def one(number: int) -> UUID:
    return UUID(int=number)


# Everything the store can do, with each kind of fold, in as few steps as that takes.
SCRIPT: list[Operation] = [
    ("create_volume", (one(1), 2 << 20)),
    ("write", (one(1), 0, b"a" * (1200 << 10))),
    ("create_snapshot", (one(1), one(2))),
    ("write", (one(1), 4096 + 512, b"b" * 512)),
    ("deallocate", (one(1), 512, 65536)),
    ("clone_snapshot", (one(2), one(3), 3 << 20)),
    ("write", (one(3), 2 << 20, b"c" * (64 << 10))),
    ("resize_volume", (one(3), 6144)),
    ("resize_volume", (one(3), 3 << 20)),
    ("write", (one(3), 2 << 20, b"d" * 8192)),
    ("create_snapshot", (one(3), one(4))),
    ("write", (one(3), 0, b"e" * (256 << 10))),
    ("roll_back", (one(1), one(2))),
    ("write", (one(1), 16384, b"f" * 4096)),
    ("delete", (one(4),)),
    ("create_snapshot", (one(1), one(5))),
    ("write", (one(1), 0, b"g" * (1500 << 10))),
    ("delete", (one(5),)),
    ("delete", (one(3),)),
    ("delete", (one(2),)),
    ("delete", (one(1),)),
]
CALLS = {"pwrite", "ftruncate", "fdatasync", "fsync", "open", "unlink", "execute"}


def run_until_call(directory: Path, kill_at: int, acknowledge: int) -> None:
    """In a process of its own: do the script, and die just before the n-th of the CALLS."""
    made = 0

    def on_event(_frame: object, event: str, function: object) -> None:
        nonlocal made
        if event == "c_call" and getattr(function, "__name__", "") in CALLS:
            made += 1
            if made == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(on_event)
    sys.setprofile(on_event)
    store = ThinStore(directory)
    for operation in SCRIPT:
        do(store, operation)
        os.write(acknowledge, b".")
        store.settle()
    store.close()


def test_kill_9_before_every_single_call(small_disk: Path) -> None:
    """Not at random instants but at all of them, as far as the script leads."""
    for kill_at in itertools.count(1):
        directory = small_disk / str(kill_at)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                run_until_call(directory, kill_at, write_end)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(write_end)
        with open(read_end, "rb") as acknowledged:
            done = len(acknowledged.read())
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        before = ModelStore()
        for operation in SCRIPT[:done]:
            do(before, operation)
        open_and_check(directory, before, SCRIPT[done:])
        shutil.rmtree(directory)
    assert os.WEXITSTATUS(status) == 0
    assert done == len(SCRIPT)
    assert kill_at > 200
