# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells the outside: Prometheus metrics and its health, over HTTP.

The os-brick connectors, ours and the incumbent's, take a `200` to `HEAD /metrics` for "there is
a discovery client". The first four metrics bear the names that the vendor's daemon uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from lightos.discovery.desired import Cluster, ControllerPath, Endpoint
from lightos.metrics_page import MetricsServer


@dataclass(frozen=True)
class ClusterStatus:
    """One cluster as the daemon sees it. `active` is the discovery service it talks to."""

    cluster: Cluster
    endpoints: tuple[Endpoint, ...] = ()
    active: Endpoint | None = None
    record_count: int = 0
    wanted: frozenset[ControllerPath] = frozenset()
    last_error: str = ""


@dataclass(frozen=True)
class Status:
    """A snapshot; the daemon replaces it, the HTTP threads only read it."""

    clusters: tuple[ClusterStatus, ...] = ()
    entry_count: int = 0
    bad_line_count: int = 0
    controllers_by_state: tuple[tuple[str, int], ...] = ()
    connected_paths: frozenset[ControllerPath] = frozenset()
    connects: int = 0
    connect_failures: int = 0
    disconnects: int = 0
    problem: str = ""
    """Why this host cannot connect anything at all; empty if it can."""

    def health(self) -> dict[str, object]:
        """Body of /healthz."""
        clusters = [
            {
                "host_nqn": c.cluster.host_nqn,
                "subsystem_nqn": c.cluster.subsystem_nqn,
                "discovery_service": str(c.active) if c.active else None,
                "controllers_wanted": len(c.wanted),
                "controllers_connected": len(c.wanted & self.connected_paths),
                "last_error": c.last_error,
            }
            for c in self.clusters
        ]
        complete = all(c.active and c.wanted <= self.connected_paths for c in self.clusters)
        state = "failed" if self.problem else "ok" if complete else "degraded"
        return {"status": state, "problem": self.problem, "clusters": clusters}


_SERVICE_LABELS = ("trtype", "traddr", "trsvcid", "nqn")


class StatusCollector:
    """Turns a snapshot into metrics whenever Prometheus asks."""

    def __init__(self, snapshot: Callable[[], Status]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        status = self._snapshot()
        connections = GaugeMetricFamily(
            "discovery_connections_total",
            "Discovery services known, by the host NQN they are asked for",
            labels=(*_SERVICE_LABELS, "hostnqn"),
        )
        state = GaugeMetricFamily(
            "discovery_connection_state",
            "1 for the discovery service in use, 0 for the ones in reserve",
            labels=_SERVICE_LABELS,
        )
        pages = GaugeMetricFamily(
            "discovery_log_page_count",
            "Discovery log page entries last read for a host NQN",
            labels=("hostnqn",),
        )
        wanted = GaugeMetricFamily(
            "discovery_controllers_wanted",
            "I/O controllers that the cluster offers and a file asks for",
            labels=("nqn", "hostnqn"),
        )
        connected = GaugeMetricFamily(
            "discovery_controllers_connected",
            "Of those, the ones that the kernel has",
            labels=("nqn", "hostnqn"),
        )
        states: dict[tuple[str, str, str, str], bool] = {}
        record_counts: dict[str, int] = {}
        for c in status.clusters:
            host, nqn = c.cluster.host_nqn, c.cluster.subsystem_nqn
            for endpoint in c.endpoints:
                where = ("tcp", endpoint.address, str(endpoint.port), nqn)
                connections.add_metric((*where, host), 1)
                states[where] = states.get(where, False) or endpoint == c.active
            record_counts[host] = record_counts.get(host, 0) + c.record_count
            wanted.add_metric((nqn, host), len(c.wanted))
            connected.add_metric((nqn, host), len(c.wanted & status.connected_paths))
        for where, active in states.items():
            state.add_metric(where, int(active))
        for host, count in record_counts.items():
            pages.add_metric((host,), count)
        entries = GaugeMetricFamily(
            "discovery_entries_total", "Entries in discovery files", status.entry_count
        )
        yield from (connections, state, pages, entries, wanted, connected)
        by_state = GaugeMetricFamily(
            "discovery_kernel_controllers",
            "NVMe/TCP controllers of this host, whoever made them",
            labels=("state",),
        )
        for name, count in status.controllers_by_state:
            by_state.add_metric((name,), count)
        yield by_state
        yield GaugeMetricFamily(
            "discovery_bad_lines",
            "Lines of discovery files that were skipped",
            status.bad_line_count,
        )
        for name, help_text, value in (
            ("discovery_connects", "Controllers made", status.connects),
            ("discovery_connect_failures", "Connects that failed", status.connect_failures),
            ("discovery_disconnects", "Controllers deleted", status.disconnects),
        ):
            yield CounterMetricFamily(name, help_text, value)


class StatusServer(MetricsServer):
    """Serves /metrics and /healthz in a thread. Raises OSError if it cannot listen."""

    def __init__(self, endpoint: Endpoint, snapshot: Callable[[], Status]) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(StatusCollector(snapshot))

        def health() -> tuple[HTTPStatus, Mapping[str, object]]:
            status = snapshot()
            code = HTTPStatus.SERVICE_UNAVAILABLE if status.problem else HTTPStatus.OK
            return code, status.health()

        super().__init__(
            endpoint.address,
            endpoint.port,
            registry,
            server_name="lightos-discovery-client",
            pages={"/healthz": health},
        )
