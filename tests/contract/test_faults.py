# SPDX-License-Identifier: Apache-2.0
"""Each effect of the fault plan, seen by plain `requests` and sockets."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.contract.lab import PROJECT, TIMEOUT_SECONDS, Api, Lab

BODY = {"size": "4096", "replicaCount": 1, "acl": {"values": ["ALLOW_NONE"]}}


class Faults:
    """The lab's own path, as plain HTTPS and JSON."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def add(self, **rule: object) -> dict[str, Any]:
        reply = self._api.raw("POST", "/lab/v1/faults", rule)
        assert reply.status_code == 200, reply.text
        added: dict[str, Any] = reply.json()
        return added

    def list(self) -> list[dict[str, Any]]:
        rules: list[dict[str, Any]] = self._api.raw("GET", "/lab/v1/faults").json()["rules"]
        return rules

    def clear(self, number: int | None = None) -> None:
        path = "/lab/v1/faults" + (f"/{number}" if number else "")
        assert self._api.raw("DELETE", path).json() == {}


@pytest.fixture
def faults(api: Api) -> Iterator[Faults]:
    plan = Faults(api)
    yield plan
    plan.clear()


def volume_path(volume: dict[str, Any]) -> str:
    return f"{PROJECT}/volumes/{volume['UUID']}"


def test_a_status_for_two_calls_from_the_second_on(api: Api, faults: Faults) -> None:
    made = api.create_volume("v")
    faults.add(operation="GetVolume", status=503, first=2, count=2, message="try later")
    path = volume_path(made)
    assert [api.raw("GET", path).status_code for _ in range(4)] == [200, 503, 503, 200]
    (rule,) = faults.list()
    assert (rule["seen"], rule["hits"]) == (4, 2)


def test_a_status_comes_as_the_api_writes_errors(api: Api, faults: Faults) -> None:
    faults.add(operation="CreateVolume", status=503, message="try later")
    refused = api.call("POST", f"{PROJECT}/volumes", {**BODY, "name": "v"}, status=503)
    assert refused == {"error": "try later", "message": "try later", "code": 14}
    assert api.call("GET", f"{PROJECT}/volumes") == {}


def test_a_delay_comes_before_the_work(api: Api, faults: Faults, lab: Lab) -> None:
    faults.add(operation="CreateVolume", delay_seconds=0.5)
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        slow = pool.submit(api.create_volume, "slow")
        while not faults.list()[0]["hits"]:
            assert time.monotonic() - began < TIMEOUT_SECONDS
        seen_meanwhile = Api(lab).call("GET", f"{PROJECT}/volumes")
        assert slow.result()["state"] == "Available"
    assert time.monotonic() - began >= 0.5
    assert seen_meanwhile == {}


def test_a_reply_that_is_lost_after_the_change_was_made(api: Api, faults: Faults) -> None:
    faults.add(operation="CreateVolume", lose_reply=True)
    with pytest.raises(requests.exceptions.ConnectionError):
        api.raw("POST", f"{PROJECT}/volumes", {**BODY, "name": "v"})
    (made,) = api.call("GET", f"{PROJECT}/volumes")["volumes"]
    assert made["name"] == "v"
    api.settled("volumes", made["UUID"])


def test_a_reset_before_anything_is_done(api: Api, faults: Faults, lab: Lab) -> None:
    faults.add(operation="CreateVolume", reset=True)
    with pytest.raises(requests.exceptions.ConnectionError):
        api.raw("POST", f"{PROJECT}/volumes", {**BODY, "name": "v"})
    assert api.call("GET", f"{PROJECT}/volumes") == {}
    faults.add(operation="GetVersion", reset=True)
    address = lab.info["api_addresses"][0], lab.info["api_port"]
    context = ssl.create_default_context(cafile=lab.info["ca_file"])
    with (
        socket.create_connection(address, TIMEOUT_SECONDS) as connection,
        # Python's TLS takes a reset for an end, so TCP is looked at itself.
        socket.socket(fileno=os.dup(connection.fileno())) as tcp,
        context.wrap_socket(connection, server_hostname=address[0]) as tls,
    ):
        tls.sendall(b"GET /api/v2/version HTTP/1.1\r\nHost: lab\r\n\r\n")
        tcp.settimeout(TIMEOUT_SECONDS)
        with pytest.raises(ConnectionResetError):
            read_to_the_end(tcp)


