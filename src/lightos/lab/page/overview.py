# SPDX-License-Identifier: Apache-2.0
"""All that the web page shows, as one JSON document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from lightos.api.models.cluster import ClusterHealth, ClusterStatistics
from lightos.lab.connected_hosts import visible_volumes
from lightos.lab.describe import Description
from lightos.lab.faults.calls import Faults
from lightos.lab.records import NodeRecord, NodeState, VolumeRecord, VolumeState
from lightos.lab.target.io_controller import IoController
from lightos.lab.traffic import IoCounters

MAX_EVENTS = 200
MAX_VOLUMES = 500
"""So many are described one by one, the busiest first; the others are only counted."""


@dataclass(frozen=True)
class Overview:
    """Describes one cluster as people look at it.

    Traffic is told as totals that only grow, beside the moment (`seconds`, of a monotonic clock);
    whoever asks twice has the rates.
    """

    description: Description
    faults: Faults
    monotonic: Callable[[], float]

    def to_json(self) -> dict[str, Any]:
        nodes = self.description.cluster.nodes
        controllers = self.description.hosts.controllers()
        whole = self.description.whole_cluster()
        health = whole.health or ClusterHealth()
        statistics = whole.statistics or ClusterStatistics()
        volumes = list(self.description.cluster.volumes.values())
        volumes_of_group = Counter(volume.group_id for volume in volumes)
        return {
            "seconds": self.monotonic(),
            "cluster": {
                "name": self.description.cluster.record.name,
                "subsystemNQN": whole.subsystem_nqn,
                "health": health.state.wire_name,
                "degradedVolumes": health.degraded_volumes,
                "notAvailableVolumes": health.not_available_volumes,
                "usedBytes": statistics.physical_used_bytes,
                "freeBytes": statistics.free_physical_bytes,
            },
            "io": self.description.traffic.total().to_json(),
            "nodes": [
                self._node(node, volumes_of_group, controllers.get(node.uuid, []))
                for node in nodes.values()
            ],
            "hosts": self._hosts(),
            "volumeCount": len(volumes),
            "snapshotCount": len(self.description.cluster.snapshots),
            "volumes": [self._volume(volume) for volume in self._shown(volumes)],
            "faults": self.faults.to_json(),
            "events": self.description.events.latest(MAX_EVENTS),
        }

    def _node(
        self,
        node: NodeRecord,
        volumes_of_group: Mapping[int, int],
        controllers: list[IoController],
    ) -> dict[str, Any]:
        nodes = self.description.cluster.nodes
        groups = volumes_of_group.items()
        return {
            "uuid": str(node.uuid),
            "name": node.name,
            "address": node.address,
            "state": nodes.state_of(node).wire_name,
            "stopped": node.state is NodeState.INACTIVE,
            "primaries": sum(n for group, n in groups if nodes.primary(group) == node.uuid),
            "replicas": sum(n for group, n in groups if node.uuid in nodes.replicas(group)),
            "io": _sum(controllers).to_json(),
        }

    def _shown(self, volumes: list[VolumeRecord]) -> list[VolumeRecord]:
        def order(volume: VolumeRecord) -> tuple[int, str, str]:
            io = self.description.traffic.of(volume.uuid)
            return -io.read_bytes - io.written_bytes, volume.project, volume.name

        shown = volumes if len(volumes) <= MAX_VOLUMES else sorted(volumes, key=order)[:MAX_VOLUMES]
        return sorted(shown, key=attrgetter("project", "name"))

    def _volume(self, volume: VolumeRecord) -> dict[str, Any]:
        nodes = self.description.cluster.nodes
        primary = nodes.primary(volume.group_id)
        gone = volume.state is VolumeState.DELETING  # its blocks may be, too
        return {
            "uuid": str(volume.uuid),
            "project": volume.project,
            "name": volume.name,
            "state": volume.state.wire_name,
            "protection": nodes.protection_state(volume).wire_name,
            "sizeBytes": volume.size_bytes,
            "usedBytes": 0 if gone else self.description.store.used_bytes(volume.uuid),
            "replicas": [nodes[uuid].name for uuid in nodes.replicas(volume.group_id)],
            "primary": None if primary is None else nodes[primary].name,
            "io": self.description.traffic.of(volume.uuid).to_json(),
        }

    def _hosts(self) -> list[dict[str, Any]]:
        return [
            {
                "nqn": host_nqn,
                "addresses": sorted({controller.host_address for _, controller in paths}),
                "volumes": len(visible_volumes(paths)),
                "io": _sum(controller for _, controller in paths).to_json(),
                "paths": [self._path(node, controller) for node, controller in paths],
            }
            for host_nqn, paths in self.description.hosts.paths().items()
        ]

    def _path(self, node: NodeRecord, controller: IoController) -> dict[str, Any]:
        """One controller of a host; `optimized` namespaces are those that it may use there now."""
        seen = controller.blocks.namespaces.values()
        nodes = self.description.cluster.nodes
        return {
            "node": node.name,
            "controllerId": controller.controller_id,
            "ioQueues": sum(1 for queue_id in controller.queues if queue_id),
            "optimized": sum(nodes.primary(view.ana_group_id) == node.uuid for view in seen),
        }


def _sum(controllers: Iterable[IoController]) -> IoCounters:
    total = IoCounters()
    for controller in controllers:
        total.add(controller.blocks.counters)
    return total
