# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told of the lab."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from lightos.lab.describe import Description
from lightos.lab.faults.calls import Faults
from lightos.lab.traffic import IoCounters


@dataclass(frozen=True)
class NodeFigures:
    """One node: its state, and what hosts have there."""

    state: str
    controllers: int = 0
    io_queues: int = 0


@dataclass(frozen=True)
class LabFigures:
    """All numbers of one moment; counters are since the start of the lab."""

    replies: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By operation and code."""
    tls_connections: int = 0
    io: IoCounters = field(default_factory=IoCounters)
    held_writes: int = 0
    path_refusals: int = 0
    nodes: Mapping[str, NodeFigures] = field(default_factory=dict)
    hosts: int = 0
    volumes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By state and protection."""
    snapshots: int = 0
    used_bytes: int = 0
    free_bytes: int = 0
    fault_rules: int = 0

    @classmethod
    def of(cls, description: Description, faults: Faults) -> LabFigures:
        """Those of now."""
        cluster, nodes = description.cluster, description.cluster.nodes
        traffic = description.traffic
        controllers = description.hosts.controllers()
        figures = {}
        for node in nodes.values():
            mine = controllers.get(node.uuid, [])
            figures[node.name] = NodeFigures(
                state=nodes.state_of(node).wire_name,
                controllers=len(mine),
                io_queues=sum(1 for each in mine for queue_id in each.queues if queue_id),
            )
        return cls(
            replies=traffic.replies,
            tls_connections=traffic.connections,
            io=traffic.total(),
            held_writes=traffic.held_writes,
            path_refusals=traffic.path_refusals,
            nodes=figures,
            hosts=len(description.hosts.paths()),
            volumes=Counter(
                (volume.state.wire_name, nodes.protection_state(volume).wire_name)
                for volume in cluster.volumes.values()
            ),
            snapshots=len(cluster.snapshots),
            used_bytes=description.store.total_used_bytes(),
            free_bytes=description.free_bytes(),
            fault_rules=len(faults.to_json()["rules"]),
        )


class LabCollector:
    """Turns the figures of the moment into metrics whenever Prometheus asks."""

    def __init__(self, figures: Callable[[], LabFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        now = self._figures()
        requests = CounterMetricFamily(
            "lightos_lab_requests",
            "Calls of the management API at the nodes, by operation and HTTP status; `none` where "
            "a fault took the reply away",
            labels=("operation", "code"),
        )
        for labels, count in now.replies.items():
            requests.add_metric(labels, count)
        yield requests
        yield CounterMetricFamily(
            "lightos_lab_tls_connections", "Completed TLS handshakes", now.tls_connections
        )
        yield from _io(now.io)
        yield CounterMetricFamily(
            "lightos_lab_held_writes", "Writes that the fault plan held", now.held_writes
        )
        yield CounterMetricFamily(
            "lightos_lab_path_refusals",
            "I/O commands refused because their node was not the primary",
            now.path_refusals,
        )
        yield from _nodes(now.nodes)
        yield GaugeMetricFamily(
            "lightos_lab_hosts", "Hosts that have an I/O controller on some node", now.hosts
        )
        volumes = GaugeMetricFamily(
            "lightos_lab_volumes", "Volumes", labels=("state", "protection")
        )
        for labels, count in now.volumes.items():
            volumes.add_metric(labels, count)
        yield volumes
        for name, meaning, value in (
            ("lightos_lab_snapshots", "Snapshots", now.snapshots),
            ("lightos_lab_used_bytes", "Space that volumes and snapshots take", now.used_bytes),
            ("lightos_lab_free_bytes", "Free space of the disk under them", now.free_bytes),
            ("lightos_lab_fault_rules", "Rules in the fault plan", now.fault_rules),
        ):
            yield GaugeMetricFamily(name, meaning, value)


def _io(io: IoCounters) -> Iterator[Metric]:
    commands = CounterMetricFamily(
        "lightos_lab_io_commands", "Commands of hosts that read or write", labels=("direction",)
    )
    moved = CounterMetricFamily(
        "lightos_lab_io_bytes", "User data that hosts read and wrote", labels=("direction",)
    )
    for direction, count, length_bytes in (
        ("read", io.reads, io.read_bytes),
        ("write", io.writes, io.written_bytes),
    ):
        commands.add_metric((direction,), count)
        moved.add_metric((direction,), length_bytes)
    yield commands
    yield moved


def _nodes(nodes: Mapping[str, NodeFigures]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "lightos_lab_node_state", "1, for the state that a node is in", labels=("node", "state")
    )
    controllers = GaugeMetricFamily(
        "lightos_lab_controllers", "I/O controllers that hosts have on a node", labels=("node",)
    )
    queues = GaugeMetricFamily(
        "lightos_lab_io_queues", "Connections of their I/O queues", labels=("node",)
    )
    for name, node in nodes.items():
        state.add_metric((name, node.state), 1)
        controllers.add_metric((name,), node.controllers)
        queues.add_metric((name,), node.io_queues)
    yield from (state, controllers, queues)


def exposition(figures: Callable[[], LabFigures]) -> bytes:
    """The metrics of now in Prometheus's text format, 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LabCollector(figures))
    return generate_latest(registry)