def read_to_the_end(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def test_an_etag_that_went_stale(api: Api, faults: Faults) -> None:
    made = api.create_volume("v")
    faults.add(operation="UpdateVolume", stale_etag=True)
    path = volume_path(made)
    api.call("PUT", path, {"size": "2 gib"})  # no If-Match, no matter
    read = api.settled("volumes", made["UUID"])
    refused = api.call("PUT", path, {"size": "3 gib"}, status=400, If_Match=read["ETag"])
    assert refused["code"] == 9
    again = api.call("GET", path)
    assert int(again["ETag"]) == int(read["ETag"]) + 1
    assert again["size"] == read["size"]
    api.call("PUT", path, {"size": "3 gib"}, If_Match=again["ETag"])
    api.settled("volumes", made["UUID"])


@pytest.mark.parametrize(
    ("operation", "state"),
    [
        ("CreateVolume", "Creating"),
        ("CreateVolume", "Migrating"),
        ("UpdateVolume", "Updating"),
        ("UpdateVolume", "Migrating"),
        ("RollbackVolume", "Rollback"),
        ("DeleteVolume", "Deleting"),
        ("CreateSnapshot", "Creating"),
        ("DeleteSnapshot", "Deleting"),
    ],
)
def test_a_state_that_stays(api: Api, faults: Faults, operation: str, state: str) -> None:
    kind = "snapshots" if "Snapshot" in operation else "volumes"
    volume = None if operation == "CreateVolume" else api.create_volume("v")
    snapshot = None
    if operation in ("RollbackVolume", "DeleteSnapshot"):
        assert volume is not None
        snapshot = api.create_snapshot("s", volume["UUID"])
    faults.add(operation=operation, stay=state)
    match operation, volume, snapshot:
        case "CreateVolume", _, _:
            touched = api.call("POST", f"{PROJECT}/volumes", {**BODY, "name": "v"})
        case "CreateSnapshot", dict(), _:
            asked = {"name": "s", "sourceVolumeUUID": volume["UUID"]}
            touched = api.call("POST", f"{PROJECT}/snapshots", asked)
        case "UpdateVolume", dict(), _:
            api.call("PUT", volume_path(volume), {"size": "2 gib"})
            touched = volume
        case "RollbackVolume", dict(), dict():
            asked = {"srcSnapshotUUID": snapshot["UUID"]}
            api.call("PUT", f"{volume_path(volume)}/rollback", asked)
            touched = volume
        case _, dict(), _:
            touched = snapshot or volume
            api.call("DELETE", f"{PROJECT}/{kind}/{touched['UUID']}")
    path = f"{PROJECT}/{kind}/{touched['UUID']}"
    other = api.create_volume("other")  # by then the usual time has passed
    assert other["state"] == "Available"
    assert api.call("GET", path)["state"] == state
    faults.clear()
    if state == "Deleting":
        api.gone(kind, touched["UUID"])
    else:
        while api.call("GET", path)["state"] == state:
            time.sleep(0.01)
        assert api.call("GET", path)["state"] == "Available"


@pytest.mark.parametrize("kind", ["volumes", "snapshots"])
def test_an_object_that_ends_failed(own_lab: Lab, kind: str) -> None:
    """In a lab of its own, since nobody but time removes what Failed."""
    api = Api(own_lab)
    faults = Faults(api)
    volume = api.create_volume("v")
    faults.add(operation="*", end="Failed")
    asked: dict[str, Any] = {**BODY, "name": "bad"}
    if kind == "snapshots":
        asked = {"name": "bad", "sourceVolumeUUID": volume["UUID"]}
    made = api.call("POST", f"{PROJECT}/{kind}", asked)
    assert made["state"] == "Creating"
    assert api.settled(kind, made["UUID"])["state"] == "Failed"
    assert api.settled("volumes", volume["UUID"])["state"] == "Available"


def test_rules_pick_calls_by_node_method_and_object(lab: Lab, api: Api, faults: Faults) -> None:
    made, other = api.create_volume("picked-1"), api.create_volume("other")
    address = lab.info["api_addresses"][1]
    faults.add(operation="*", method="GET", address=address, object="picked-*", status=500)
    second = Api(lab, node=1)
    second.call("GET", volume_path(other))
    second.call("PUT", volume_path(made), {"size": "2 gib"})
    api.call("GET", volume_path(made))
    second.call("GET", volume_path(made), status=500)
    second.call("GET", volume_path(made))


def test_one_rule_is_cleared(api: Api, faults: Faults) -> None:
    first, second = faults.add(status=503, count=0), faults.add(status=500, count=0)
    assert api.raw("GET", "/api/v2/nodes").status_code == 503
    faults.clear(first["id"])
    assert api.raw("GET", "/api/v2/nodes").status_code == 500
    assert [rule["id"] for rule in faults.list()] == [second["id"]]
    reply = api.raw("DELETE", f"/lab/v1/faults/{first['id']}")
    assert (reply.status_code, reply.json()["code"]) == (404, 5)
    faults.clear()
    assert api.raw("GET", "/api/v2/nodes").status_code == 200


def test_a_plan_has_one_course_of_events(api: Api, faults: Faults) -> None:
    plan = {"seed": 42, "rules": [{"status": 503, "count": 0, "probability": 0.5}]}

    def course() -> list[int]:
        loaded = api.raw("PUT", "/lab/v1/faults", plan).json()
        assert loaded["seed"] == 42
        assert [rule["seen"] for rule in loaded["rules"]] == [0]
        return [api.raw("GET", "/api/v2/nodes").status_code for _ in range(20)]

    assert set(course()) == {200, 503}
    assert course() == course()


@pytest.mark.parametrize("body", ["", "{", "[]", '{"status": 503, "reset": true}'])
def test_what_is_no_rule_is_refused(api: Api, faults: Faults, body: str) -> None:
    reply = api.raw("POST", "/lab/v1/faults", body)
    assert (reply.status_code, reply.json()["code"]) == (400, 3)
    assert faults.list() == []


@pytest.mark.parametrize("body", ['{"rules": [{"status": 1}]}', '{"rule": []}'])
def test_what_is_no_plan_leaves_the_present_one(api: Api, faults: Faults, body: str) -> None:
    faults.add(status=503, operation="StopNodeInstance")
    assert api.raw("PUT", "/lab/v1/faults", body).status_code == 400
    assert len(faults.list()) == 1


def test_only_cluster_administrators_have_faults(lab: Lab, api: Api, faults: Faults) -> None:
    path, rule = "/lab/v1/faults", {"status": 503}
    tenant = Api(lab, token=lab.token("default"))
    assert tenant.raw("POST", path, rule).status_code == 403
    assert tenant.raw("GET", path).status_code == 403
    assert api.raw("POST", path, rule, {"Authorization": None}).status_code == 401
    assert faults.list() == []


def test_paths_and_methods_that_do_not_exist(api: Api) -> None:
    assert api.raw("GET", "/lab/v1/fault").status_code == 404
    refused = api.raw("PATCH", "/lab/v1/faults")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "DELETE, GET, POST, PUT")
    assert not [path for path in api.document["paths"] if path.startswith("/lab")]
