# SPDX-License-Identifier: Apache-2.0
"""Each effect of the fault plan, seen by plain `requests` and sockets."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from lightos.lab.faults.rules import ADDRESS_EFFECTS, EFFECTS, Effect
from tests.contract.lab import PROJECT, TIMEOUT_SECONDS, Api, Lab, lightos
from tests.contract.test_command import refused

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
    said = api.call("POST", f"{PROJECT}/volumes", {**BODY, "name": "v"}, status=503)
    assert said == {"error": "try later", "message": "try later", "code": 14}
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


def test_a_call_that_is_delayed_goes_on_when_the_rule_is_cleared(own_lab: Lab) -> None:
    """So it does at the lab's end, about which the log has nothing special to say."""
    api = Api(own_lab)
    faults = Faults(api)

    def ask() -> tuple[int, Future[requests.Response]]:
        number = faults.add(operation="GetCluster", delay_seconds=3600)["id"]
        asked = pool.submit(Api(own_lab).raw, "GET", "/api/v2/cluster")
        while not faults.list()[0]["hits"]:
            assert not asked.done()
        return number, asked

    with ThreadPoolExecutor(1) as pool:
        number, asked = ask()
        faults.clear(number)
        assert asked.result().status_code == 200
        _, asked = ask()
        own_lab.stop()
        assert asked.result().status_code == 200
    assert "Traceback" not in (own_lab.state_dir / "lab.log").read_text()


def test_a_reply_that_is_lost_after_the_change_was_made(api: Api, faults: Faults) -> None:
    faults.add(operation="CreateVolume", lose_reply=True)
    with pytest.raises(requests.exceptions.ConnectionError):
        api.raw("POST", f"{PROJECT}/volumes", {**BODY, "name": "v"})
    (made,) = api.call("GET", f"{PROJECT}/volumes")["volumes"]
    assert made["name"] == "v"
    api.settled("volumes", made["UUID"])


def test_a_status_in_place_of_the_reply_after_the_change_was_made(api: Api, faults: Faults) -> None:
    faults.add(operation="CreateVolume", lose_reply=True, status=504, message="no answer in time")
    said = api.raw("POST", f"{PROJECT}/volumes", {**BODY, "name": "v"})
    assert (said.status_code, said.json()["message"]) == (504, "no answer in time")
    (made,) = api.call("GET", f"{PROJECT}/volumes")["volumes"]
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
    stale = api.call("PUT", path, {"size": "3 gib"}, status=400, If_Match=read["ETag"])
    assert stale["code"] == 9
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
    patched = api.raw("PATCH", "/lab/v1/faults")
    assert (patched.status_code, patched.headers["Allow"]) == (405, "DELETE, GET, POST, PUT")
    assert not [path for path in api.document["paths"] if path.startswith("/lab")]


def test_snapshots_are_refused_while_another_is_made(own_lab: Lab) -> None:
    """In a lab where making a snapshot takes a moment."""
    api = Api(own_lab)
    faults = Faults(api)
    volume = api.create_volume("v")
    body = {"sourceVolumeUUID": volume["UUID"]}
    for status, code in ((400, 9), (500, 13), (503, 14)):
        rule = faults.add(snapshots="refuse_concurrent", status=status)
        first = api.call("POST", f"{PROJECT}/snapshots", {**body, "name": f"a{status}"})
        again = {**body, "name": f"b{status}"}
        assert api.call("POST", f"{PROJECT}/snapshots", again, status=status)["code"] == code
        api.settled("snapshots", first["UUID"])
        second = api.call("POST", f"{PROJECT}/snapshots", again)
        faults.clear(rule["id"])
        api.settled("snapshots", second["UUID"])


def test_of_snapshots_asked_for_at_once_one_is_made(api: Api, faults: Faults, lab: Lab) -> None:
    volume = api.create_volume("v")
    faults.add(snapshots="refuse_concurrent", status=503)

    def create(number: int) -> int:
        body = {"name": f"s{number}", "sourceVolumeUUID": volume["UUID"]}
        return Api(lab).raw("POST", f"{PROJECT}/snapshots", body).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(create, range(8)))
    made = api.call("GET", f"{PROJECT}/snapshots")["snapshots"]
    assert set(statuses) == {200, 503}
    assert len(made) == statuses.count(200)


