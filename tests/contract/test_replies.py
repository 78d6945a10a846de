# SPDX-License-Identifier: Apache-2.0
"""Every route of the lab over HTTPS; `Api.call` holds each reply against the document."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.contract.lab import PROJECT, Api, Lab

HOST = "nqn.2014-08.org.nvmexpress:uuid:5b5a4fbb-9ad8-4a6c-9d5e-8e5d6d0a9a01"
ABSENT = str(uuid.UUID(int=1))


# Cluster and nodes


def test_version(api: Api) -> None:
    assert api.call("GET", "/api/v2/version") == {"apiVersion": "v2.0"}


def test_cluster_and_clusterinfo(api: Api, lab: Lab) -> None:
    cluster = api.call("GET", "/api/v2/cluster")
    info = api.call("GET", "/api/v2/clusterinfo")
    assert cluster["subsystemNQN"] == info["subsystemNQN"] == lab.info["subsystem_nqn"]
    assert info["nvmeEndpoints"] == [f"{a}:4420" for a in lab.info["api_addresses"]]
    assert info["discoveryEndpoints"] == [f"{a}:8009" for a in lab.info["api_addresses"]]
    assert "nvmeEndpoints" not in cluster
    assert "statistics" not in info
    assert int(cluster["statistics"]["freePhysicalStorage"]) > 0
    assert cluster["health"]["state"] == "OK"


def test_nodes(api: Api, lab: Lab) -> None:
    nodes = api.call("GET", "/api/v2/nodes")["nodes"]
    assert [(n["UUID"], n["name"]) for n in nodes] == [
        (n["uuid"], n["name"]) for n in lab.info["nodes"]
    ]
    assert {n["state"] for n in nodes} == {"Active"}
    assert api.call("GET", f"/api/v2/nodes/{nodes[1]['UUID']}") == nodes[1]
    assert api.call("GET", f"/api/v2/nodes?name={nodes[2]['name']}") == {"nodes": [nodes[2]]}
    assert api.call("GET", f"/api/v2/nodes?UUID={ABSENT}") == {}
    assert api.call("GET", "/api/v2/nodes?UUID=nobody", status=400)["code"] == 3
    conflicting = f"name={nodes[0]['name']}&UUID={nodes[1]['UUID']}"
    assert api.call("GET", f"/api/v2/nodes?{conflicting}", status=400)["code"] == 3
    assert api.call("GET", f"/api/v2/nodes/{ABSENT}", status=404)["code"] == 5


@pytest.mark.parametrize("node", [0, 1, 2])
def test_every_node_serves_the_same(lab: Lab, api: Api, node: int) -> None:
    api.create_volume("everywhere")
    assert Api(lab, node).call("GET", f"{PROJECT}/volumes/?name=everywhere")


# Volumes


def test_the_life_of_a_volume(api: Api) -> None:
    asked = {"IPAcl": {"values": ["10.0.0.1"]}, "compression": "true", "size": "10 gib"}
    made = api.create_volume("vol", **asked, labels=[{"key": "tier", "value": "gold"}])
    assert made["state"] == "Available"
    assert made["size"] == str(10 << 30)
    assert made["compression"] == "true"
    assert made["protectionState"] == "FullyProtected"
    assert made["primaryNodeUUID"] in made["nodeList"]
    assert made["sectorSize"] == 4096
    assert made["labels"] == [{"key": "tier", "value": "gold"}]
    path = f"{PROJECT}/volumes/{made['UUID']}"
    assert api.call("GET", f"{PROJECT}/volumes/?name=vol") == made
    assert api.call("GET", f"{PROJECT}/volumes?name=vol") == {"volumes": [made]}

    update = {"acl": {"values": [HOST]}, "IPAcl": {"values": ["ALLOW_ANY"]}, "size": "11 gib"}
    assert api.call("PUT", path, update, If_Match=made["ETag"]) == {}
    updated = api.settled("volumes", made["UUID"])
    assert updated["acl"] == {"values": [HOST]}
    assert updated["size"] == str(11 << 30)
    assert updated["ETag"] != made["ETag"]

    assert api.call("DELETE", path, If_Match=updated["ETag"]) == {}
    api.gone("volumes", made["UUID"])
    assert api.call("GET", f"{PROJECT}/volumes") == {}
    assert api.call("DELETE", path, status=404)["code"] == 5


def test_zero_values_are_left_out(api: Api) -> None:
    body = {
        "name": "v",
        "size": "4096",
        "replicaCount": 1,
        "acl": {"values": ["ALLOW_NONE"]},
    }
    made = api.call("POST", f"{PROJECT}/volumes", body)
    assert {"protectionState", "sourceSnapshotUUID", "labels", "qosPolicyUUID"}.isdisjoint(made)
    assert made["IPAcl"] == {"values": ["ALLOW_ANY"]}
    assert made["compression"] == "false"


def test_the_incumbents_requests_are_taken_as_they_are(api: Api) -> None:
    body = {
        "name": "volume-1",
        "size": "1 gib",
        "replicaCount": "2",
        "compression": "True",
        "acl": {"values": ["ALLOW_NONE"]},
        "IPAcl": {"values": ["ALLOW_NONE"]},
        "sourceSnapshotUUID": None,
        "sourceSnapshotName": None,
    }
    made = api.call("POST", f"{PROJECT}/volumes", body, Expect="", Accept="application/json")
    assert made["replicaCount"] == 2
    found = api.settled("volumes", made["UUID"])
    path = f"{PROJECT}/volumes/{made['UUID']}"
    api.call("PUT", path, {"UUID": made["UUID"], "size": "2 gib"}, If_Match=found["ETag"])
    assert api.settled("volumes", made["UUID"])["size"] == str(2 << 30)
    snapshot = {"name": "s", "sourceVolumeUUID": None, "sourceVolumeName": "volume-1"}
    api.call("POST", f"{PROJECT}/snapshots", snapshot)
    assert api.call("GET", f"{PROJECT}/snapshots/?Name=s")["sourceVolumeName"] == "volume-1"
    assert api.call("DELETE", f"{path}?") == {}


def test_the_bindings_without_a_project_in_the_path(api: Api) -> None:
    body = {
        "name": "v",
        "size": "1 gib",
        "replicaCount": 1,
        "acl": {"values": ["ALLOW_ANY"]},
        "projectName": "default",
    }
    made = api.call("POST", "/api/v2/volumes", body)
    found = api.settled("volumes", made["UUID"])
    path = f"/api/v2/volumes/{made['UUID']}"
    assert api.call("GET", f"{path}?projectName=default") == found
    assert api.call("GET", "/api/v2/volumes?projectName=default") == {"volumes": [found]}
    assert api.call("GET", "/api/v2/volumes") == {"volumes": [found]}
    assert api.call("GET", "/api/v2/volumes/?projectName=default&name=v") == found
    api.call("PUT", path, {"size": "2 gib"}, status=400)  # the query does not count here
    assert api.call("PUT", path, {"size": "2 gib", "projectName": "default"}) == {}
    api.settled("volumes", made["UUID"])
    assert api.call("DELETE", f"{path}?projectName=default") == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": ""}, 400),
        ({"name": "a b"}, 400),
        ({"name": 7}, 400),
        ({"size": "0"}, 400),
        ({"size": "ten gib"}, 400),
        ({"size": None}, 400),
        ({"replicaCount": 4}, 400),
        ({"replicaCount": "three"}, 400),
        ({"replicaCount": None}, 400),
        ({"acl": None}, 400),
        ({"acl": {"values": []}}, 400),
        ({"acl": ["ALLOW_ANY"]}, 400),
        ({"acl": {"values": ["nqn.\ud800"]}}, 400),
        ({"IPAcl": {"values": ["10.0.0.300"]}}, 400),
        ({"IPAcl": {"values": [f"10.0.0.{n}" for n in range(17)]}}, 400),
        ({"compression": "maybe"}, 400),
        ({"labels": [{"key": f"k{n}", "value": "v"} for n in range(17)]}, 400),
        ({"qosPolicyUUID": ABSENT}, 400),
        ({"sourceSnapshotUUID": "x"}, 400),
        ({"sourceSnapshotUUID": ABSENT}, 404),
        ({"sourceSnapshotName": "nothing"}, 404),
    ],
)
def test_bad_creates(api: Api, change: dict[str, Any], code: int) -> None:
    body = {
        "name": "v",
        "size": "1 gib",
        "replicaCount": 1,
        "acl": {"values": ["ALLOW_ANY"]},
    }
    api.call("POST", f"{PROJECT}/volumes", body | change, status=code)
    assert api.call("GET", f"{PROJECT}/volumes") == {}


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', "1" * 5000, "[" * 100_000])
def test_a_body_that_is_no_request(api: Api, body: str) -> None:
    assert api.call("POST", f"{PROJECT}/volumes", body, status=400)["code"] == 3


def test_a_body_without_end_is_refused(api: Api) -> None:
    api.call("POST", f"{PROJECT}/volumes", '{"name": "' + "a" * (2 << 20) + '"}', status=400)


def within(*domains: str, key: str = "FD", operator: str = "In") -> dict[str, Any]:
    pairs = [{"key": key, "value": domain} for domain in domains]
    return {"operator": operator, "labelValueKeyPairs": pairs}


@pytest.mark.parametrize("node", [0, 1, 2])
def test_a_volume_of_one_replica_goes_where_it_is_to_go(lab: Lab, api: Api, node: int) -> None:
    wanted = lab.info["nodes"][node]
    restrictions = [within(wanted["name"])]
    made = api.create_volume("v", replicaCount=1, placementRestrictions=restrictions)
    assert made["placementRestrictions"] == restrictions
    assert made["nodeList"] == [wanted["uuid"]]
    assert "placementRestrictions" not in api.create_volume("free", replicaCount=1)


def test_volumes_of_a_failure_domain(api: Api) -> None:
    alone = api.create_volume("alone", replicaCount=1, placementRestrictions=[within("node3")])
    pair = api.create_volume("pair", replicaCount=2)
    nodes = api.call("GET", "/api/v2/nodes")["nodes"]
    for node in nodes:
        (domain,) = node["failureDomains"]
        found = api.call("GET", f"{PROJECT}/volumes?failureDomain={domain}").get("volumes", [])
        expected = [v["name"] for v in (alone, pair) if node["UUID"] in v["nodeList"]]
        assert sorted(v["name"] for v in found) == expected
    assert api.call("GET", "/api/v2/volumes?failureDomain=node3&name=alone")["volumes"] == [alone]
    assert api.call("GET", f"{PROJECT}/volumes?failureDomain=nowhere") == {}


@pytest.mark.parametrize(
    "asked",
    [
        {"replicaCount": 2, "placementRestrictions": [within("node1")]},
        {"placementRestrictions": [within("node9")]},
        {"placementRestrictions": [within("node1", key="Unknown")]},
        {"placementRestrictions": [within("node1", key="Rack")]},
        {"placementRestrictions": [within("node1", operator="NotIn")]},
        {"placementRestrictions": [within()]},
        {"placementRestrictions": [{}]},
    ],
)
def test_bad_placement(api: Api, asked: dict[str, Any]) -> None:
    body = {"name": "v", "size": "1 gib", "replicaCount": 1, "acl": {"values": ["ALLOW_ANY"]}}
    assert api.call("POST", f"{PROJECT}/volumes", body | asked, status=400)["code"] == 3
    assert api.call("GET", f"{PROJECT}/volumes") == {}


def test_a_name_is_taken_once(api: Api) -> None:
    api.create_volume("v")
    body = {"name": "v", "size": "1 gib", "replicaCount": 1, "acl": {"values": ["ALLOW_ANY"]}}
    assert api.call("POST", f"{PROJECT}/volumes", body, status=409)["code"] == 6


def test_a_stale_etag_is_a_failed_precondition(api: Api) -> None:
    made = api.create_volume("v")
    path = f"{PROJECT}/volumes/{made['UUID']}"
    api.call("PUT", path, {"size": "2 gib"}, If_Match=made["ETag"])
    api.settled("volumes", made["UUID"])
    refused = api.call("PUT", path, {"size": "3 gib"}, status=400, If_Match=made["ETag"])
    assert refused["code"] == 9
    assert "ETag" in refused["message"]
    assert api.call("DELETE", path, status=400, If_Match=made["ETag"])["code"] == 9
    assert api.call("GET", path)["size"] == str(2 << 30)


def test_a_busy_volume_answers_503(own_lab: Lab) -> None:
    api = Api(own_lab)
    made = api.create_volume("v")
    path = f"{PROJECT}/volumes/{made['UUID']}"
    api.call("PUT", path, {"size": "2 gib"})
    assert api.call("GET", path)["state"] == "Updating"
    assert api.call("PUT", path, {"size": "3 gib"}, status=503)["code"] == 14
    assert api.call("DELETE", path, status=503)["code"] == 14


def test_a_volume_that_is_deleting(own_lab: Lab) -> None:
    api = Api(own_lab)
    made = api.create_volume("v")
    snapshot = api.create_snapshot("s", made["UUID"])
    path = f"{PROJECT}/volumes/{made['UUID']}"
    api.call("DELETE", path)
    assert api.call("GET", path)["state"] == "Deleting"
    assert api.call("DELETE", path, status=400)["code"] == 9
    wanted = {"srcSnapshotUUID": snapshot["UUID"]}
    assert api.call("PUT", f"{path}/rollback", wanted, status=503)["code"] == 14


def test_shrinking_needs_force(api: Api) -> None:
    made = api.create_volume("v", size="2 gib")
    path = f"{PROJECT}/volumes/{made['UUID']}"
    assert api.call("PUT", path, {"size": "1 gib"}, status=400)["code"] == 9
    api.call("PUT", path, {"size": "1 gib", "Force": True})
    assert api.settled("volumes", made["UUID"])["size"] == str(1 << 30)


@pytest.mark.parametrize("kind", ["volumes", "snapshots"])
def test_what_does_not_exist(api: Api, kind: str) -> None:
    assert api.call("GET", f"{PROJECT}/{kind}/{ABSENT}", status=404)["code"] == 5
    assert api.call("DELETE", f"{PROJECT}/{kind}/{ABSENT}", status=404)["code"] == 5
    assert api.call("GET", f"{PROJECT}/{kind}/nonsense", status=400)["code"] == 3
    assert api.call("GET", f"{PROJECT}/{kind}/", status=400)["code"] == 3
    assert api.call("GET", f"{PROJECT}/{kind}/?name=no&Name=no", status=404)["code"] == 5
    assert api.call("GET", f"/api/v2/projects/green/{kind}", status=404)["code"] == 5


# Snapshots


def test_the_life_of_a_snapshot(api: Api) -> None:
    volume = api.create_volume("vol", compression="enabled")
    made = api.create_snapshot("snap", volume["UUID"])
    assert made["sourceVolumeName"] == "vol"
    assert made["compression"] is True  # a boolean here, text in a volume
    assert (made["size"], made["nodeList"]) == (volume["size"], volume["nodeList"])
    assert "creationTime" in made
    assert api.call("GET", f"{PROJECT}/snapshots") == {"snapshots": [made]}
    assert api.call("GET", f"{PROJECT}/snapshots?Name=other") == {}
    assert api.call("GET", f"{PROJECT}/snapshots/?Name=snap") == made
    clone = api.create_volume("clone", sourceSnapshotUUID=made["UUID"], size="2 gib")
    assert clone["sourceSnapshotName"] == "snap"
    of_it = api.call("GET", f"{PROJECT}/volumes?snapshotUUID={made['UUID']}")
    assert of_it == {"volumes": [clone]}

    path = f"{PROJECT}/snapshots/{made['UUID']}"
    assert api.call("DELETE", path, If_Match=made["ETag"]) == {}
    assert api.call("GET", path)["state"] == "Deleting"
    assert api.call("DELETE", path, status=400)["code"] == 9
    assert api.call("GET", f"{PROJECT}/snapshots") == {}
    assert len(api.call("GET", f"{PROJECT}/snapshots?showAll=true")["snapshots"]) == 1
    api.call("DELETE", f"{PROJECT}/volumes/{clone['UUID']}")
    api.gone("snapshots", made["UUID"])


def test_a_retention_time_travels_as_a_duration(api: Api) -> None:
    volume = api.create_volume("vol")
    body = {
        "name": "s",
        "sourceVolumeName": "vol",
        "retentionTime": "3600s",
        "description": "hourly",
    }
    made = api.call("POST", f"{PROJECT}/snapshots", body)
    assert (made["retentionTime"], made["description"]) == ("3600s", "hourly")
    assert made["sourceVolumeUUID"] == volume["UUID"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"name": ""}, 400),
        ({"name": "a/b"}, 400),
        ({"sourceVolumeUUID": ABSENT}, 404),
        ({"sourceVolumeUUID": None}, 400),
        ({"retentionTime": "an hour"}, 400),
        ({"retentionTime": "-1s"}, 400),
        ({"description": "d" * 257}, 400),
    ],
)
def test_bad_snapshots(api: Api, change: dict[str, Any], status: int) -> None:
    volume = api.create_volume("vol")
    body = {"name": "s", "sourceVolumeUUID": volume["UUID"]} | change
    api.call("POST", f"{PROJECT}/snapshots", body, status=status)
    assert api.call("GET", f"{PROJECT}/snapshots") == {}


def test_roll_back(api: Api) -> None:
    volume = api.create_volume("vol")
    snapshot = api.create_snapshot("snap", volume["UUID"])
    path = f"{PROJECT}/volumes/{volume['UUID']}/rollback"
    assert api.call("PUT", path, {"srcSnapshotUUID": snapshot["UUID"]}) == {}
    after = api.settled("volumes", volume["UUID"])
    assert after["ETag"] != volume["ETag"]
    assert api.call("PUT", path, {"srcSnapshotName": "snap"}) == {}
    api.settled("volumes", volume["UUID"])
    api.call("PUT", path, {"srcSnapshotName": "other"}, status=404)
    api.call("PUT", path, {}, status=400)
    other = api.create_volume("other")
    wrong = f"{PROJECT}/volumes/{other['UUID']}/rollback"
    api.call("PUT", wrong, {"srcSnapshotUUID": snapshot["UUID"]}, status=400)


# Paging


def test_pages(api: Api) -> None:
    body = {"size": "4096", "replicaCount": 1, "acl": {"values": ["ALLOW_NONE"]}}
    for number in range(7):
        api.call("POST", f"{PROJECT}/volumes", {**body, "name": f"v{number}"})
    everything = [v["UUID"] for v in api.call("GET", f"{PROJECT}/volumes")["volumes"]]
    assert len(everything) == 7
    paged: list[str] = []
    offset = ""
    while page := api.call("GET", f"{PROJECT}/volumes?limit=3&offsetUUID={offset}"):
        assert len(page["volumes"]) <= 3
        paged += [v["UUID"] for v in page["volumes"]]
        offset = paged[-1]
    assert paged == everything
    api.call("GET", f"{PROJECT}/volumes?limit=-1", status=400)
    api.call("GET", f"{PROJECT}/volumes?limit=many", status=400)
    api.call("GET", f"{PROJECT}/volumes?offsetUUID=first", status=400)
    assert api.call("GET", f"{PROJECT}/volumes?limit=5000&unknown=1")["volumes"]


# What no route takes


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/v2", 404),
        ("GET", "/api/v2/nothing", 404),
        ("GET", "/api/v1/version", 404),
        ("GET", f"{PROJECT}/volumes/{ABSENT}/", 404),
        ("GET", f"{PROJECT}/volumes/a:b", 404),
        ("GET", "/api/v2/nodes/nqn:1", 404),
        ("POST", "/api/v2/version", 405),
        ("PATCH", f"{PROJECT}/volumes/{ABSENT}", 405),
        ("DELETE", f"{PROJECT}/volumes", 405),
        ("GET", f"{PROJECT}/volumes/{ABSENT}/rollback", 405),
    ],
)
def test_no_route(api: Api, method: str, path: str, status: int) -> None:
    reply = api.raw(method, path)
    assert reply.status_code == status
    assert reply.headers["Content-Type"].startswith("text/plain")


# Nodes that stop


def test_a_stopped_node_is_silent_and_its_volumes_move(own_lab: Lab) -> None:
    api = Api(own_lab)
    volumes = [api.create_volume(f"v{number}") for number in range(3)]
    victim = own_lab.info["nodes"][1]
    survivor = Api(own_lab, 0)
    assert survivor.call("POST", f"/api/v2/nodes/{victim['uuid']}/stop", {}) == {}
    own_lab.node("stop", victim["name"])  # again: the command also waits for silence
    nodes = {n["UUID"]: n for n in survivor.call("GET", "/api/v2/nodes")["nodes"]}
    assert nodes[victim["uuid"]]["state"] == "Inactive"
    with pytest.raises(OSError, match="refused"):
        Api(own_lab, 1).raw("GET", "/api/v2/version")
    for volume in volumes:
        now = survivor.call("GET", f"{PROJECT}/volumes/{volume['UUID']}")
        assert now["protectionState"] == "Degraded"
        assert now["primaryNodeUUID"] != victim["uuid"]
    assert survivor.call("GET", "/api/v2/cluster")["health"]["state"] == "Warning"
    assert survivor.call("POST", f"/api/v2/nodes/{victim['uuid']}/start", {}) == {}
    own_lab.node("start", victim["name"])
    assert Api(own_lab, 1).call("GET", "/api/v2/version")
    assert survivor.call("POST", f"/api/v2/nodes/{victim['uuid']}/restart", {}) == {}
    own_lab.node("start", victim["name"])
    assert survivor.call("POST", f"/api/v2/nodes/{ABSENT}/stop", {}, status=404)["code"] == 5
