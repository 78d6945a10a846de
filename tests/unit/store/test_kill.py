# SPDX-License-Identifier: Apache-2.0
"""A process killed at any instant leaves a store in which all that it was told is there."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest

from lightos.lab.store import ThinStore
from lightos.lab.store.layer import WRITTEN
from tests.unit.store.model import SECTOR, ModelStore, Operation, do, random_operation

ROOT = Path(__file__).parents[3]
EXTENT = 4096
MAX_BYTES = 9 << 20
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
    """The size of a volume, which is the only one of the candidates where it ends."""
    for size in candidates:
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
        with data_path.open("rb") as file:
            for extent in range(-(-data_path.stat().st_size // EXTENT)):
                try:
                    has_data = file.seek(extent * EXTENT, os.SEEK_DATA) == extent * EXTENT
                except OSError:
                    break
                state = states[extent] if extent < len(states) else 0
                if has_data and WRITTEN not in (state & 3, state >> 2 & 3):
                    found.append((data_path, extent))
    return found


@pytest.mark.parametrize("seed", range(3))
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

        before = found
        for operation in operations[:done]:
            do(before, operation)
        after = before.copy()
        for operation in operations[done : done + 1]:
            do(after, operation)
        store = ThinStore(directory)
        try:
            cut_short = operations[done][0] if done < len(operations) else ""
            found = check(store, before, after, cut_short)
            store.settle()
            assert leftovers(directory) == []
            assert store.verify() == []
            for uuid, contents in found.contents().items():
                assert store.read(uuid, 0, len(contents)) == contents
        finally:
            store.close()
