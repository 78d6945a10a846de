# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells the outside: Prometheus metrics and its health, over HTTP.

The os-brick connectors, ours and the incumbent's, take a `200` to `HEAD /metrics` for "there is
a discovery client". The first four metrics bear the names that the vendor's daemon uses.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from lightos.discovery.desired import Cluster, ControllerPath, Endpoint

LOG = logging.getLogger(__name__)

_REQUEST_TIMEOUT_SECONDS = 5


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


class StatusServer:
    """Serves /metrics and /healthz in a thread. Raises OSError if it cannot listen."""

    def __init__(self, endpoint: Endpoint, snapshot: Callable[[], Status]) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(StatusCollector(snapshot))

        class Handler(_Handler):
            status = staticmethod(snapshot)
            metrics = registry

        class Server(ThreadingTCPServer):
            address_family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
                # Whoever asks and does not wait for the answer is no news.
                if not isinstance(sys.exception(), OSError):
                    LOG.exception("a request from %s failed", client_address)

        self._server = Server((endpoint.address, endpoint.port), Handler)
        self.port: int = self._server.server_address[1]
        """Where it listens; of interest if port 0 was asked for."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_TIMEOUT_SECONDS
    server_version = "lightos-discovery-client"
    sys_version = ""
    status: Callable[[], Status]
    metrics: CollectorRegistry

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        code, kind, body = self._content(self.path.partition("?")[0])
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _content(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/metrics":
            try:
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
            except (TypeError, ValueError):  # a version that is not made of numbers
                encode, kind = choose_encoder("")
            return HTTPStatus.OK, kind, encode(self.metrics)
        if path == "/healthz":
            status = type(self).status()
            code = HTTPStatus.SERVICE_UNAVAILABLE if status.problem else HTTPStatus.OK
            return code, "application/json", json.dumps(status.health()).encode()
        return HTTPStatus.NOT_FOUND, "text/plain", b"there are /metrics and /healthz\n"

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""
