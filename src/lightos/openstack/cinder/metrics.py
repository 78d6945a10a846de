# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told of the driver, where `lightos_metrics_port` is set."""

from __future__ import annotations

import math
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from lightos.api.credentials import TokenSource, whole_days_left
from lightos.api.observer import Observer
from lightos.metrics_page import MetricsServer
from lightos.waiting import utc_now

_REQUEST_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WAIT_BUCKETS_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class DriverMetrics(Observer):
    """Counts what one back end does. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "lightos_api_request_seconds",
            "Requests to the management API: by operation, address, and HTTP status or what kept "
            "the reply away",
            ("operation", "address", "code"),
            buckets=_REQUEST_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self._retries = Counter(
            "lightos_api_retries",
            "Requests sent again for the same call, by what came of the one before",
            ("operation", "after"),
            registry=self.registry,
        )
        self._waits = Histogram(
            "lightos_state_wait_seconds",
            "Waits until the cluster shows what it had accepted: done, timed out, or failed",
            ("operation", "outcome"),
            buckets=_WAIT_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self._token_days = Gauge(
            "lightos_token_days_left",
            "Whole days until the token expires, negative afterwards; NaN when it does not say",
            registry=self.registry,
        )
        self._access = Gauge(
            "lightos_access_without_attachment",
            "Hosts in access lists of volumes that the driver let in and no attachment shows, at "
            "the last look",
            registry=self.registry,
        )
        self._token_days.set(math.nan)
        self._access.set(math.nan)
        self._server: MetricsServer | None = None

    def serve(self, address: str, port: int) -> None:
        """Answer to Prometheus from now on, if not yet. OSError when it cannot listen there."""
        if self._server is None:
            name = "lightos-cinder"
            self._server = MetricsServer(address, port, self.registry, server_name=name)
            self._server.start()

    def watch_token(self, source: TokenSource, now: Callable = utc_now) -> None:
        """Tell how long the token of `source` has, whenever Prometheus asks."""

        def days_left() -> float:
            days = whole_days_left(source.current(), now())
            return math.nan if days is None else days

        self._token_days.set_function(days_left)

    def request_ended(self, operation: str, address: str, outcome: str, seconds: float) -> None:
        self._requests.labels(operation, address, outcome).observe(seconds)

    def asked_again(self, operation: str, after: str) -> None:
        self._retries.labels(operation, after).inc()

    def waited(self, operation: str, outcome: str, seconds: float) -> None:
        """A wait for a state ended."""
        self._waits.labels(operation, outcome).observe(seconds)

    def access_without_attachment(self, count: int) -> None:
        """So many are in doubt now."""
        self._access.set(count)