def test_a_replaced_token(own_lab: Lab) -> None:
    old = Api(own_lab)
    faults = Faults(old)
    tenant = Api(own_lab, token=own_lab.token("default"))
    assert faults.add(token="replace")["hits"] == 1
    for api in (old, tenant):
        assert api.call("GET", f"{PROJECT}/volumes", status=401)["code"] == 16
    new = Api(own_lab)
    assert new.token != old.token
    new.call("GET", f"{PROJECT}/volumes")
    project = (own_lab.state_dir / "tokens" / "blue.jwt").read_text().strip()
    Api(own_lab, token=project).call("GET", "/api/v2/projects/blue/volumes")
    Api(own_lab, token=own_lab.token()).call("GET", "/api/v2/cluster")
    own_lab.stop()
    own_lab.start()
    old.call("GET", "/api/v2/cluster", status=401)
    new.call("GET", "/api/v2/cluster")


def test_a_token_replaced_as_a_call_comes_in(own_lab: Lab) -> None:
    api = Api(own_lab)
    faults = Faults(api)
    made = api.create_volume("v")
    faults.add(operation="UpdateVolume", token="replace", first=2)
    path = volume_path(made)
    api.call("PUT", path, {"size": "2 gib"})
    api.settled("volumes", made["UUID"])
    api.call("PUT", path, {"size": "3 gib"}, status=401)
    new = Api(own_lab)
    assert new.call("GET", path)["size"] == str(2 << 30)
    new.call("PUT", path, {"size": "3 gib"})


def exchange(lab: Lab, node: int, port: str, timeout: float) -> None:
    """Connect to a port of a node; for the API also ask something."""
    address = lab.info["api_addresses"][node], lab.info[port]
    with socket.create_connection(address, timeout) as connection:
        if port == "api_port":
            context = ssl.create_default_context(cafile=lab.info["ca_file"])
            with context.wrap_socket(connection, server_hostname=address[0]) as tls:
                tls.sendall(b"GET /api/v2/version HTTP/1.1\r\nHost: lab\r\n\r\n")
                assert tls.recv(12) == b"HTTP/1.1 200"


PORTS = ("api_port", "discovery_port", "nvme_port")


def test_an_address_that_swallows_packets(lab: Lab, api: Api, faults: Faults) -> None:
    connected = Api(lab, node=1)
    made = connected.create_volume("v")
    hosts = [
        socket.create_connection((lab.info["api_addresses"][1], lab.info[port]), TIMEOUT_SECONDS)
        for port in PORTS[1:]
    ]
    faults.add(address=lab.info["api_addresses"][1], swallow=True)
    for port in PORTS:
        with pytest.raises(TimeoutError):
            exchange(lab, 1, port, timeout=0.3)
        exchange(lab, 0, port, timeout=TIMEOUT_SECONDS)
    with pytest.raises(requests.exceptions.ReadTimeout):
        connected.raw("DELETE", volume_path(made), timeout=0.3)
    states = {node["state"] for node in api.call("GET", "/api/v2/nodes")["nodes"]}
    assert states == {"Active"}
    for host in hosts:
        host.settimeout(0.1)
        with pytest.raises(TimeoutError):
            host.recv(1)
    faults.clear()
    for host in hosts:
        with pytest.raises(ConnectionResetError):
            host.recv(1)
        host.close()
    for port in PORTS:
        exchange(lab, 1, port, timeout=TIMEOUT_SECONDS)
    assert connected.call("GET", volume_path(made))["state"] == "Available"


def test_an_address_that_swallows_the_reply_to_what_it_was_asked(
    lab: Lab, api: Api, faults: Faults
) -> None:
    """A call in hand when the network goes: it is made, and nobody hears of it."""
    faults.add(operation="CreateVolume", delay_seconds=0.5)
    other = Api(lab, node=1)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(other.raw, "POST", f"{PROJECT}/volumes", {**BODY, "name": "v"})
        while not faults.list()[0]["hits"]:
            pass
        rule = faults.add(address=lab.info["api_addresses"][1], swallow=True)
        while not api.call("GET", f"{PROJECT}/volumes"):
            time.sleep(0.01)
        assert not asked.done()
        faults.clear(rule["id"])
        with pytest.raises(requests.exceptions.ConnectionError):
            asked.result()


