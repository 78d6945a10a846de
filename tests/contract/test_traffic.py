# SPDX-License-Identifier: Apache-2.0
"""The lab's count of what it is asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.lab import PROJECT, Api, Lab
from tests.contract.test_data_path import BLOCK, HOST, block, connect

NO_SUCH = f"{PROJECT}/volumes/00000000-0000-4000-8000-000000000000"


def traffic(api: Api) -> dict[str, Any]:
    reply = api.raw("GET", "/lab/v1/traffic")
    assert reply.status_code == 200
    seen: dict[str, Any] = reply.json()
    counts = {"tlsConnections", "readBytes", "writtenBytes", "heldWrites", "pathRefusals"}
    assert set(seen) == {"calls", *counts}
    return seen


def test_calls_are_counted_by_operation_whatever_their_answer(api: Api) -> None:
    before = Counter(traffic(api)["calls"])
    body = {"name": "a", "size": "1 gib", "replicaCount": 1, "acl": {"values": ["ALLOW_NONE"]}}
    made = api.call("POST", f"{PROJECT}/volumes", body)
    for _ in range(3):
        api.call("GET", f"{PROJECT}/volumes/{made['UUID']}")
    api.call("GET", NO_SUCH, status=404)
    assert api.raw("GET", NO_SUCH, headers={"Authorization": "Bearer nonsense"}).status_code == 401
    assert Counter(traffic(api)["calls"]) - before == Counter(CreateVolume=1, GetVolume=5)


def test_a_connection_is_counted_once_however_many_calls_it_carries(lab: Lab, api: Api) -> None:
    before = traffic(api)["tlsConnections"]
    for _ in range(3):
        api.call("GET", f"{PROJECT}/volumes")
    assert traffic(api)["tlsConnections"] == before
    for node in range(3):
        Api(lab, node).call("GET", "/api/v2/version")
    assert traffic(api)["tlsConnections"] == before + 3


def test_data_that_hosts_read_and_write_is_counted_by_the_byte(lab: Lab, api: Api) -> None:
    volume = api.create_volume("vol", acl={"values": [HOST]})
    nsid = volume["nsid"]
    before = traffic(api)
    with connect(lab, volume["primaryNodeUUID"]) as host:
        host.write(nsid, 0, 3 * block(1))
        host.read(nsid, 0, 2)
        host.read(nsid, 100, 5)  # what nobody wrote is read like all else
        host.compare(nsid, 0, block(1))
        host.write_zeroes(nsid, 0, 1)
        host.deallocate(nsid, [(1, 1)])
    after = traffic(api)
    assert after["writtenBytes"] - before["writtenBytes"] == 3 * BLOCK
    statistics = api.call("GET", f"{PROJECT}/volumes/{volume['UUID']}")["statistics"]
    assert int(statistics["userWritten"]) == 3 * BLOCK
    assert after["readBytes"] - before["readBytes"] == 7 * BLOCK


def test_only_administrators_of_the_cluster_see_the_traffic(lab: Lab) -> None:
    of_a_project = Api(lab, token=lab.token("blue"))
    assert of_a_project.raw("GET", "/lab/v1/traffic").status_code == 403


def samples(api: Api) -> dict[tuple[str, ...], float]:
    """The lab's metrics, by name and the values of their labels, sorted by these."""
    reply = api.raw("GET", "/lab/v1/metrics")
    assert reply.status_code == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_metrics_tell_the_same_and_more(lab: Lab, api: Api) -> None:
    before = samples(api)
    volume = api.create_volume("vol", acl={"values": [HOST]})
    api.call("GET", NO_SUCH, status=404)
    with connect(lab, volume["primaryNodeUUID"]) as host:
        host.write(volume["nsid"], 0, 3 * block(1))
        during = samples(api)
    missing = ("lightos_lab_requests_total", "404", "GetVolume")
    assert during[missing] - before.get(missing, 0) == 1
    written = ("lightos_lab_io_bytes_total", "write")
    assert during[written] - before[written] == 3 * BLOCK
    assert during["lightos_lab_hosts",] == 1
    assert during["lightos_lab_volumes", "FullyProtected", "Available"] == 1
    nodes = {node["uuid"]: node["name"] for node in lab.info["nodes"]}
    primary = nodes[volume["primaryNodeUUID"]]
    assert during["lightos_lab_node_state", primary, "Active"] == 1
    assert during["lightos_lab_controllers", primary] == 1
    assert during["lightos_lab_io_queues", primary] == 1
    tenant = Api(lab, token=lab.token("default"))
    assert tenant.raw("GET", "/lab/v1/metrics").status_code == 403


def test_a_reply_that_a_fault_takes_away_has_no_code(own_lab: Lab) -> None:
    api = Api(own_lab)
    rule = {"operation": "GetVolume", "lose_reply": True, "count": 1}
    assert api.raw("POST", "/lab/v1/faults", rule).status_code == 200
    with pytest.raises(requests.ConnectionError):
        api.raw("GET", NO_SUCH)
    found = samples(api)
    assert found["lightos_lab_requests_total", "none", "GetVolume"] == 1
    assert found["lightos_lab_fault_rules",] == 1
