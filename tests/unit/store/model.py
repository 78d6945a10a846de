# SPDX-License-Identifier: Apache-2.0
"""What a store must do, on plain byte arrays, and random work for both."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

from lightos.lab.store import ThinStore

SECTOR = 512
Operation = tuple[str, tuple[Any, ...]]
"""A method that the model and the store both have, and its arguments."""


class ModelStore:
    def __init__(self) -> None:
        self.volumes: dict[UUID, bytearray] = {}
        self.snapshots: dict[UUID, bytes] = {}

    def copy(self) -> ModelStore:
        twin = ModelStore()
        twin.volumes = {uuid: bytearray(data) for uuid, data in self.volumes.items()}
        twin.snapshots = dict(self.snapshots)
        return twin

    def contents(self) -> dict[UUID, bytes]:
        return {uuid: bytes(data) for uuid, data in (self.volumes | self.snapshots).items()}

    def create_volume(self, uuid: UUID, size_bytes: int) -> None:
        self.volumes[uuid] = bytearray(size_bytes)

    def create_snapshot(self, volume_uuid: UUID, snapshot_uuid: UUID) -> None:
        self.snapshots[snapshot_uuid] = bytes(self.volumes[volume_uuid])

    def clone_snapshot(self, snapshot_uuid: UUID, volume_uuid: UUID, size_bytes: int) -> None:
        self.volumes[volume_uuid] = bytearray(
            self.snapshots[snapshot_uuid].ljust(size_bytes, b"\0")
        )

    def roll_back(self, volume_uuid: UUID, snapshot_uuid: UUID) -> None:
        size = len(self.volumes[volume_uuid])
        contents = self.snapshots[snapshot_uuid][:size].ljust(size, b"\0")
        self.volumes[volume_uuid] = bytearray(contents)

    def resize_volume(self, uuid: UUID, size_bytes: int) -> None:
        self.volumes[uuid] = self.volumes[uuid][:size_bytes].ljust(size_bytes, b"\0")

    def delete(self, uuid: UUID) -> None:
        self.volumes.pop(uuid, None)
        self.snapshots.pop(uuid, None)

    def write(self, uuid: UUID, offset_bytes: int, data: bytes) -> None:
        self.volumes[uuid][offset_bytes : offset_bytes + len(data)] = data

    def deallocate(self, uuid: UUID, offset_bytes: int, length_bytes: int) -> None:
        self.volumes[uuid][offset_bytes : offset_bytes + length_bytes] = bytes(length_bytes)


def do(target: ModelStore | ThinStore, operation: Operation) -> None:
    name, arguments = operation
    getattr(target, name)(*arguments)


def random_operation(rng: random.Random, model: ModelStore, max_bytes: int) -> Operation:
    """Something that can be done now, on volumes of up to `max_bytes`."""
    volumes, snapshots = list(model.volumes), list(model.snapshots)
    kinds = ["write"] * 20 + ["deallocate"] * 4 + ["resize_volume"]
    if len(volumes) + len(snapshots) < 8:
        kinds += ["create_snapshot"] * 4 + ["create_volume"]
        kinds += ["clone_snapshot"] * 2 * bool(snapshots)
    if snapshots:
        kinds += ["roll_back"] + ["delete"] * 4
    kind = rng.choice(kinds) if volumes else "create_volume"

    volume = rng.choice(volumes) if volumes else None
    snapshot = rng.choice(snapshots) if snapshots else None
    new = UUID(int=rng.getrandbits(128))
    new_size = rng.randrange(1, max_bytes // SECTOR + 1) * SECTOR
    clone_size = (len(model.snapshots[snapshot]) if snapshot else 0) + rng.choice((0, SECTOR))
    sectors = len(model.volumes[volume]) // SECTOR if volume else 1
    begin = rng.randrange(sectors)
    longest = rng.choice((1, 8, 64, 1024, max_bytes // SECTOR))
    offset, length = begin * SECTOR, min(rng.randint(1, longest), sectors - begin) * SECTOR
    arguments: dict[str, tuple[Any, ...]] = {
        "create_volume": (new, new_size),
        "create_snapshot": (volume, new),
        "clone_snapshot": (snapshot, new, clone_size),
        "roll_back": (volume, snapshot),
        "resize_volume": (volume, new_size),
        "delete": (rng.choice([volume, snapshot, snapshot, snapshot]),),
        "write": (volume, offset, rng.randbytes(16) * (length // 16)),
        "deallocate": (volume, offset, length),
    }
    return kind, arguments[kind]
