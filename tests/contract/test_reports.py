# SPDX-License-Identifier: Apache-2.0
"""Servers, connected hosts and events, as the management API reports them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.lab import PROJECT, Api, Lab
from tests.contract.test_data_path import HOST, OPEN_TO_HOST, all_paths, connect

HOSTS = "/api/v2/connectedHosts"
EVENTS = "/api/v2/events"


def hosts(api: Api, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.call("GET", HOSTS + query).get("connectedHosts", [])
    return found


def events(api: Api, query: str = "", path: str = EVENTS) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.call("GET", path + query).get("events", [])
    return found


def test_hosts_that_are_connected(lab: Lab, api: Api) -> None:
    assert hosts(api) == []
    volume = api.create_volume("vol", **OPEN_TO_HOST)["UUID"]
    other = api.create_volume("other")["UUID"]
    with all_paths(lab):
        (host,) = hosts(api)
        assert (host["hostNQN"], host["volumeUUIDs"]) == (HOST, [volume])
        assert host["iPAddress"].startswith("127.")
        assert hosts(api, f"?volumeUUID={volume}") == [host]
        assert hosts(api, f"?volumeUUID={other}") == []
        assert hosts(api, "?hostNQN=ignored") == [host]
        assert hosts(Api(lab, token=lab.token("default"))) == [host]
        assert hosts(Api(lab, token=lab.token("blue"))) == []
        blue = Api(lab, token=lab.token("blue"))
        blue.call("GET", f"{HOSTS}?volumeUUID={volume}", status=404)
    assert hosts(api) == []
    api.call("GET", f"{HOSTS}?volumeUUID={PROJECT}", status=400)
    assert api.call("GET", f"{HOSTS}/nqn.none", status=404)["code"] == 5
    # A gateway takes no colon in the last segment, so there is no route for a usual NQN.
    assert api.raw("GET", f"{HOSTS}/{HOST}").headers["Content-Type"].startswith("text/plain")


def test_servers(lab: Lab, api: Api) -> None:
    servers = api.call("GET", "/api/v2/servers")["servers"]
    assert [s["UUID"] for s in servers] == [node["uuid"] for node in lab.info["nodes"]]
    first = servers[0]
    assert (first["state"], first["health"]) == ("Enabled", "OK")
    assert first["NodesUUIDs"] == [first["UUID"]]
    assert api.call("GET", f"/api/v2/servers/{first['UUID']}") == first
    assert api.call("GET", f"/api/v2/servers?Name={first['name']}")["servers"] == [first]
    assert api.call("GET", "/api/v2/servers?RiskOfServiceLoss=NoRiskOfServiceLoss") == {}
    api.call("GET", "/api/v2/servers/c0ffee00-0000-4000-8000-000000000000", status=404)


def test_events_tell_what_happened(own_lab: Lab) -> None:
    api = Api(own_lab)
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    with connect(own_lab, volume["primaryNodeUUID"]):
        pass
    nodes = [node["uuid"] for node in own_lab.info["nodes"]]
    index = nodes.index(volume["primaryNodeUUID"])
    name, other = own_lab.info["nodes"][index]["name"], (index + 1) % 3
    own_lab.node("stop", name)
    api = Api(own_lab, other)
    told = events(api)
    assert [int(event["ID"]) for event in told] == sorted(
        (int(event["ID"]) for event in told), reverse=True
    )
    by_name = {event["EventName"]: event for event in told}
    made = by_name["VolumeCreated"]
    assert (made["Type"], made["Severity"]) == ("Volume", "Info")
    assert made["Description"] == "vol is made: 1 GiB, 3 replicas"
    component = {"ID": volume["UUID"], "Name": "vol"}
    mine = {"ProjectVolumesMap": {"default": {"VolumeComponentInfoList": [component]}}}
    assert made["ComponentVolumesInfo"] == mine
    assert by_name["PrimaryMoved"]["ComponentVolumesInfo"] == mine
    stopped = by_name["NodeInactive"]
    assert (stopped["Type"], stopped["Severity"]) == ("Node", "High")
    assert stopped["ComponentNodeInfo"] == {"ID": volume["primaryNodeUUID"], "Name": name}
    assert HOST in by_name["HostConnected"]["Description"]
    assert HOST in by_name["HostDisconnected"]["Description"]

    api.raw("POST", "/lab/v1/faults", {"operation": "DeletePolicy", "status": 503})
    (fault,) = events(api, "?componentType=cluster")
    assert fault["EventName"] == "FaultAdded"
    assert fault["ComponentClusterInfo"]["Name"] == "lab"

    assert [e["EventName"] for e in events(api, "?severity=High&severity=Critical")] == [
        "NodeInactive"
    ]
    assert events(api, f"?since={stopped['Time']}")[-1] == stopped
    assert events(api, f"?until={made['Time']}") == [made]
    first = api.call("GET", f"{EVENTS}?limit=2")
    again = api.call("GET", f"{EVENTS}?limit=1000&nextToken={first['nextToken']}")
    assert [*first["events"], *again["events"]] == events(api)
    assert "nextToken" not in again

    tenant = Api(own_lab, other, token=own_lab.token("default"))
    seen = {e["EventName"] for e in events(tenant, path=f"{PROJECT}/events")}
    assert seen == {"VolumeCreated", "PrimaryMoved"}
    tenant.call("GET", EVENTS, status=403)
    tenant.call("GET", "/api/v2/projects/blue/events", status=403)
    assert events(api, path="/api/v2/projects/blue/events") == []
    system = {e["Type"] for e in events(api, path="/api/v2/projects/system/events")}
    assert system == {"Node", "Cluster"}


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("since=yesterday", 400, "since 'yesterday' is not an ISO 8601 time"),
        ("since=2030-01-02&until=2030-01-01", 400, "is later than"),
        ("severity=Bad", 400, "severity 'Bad' is not known; legal are"),
        ("componentType=Disk", 400, "componentType 'Disk' is not known"),
        ("nextToken=x", 400, "nextToken 'x' is none"),
        ("limit=-1", 400, "limit -1 is negative"),
        ("severity=High&componentType=node", 501, "one filter at a time"),
        ("since=2030-01-01&severity=High", 501, "one filter at a time"),
    ],
)
def test_bad_filters_of_events(api: Api, query: str, status: int, said: str) -> None:
    assert said in api.call("GET", f"{EVENTS}?{query}", status=status)["message"]


def test_events_of_a_project_that_there_is_not(api: Api) -> None:
    assert api.call("GET", "/api/v2/projects/green/events", status=404)["code"] == 5