def test_an_address_that_refuses_connections(lab: Lab, api: Api, faults: Faults) -> None:
    connected = Api(lab, node=1)
    connected.call("GET", "/api/v2/nodes")
    faults.add(address=lab.info["api_addresses"][1], refuse=True)
    for port in PORTS:
        with pytest.raises(ConnectionRefusedError):
            exchange(lab, 1, port, timeout=TIMEOUT_SECONDS)
    with pytest.raises(requests.exceptions.ConnectionError):
        connected.raw("GET", "/api/v2/nodes")
    states = {node["state"] for node in api.call("GET", "/api/v2/nodes")["nodes"]}
    assert states == {"Active"}
    faults.clear()
    for port in PORTS:
        exchange(lab, 1, port, timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("expired", "certificate has expired"),
        ("other_name", "IP address mismatch"),
        ("untrusted", "unable to get local issuer|self-signed"),
    ],
)
def test_a_bad_certificate(lab: Lab, api: Api, faults: Faults, fault: str, said: str) -> None:
    connected = Api(lab, node=1)
    connected.call("GET", "/api/v2/nodes")
    faults.add(address=lab.info["api_addresses"][1], tls=fault)
    with pytest.raises(ssl.SSLCertVerificationError, match=said):
        exchange(lab, 1, "api_port", timeout=TIMEOUT_SECONDS)
    with pytest.raises(requests.exceptions.ConnectionError):
        connected.raw("GET", "/api/v2/nodes")  # the connection of before is gone as well
    exchange(lab, 0, "api_port", timeout=TIMEOUT_SECONDS)
    faults.clear()
    exchange(lab, 1, "api_port", timeout=TIMEOUT_SECONDS)
    assert not list((lab.state_dir / "tls").glob("*fault*"))


def test_the_control_socket_meets_no_faults(lab: Lab, api: Api, faults: Faults) -> None:
    faults.add(status=503, count=0)
    lightos("lab", "status", f"--state-dir={lab.state_dir}")


def fault(lab: Lab, *arguments: str) -> str:
    return lightos("lab", "fault", *arguments, f"--state-dir={lab.state_dir}").stdout


def test_the_command_adds_lists_and_clears(lab: Lab, api: Api, faults: Faults) -> None:
    command = "add --operation UpdateVolume --status 503 --count 2 --object v* --message busy"
    assert fault(lab, *command.split()) == "Fault 1 is in force.\n"
    assert fault(lab, "add", "--lose-reply", "--operation=DeleteVolume").startswith("Fault 2 ")
    made = api.create_volume("v")
    said = api.call("PUT", volume_path(made), {"size": "2 gib"}, status=503)
    assert said["message"] == "busy"
    shown = fault(lab, "list")
    for word in ("status 503", "message busy", "UpdateVolume", "v*", "lose_reply", "DeleteVolume"):
        assert word in shown
    listed = json.loads(fault(lab, "list", "--json"))
    assert listed["rules"] == faults.list()
    assert [rule["hits"] for rule in listed["rules"]] == [1, 0]
    assert fault(lab, "clear", "1") == "Fault 1 is cleared.\n"
    assert [rule["id"] for rule in faults.list()] == [2]
    assert fault(lab, "clear") == "There are no faults.\n"
    assert faults.list() == []
    assert fault(lab, "list") == "There are no faults.\n"


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_command_knows_every_effect(lab: Lab, faults: Faults, effect: type[Effect]) -> None:
    option = "--" + effect.key.replace("_", "-")
    value = [] if effect.example is True else [str(effect.example)]
    where = [f"--address={lab.info['api_addresses'][2]}"]
    where += [] if effect in ADDRESS_EFFECTS else ["--operation=*", "--object=nothing"]
    if effect.key == "snapshots":
        where.remove("--operation=*")
    added = json.loads(fault(lab, "add", option, *value, *where, "--json"))
    assert added[effect.key] == effect.example
    assert faults.list() == [added]


def test_the_command_loads_a_plan(lab: Lab, faults: Faults, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    rule = {"operation": "GetVolume", "reset": True, "probability": 0.5}
    file.write_text(json.dumps({"seed": 3, "rules": [rule, rule]}))
    assert fault(lab, "load", str(file)) == "2 faults are in force.\n"
    assert [listed | rule for listed in faults.list()] == faults.list()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add"], "a rule needs one effect: status, delay_seconds"),
        (["add", "--status=503", "--reset"], "one effect, not status and reset"),
        (["add", "--status=999"], "status must be a whole number from 400 to 599"),
        (["add", "--status=many"], "'many' is not a valid integer"),
        (["add", "--operation=Update", "--reset"], "legal are *, "),
        (["add", "--stay=Available"], "legal are Creating, Deleting"),
        (["add", "--swallow"], "needs the address of a node"),
        (["add", "--swallow", "--address=192.0.2.1"], "address '192.0.2.1' is not known"),
        (["clear", "77"], "there is no fault 77"),
        (["clear", "0"], "0 is not in the range"),
        (["load", "/nothing/here"], "/nothing/here"),
        (["load", "/dev/null"], "/dev/null is not JSON"),
    ],
)
def test_the_command_refuses(lab: Lab, faults: Faults, arguments: list[str], said: str) -> None:
    assert said in refused("fault", *arguments, f"--state-dir={lab.state_dir}")
    assert faults.list() == []
