# SPDX-License-Identifier: Apache-2.0
"""A cluster on the real store and database, with a clock that tests move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from lightos.lab.cluster import Cluster
from lightos.lab.database import Database
from lightos.lab.founding import found_cluster
from lightos.lab.records import SnapshotRecord, VolumeRecord
from lightos.lab.store import ThinStore
from lightos.lab.view import AnaState, ClusterChange

GIB = 1 << 30
TRANSITION_SECONDS = 1.0
FAILBACK_SECONDS = 10.0
HOST = "nqn.2014-08.org.nvmexpress:uuid:5b5a4fbb-9ad8-4a6c-9d5e-8e5d6d0a9a01"
OTHER_HOST = "nqn.2014-08.org.nvmexpress:uuid:5b5a4fbb-9ad8-4a6c-9d5e-8e5d6d0a9a02"
ADDRESS = "192.168.75.101"


class Harness:
    def __init__(self, directory: Path, nodes: int = 3) -> None:
        self.directory = directory
        self.nodes = nodes
        self.seconds = 1000.0
        self.told: list[ClusterChange] = []
        self.open()

    def open(self) -> None:
        self.database = Database(self.directory / "cluster.sqlite")
        found_cluster(self.database, node_count=self.nodes, projects=["blue"])
        self.store = ThinStore(self.directory / "blocks")
        self.cluster = Cluster(
            self.database,
            self.store,
            monotonic=lambda: self.seconds,
            now=lambda: datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds),
            transition_seconds=TRANSITION_SECONDS,
            failback_seconds=FAILBACK_SECONDS,
        )
        self.cluster.subscribe(self.told.append)

    def close(self) -> None:
        self.store.close()
        self.database.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def wait(self, seconds: float = TRANSITION_SECONDS) -> None:
        """Let time pass, everything that falls due included."""
        end = self.seconds + seconds
        while (left := self.cluster.seconds_to_next_due()) is not None:
            if self.seconds + left > end:
                break
            self.seconds += left
            self.cluster.carry_out(self.cluster.finish_due())
        self.seconds = end

    def volume(self, name: str = "vol", project: str = "default", **asked: Any) -> VolumeRecord:
        """Make a volume; returns it in Creating."""
        request: dict[str, Any] = {
            "size_bytes": GIB,
            "replica_count": min(3, self.nodes),
            "acl": ["ALLOW_NONE"],
            "ip_acl": ["ALLOW_ANY"],
            "compression": False,
            "sector_size_bytes": 4096,
        }
        change = self.cluster.volumes.create(project, name=name, **request | asked)
        return self.cluster.carry_out(change).put[0]

    def ready_volume(self, name: str = "vol", **asked: Any) -> VolumeRecord:
        uuid = self.volume(name, **asked).uuid
        self.wait()
        return self.cluster.volumes[uuid]

    def snapshot(self, volume: VolumeRecord, name: str = "snap", **asked: Any) -> SnapshotRecord:
        change = self.cluster.snapshots.create(
            volume.project, name=name, source_volume=volume.uuid, **asked
        )
        return self.cluster.carry_out(change).put[0]

    def ready_snapshot(self, volume: VolumeRecord, name: str = "snap") -> SnapshotRecord:
        uuid = self.snapshot(volume, name).uuid
        self.wait()
        return self.cluster.snapshots[uuid]

    def update(self, uuid: UUID, **asked: Any) -> VolumeRecord:
        return self.cluster.carry_out(self.cluster.volumes.update(None, uuid, **asked)).put[0]

    def delete_volume(self, uuid: UUID, **asked: Any) -> None:
        self.cluster.carry_out(self.cluster.volumes.delete(None, uuid, **asked))

    def delete_snapshot(self, uuid: UUID, **asked: Any) -> None:
        self.cluster.carry_out(self.cluster.snapshots.delete(None, uuid, **asked))

    def stop_node(self, index: int) -> None:
        self.cluster.carry_out(self.cluster.nodes.stop(self.node_uuid(index)))

    def start_node(self, index: int) -> None:
        self.cluster.carry_out(self.cluster.nodes.start(self.node_uuid(index)))

    def add_node(self, address: str) -> UUID:
        self.nodes += 1
        return self.cluster.carry_out(self.cluster.nodes.add(address)).put[0].uuid

    def remove_node(self, uuid: UUID) -> None:
        self.cluster.carry_out(self.cluster.nodes.remove(uuid))
        self.nodes -= 1

    def move_node(self, uuid: UUID, address: str) -> None:
        self.cluster.carry_out(self.cluster.nodes.move(uuid, address))

    def node_uuid(self, index: int) -> UUID:
        return list(self.cluster.nodes)[index]

    def optimized(self, group_id: int) -> list[int]:
        """Indexes of the nodes that report the group OPTIMIZED."""
        return [
            index
            for index, node in enumerate(self.cluster.nodes)
            if self.cluster.ana_state(node, group_id) is AnaState.OPTIMIZED
        ]
