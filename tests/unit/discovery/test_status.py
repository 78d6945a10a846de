# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lightos.discovery.desired import Cluster, ControllerPath, Endpoint
from lightos.discovery.status import ClusterStatus, Status, StatusServer

CLUSTER = Cluster("nqn.2014-08.com.example:host", "nqn.2016-01.com.lightbitslabs:a")
ONE, TWO = (ControllerPath(CLUSTER, Endpoint(f"10.0.0.{n}", 4420)) for n in (1, 2))
STATUS = Status(
    clusters=(
        ClusterStatus(
            CLUSTER,
            endpoints=(Endpoint("10.0.0.1", 8009), Endpoint("fd00::2", 8009)),
            active=Endpoint("fd00::2", 8009),
            record_count=4,
            wanted=frozenset({ONE, TWO}),
            last_error="10.0.0.1:8009: Connection refused",
        ),
    ),
    entry_count=2,
    bad_line_count=1,
    controllers_by_state=(("connecting", 1), ("live", 1)),
    connected_paths=frozenset({ONE}),
    connects=3,
)


class Served:
    def __init__(self) -> None:
        self.status = STATUS


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
def connection(served: Served) -> Iterator[http.client.HTTPConnection]:
    with StatusServer(Endpoint("127.0.0.1", 0), lambda: served.status) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        yield connection
        connection.close()


def test_metrics_answers_head_as_the_connectors_ask(
    connection: http.client.HTTPConnection,
) -> None:
    connection.request("HEAD", "/metrics")
    reply = connection.getresponse()
    assert (reply.status, reply.read()) == (200, b"")


def test_metrics_tell_the_state_of_clusters_and_controllers(
    connection: http.client.HTTPConnection,
) -> None:
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    host, nqn = CLUSTER.host_nqn, CLUSTER.subsystem_nqn
    expected = {
        ("discovery_connections_total", host, nqn, "10.0.0.1", "8009", "tcp"): 1,
        ("discovery_connection_state", nqn, "10.0.0.1", "8009", "tcp"): 0,
        ("discovery_connection_state", nqn, "fd00::2", "8009", "tcp"): 1,
        ("discovery_log_page_count", host): 4,
        ("discovery_entries_total",): 2,
        ("discovery_controllers_wanted", host, nqn): 2,
        ("discovery_controllers_connected", host, nqn): 1,
        ("discovery_kernel_controllers", "connecting"): 1,
        ("discovery_kernel_controllers", "live"): 1,
        ("discovery_bad_lines",): 1,
        ("discovery_connects_total",): 3,
        ("discovery_connect_failures_total",): 0,
        ("discovery_disconnects_total",): 0,
    }
    assert expected.items() <= values.items()
    assert values["process_open_fds",] > 0


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (Status(), 200, "ok"),
        (STATUS, 200, "degraded"),
        (Status(problem="no module: run `modprobe nvme-tcp`"), 503, "failed"),
    ],
)
def test_health(
    served: Served,
    connection: http.client.HTTPConnection,
    status: Status,
    code: int,
    word: str,
) -> None:
    served.status = status
    connection.request("GET", "/healthz")
    reply = connection.getresponse()
    body = json.loads(reply.read())
    assert (reply.status, body["status"], body["problem"]) == (code, word, status.problem)


def test_health_names_each_cluster(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/healthz")
    assert json.loads(connection.getresponse().read())["clusters"] == [
        {
            "host_nqn": CLUSTER.host_nqn,
            "subsystem_nqn": CLUSTER.subsystem_nqn,
            "discovery_service": "[fd00::2]:8009",
            "controllers_wanted": 2,
            "controllers_connected": 1,
            "last_error": "10.0.0.1:8009: Connection refused",
        }
    ]


def test_nothing_else_is_served(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/debug/pprof")
    assert connection.getresponse().status == 404


def test_a_port_in_use_is_an_error() -> None:
    with StatusServer(Endpoint("127.0.0.1", 0), Status) as server:  # noqa: SIM117
        with pytest.raises(OSError, match="in use"):
            StatusServer(Endpoint("127.0.0.1", server.port), Status)


def test_callers_that_do_not_wait_for_their_answer_are_no_news(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    asked, gone = threading.Event(), threading.Event()

    def snapshot() -> Status:
        asked.set()
        gone.wait(10)
        return Status()

    with StatusServer(Endpoint("127.0.0.1", 0), snapshot) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as caller:
            caller.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            asked.wait(10)
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.set()
        handlers = [t for t in threading.enumerate() if "process_request" in t.name]
        for handler in handlers:
            handler.join(10)
    assert "Traceback" not in capfd.readouterr().err
    assert caplog.records == []


def test_a_version_of_the_format_that_is_none_is_no_reason_not_to_answer(
    connection: http.client.HTTPConnection,
) -> None:
    accept = "application/openmetrics-text; version=1.x"
    connection.request("GET", "/metrics", headers={"Accept": accept})
    response = connection.getresponse()
    assert response.status == 200
    assert b"discovery_connections_total" in response.read()
