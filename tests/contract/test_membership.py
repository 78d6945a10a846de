# SPDX-License-Identifier: Apache-2.0
"""Nodes that are added, removed and moved while the lab runs."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.lab import PROJECT, SETTLE_SECONDS, TIMEOUT_SECONDS, Api, Lab, lightos
from tests.contract.test_command import refused

PORTS = ("api_port", "discovery_port", "nvme_port")


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Lab]:
    """A lab that nobody else counts on the nodes of."""
    running = Lab(tmp_path / "lab")
    running.start()
    yield running
    running.stop()


def spare_address(lab: Lab) -> str:
    """An address that no node has."""
    return str(lab.info["api_addresses"][0]).rpartition(".")[0] + ".99"


def node(lab: Lab, *arguments: str) -> str:
    return lightos("lab", "node", *arguments, f"--state-dir={lab.state_dir}").stdout


def published(lab: Lab) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((lab.state_dir / "lab.json").read_text())
    return info


def answers(lab: Lab, address: str) -> bool:
    """Whether every port answers, the API's with a certificate that names the address."""
    try:
        for port in PORTS:
            with socket.create_connection((address, lab.info[port]), TIMEOUT_SECONDS) as connection:
                if port == "api_port":
                    context = ssl.create_default_context(cafile=lab.info["ca_file"])
                    context.wrap_socket(connection, server_hostname=address).close()
    except ConnectionRefusedError:
        return False
    return True


def replicas(api: Api, volume: dict[str, Any]) -> list[str]:
    found = api.call("GET", f"{PROJECT}/volumes/{volume['UUID']}")
    return [str(uuid) for uuid in found["nodeList"]]


def test_a_node_is_added(changing: Lab) -> None:
    api = Api(changing)
    spare = spare_address(changing)
    old = [api.create_volume(f"old{number}") for number in range(3)]
    placed = [replicas(api, volume) for volume in old]
    assert node(changing, "add", spare) == f"Node node4 is active on {spare}.\n"
    assert answers(changing, spare)
    info = published(changing)
    assert info["api_addresses"] == [*changing.info["api_addresses"], spare]
    assert [each["name"] for each in info["nodes"]] == ["node1", "node2", "node3", "node4"]
    cluster = api.call("GET", "/api/v2/clusterinfo")
    for kind, port in zip(("api", "discovery", "nvme"), PORTS, strict=True):
        assert f"{spare}:{changing.info[port]}" in cluster[f"{kind}Endpoints"]
    listed = api.call("GET", "/api/v2/nodes")["nodes"]
    assert [each["name"] for each in listed] == ["node1", "node2", "node3", "node4"]
    assert listed[3]["nvmeEndpoint"] == f"{spare}:4420"
    assert [replicas(api, volume) for volume in old] == placed, "volumes stay where they are"
    new = [api.create_volume(f"new{number}", replicaCount=1) for number in range(4)]
    assert listed[3]["UUID"] in {replicas(api, volume)[0] for volume in new}
    assert Api(changing, node=3, info=info).call("GET", "/api/v2/version")
    changing.kill()
    lightos("lab", "up", "--detach", f"--state-dir={changing.state_dir}", changing.options[2])
    own = {"pid": 0, "page_address": ""}  # each run has its own
    assert published(changing) | own == info | own
    assert [replicas(api, volume) for volume in old] == placed
    assert answers(changing, spare)


def test_a_node_is_removed_and_its_replicas_are_rebuilt(changing: Lab) -> None:
    api = Api(changing)
    volumes = [
        api.create_volume(f"v{number}", replicaCount=count)
        for number, count in enumerate((1, 1, 1, 2, 2, 2))
    ]
    snapshot = api.create_snapshot("s", volumes[1]["UUID"])
    gone = changing.info["nodes"][1]
    assert {gone["uuid"]} < {uuid for volume in volumes for uuid in replicas(api, volume)}
    node(changing, "remove", "node2")
    assert not answers(changing, gone["address"])
    for volume, count in zip(volumes, (1, 1, 1, 2, 2, 2), strict=True):
        placed = replicas(api, volume)
        assert len(set(placed)) == count
        assert gone["uuid"] not in placed
        read = api.call("GET", f"{PROJECT}/volumes/{volume['UUID']}")
        assert (read["protectionState"], read["ETag"]) == ("FullyProtected", volume["ETag"])
    clone = api.create_volume("clone", replicaCount=1, sourceSnapshotName="s")
    assert gone["uuid"] not in replicas(api, clone)
    assert snapshot["state"] == "Available"
    info = published(changing)
    assert [each["name"] for each in info["nodes"]] == ["node1", "node3"]
    assert len(api.call("GET", "/api/v2/clusterinfo")["nvmeEndpoints"]) == 2
    api.call("GET", f"/api/v2/nodes/{gone['uuid']}", status=404)
    changing.kill()
    lightos("lab", "up", "--detach", f"--state-dir={changing.state_dir}", changing.options[2])
    assert all(gone["uuid"] not in replicas(api, volume) for volume in volumes)


def test_a_removal_that_would_cost_replicas_is_refused(changing: Lab) -> None:
    api = Api(changing)
    three = api.create_volume("three")
    folder = f"--state-dir={changing.state_dir}"
    said = refused("node", "remove", "node2", folder)
    assert "volume three of project default has 3 replicas" in said
    assert "add a node first" in said
    api.call("DELETE", f"{PROJECT}/volumes/{three['UUID']}")
    api.gone("volumes", three["UUID"])
    one = api.create_volume("one", replicaCount=1)
    (holder,) = (n for n in changing.info["nodes"] if n["uuid"] == replicas(api, one)[0])
    if holder["name"] == "node1":
        api = Api(changing, node=1)
    node(changing, "stop", holder["name"])
    said = refused("node", "remove", holder["name"], folder)
    assert (
        f"volume one of project default would lose its last replica with {holder['name']}" in said
    )
    assert len(published(changing)["nodes"]) == 3
    node(changing, "start", holder["name"])
    node(changing, "remove", holder["name"])
    assert replicas(api, one) != [holder["uuid"]]


def test_a_node_is_moved(changing: Lab) -> None:
    api = Api(changing)
    spare = spare_address(changing)
    volume = api.create_volume("v")
    placed = replicas(api, volume)
    moved = changing.info["nodes"][2]
    assert node(changing, "move", "node3", spare) == f"Node node3 is on {spare}.\n"
    assert answers(changing, spare)
    assert not answers(changing, moved["address"])
    assert published(changing)["nodes"][2] == {**moved, "address": spare}
    cluster = api.call("GET", "/api/v2/clusterinfo")
    assert f"{spare}:4420" in cluster["nvmeEndpoints"]
    assert f"{moved['address']}:4420" not in cluster["nvmeEndpoints"]
    assert replicas(api, volume) == placed
    node(changing, "move", "node3", spare)  # it is there
    assert spare in refused("node", "move", "node1", spare, f"--state-dir={changing.state_dir}")


def test_a_stopped_node_is_moved(changing: Lab) -> None:
    spare = spare_address(changing)
    node(changing, "stop", "node3")
    node(changing, "move", "node3", spare)
    assert not answers(changing, spare)
    node(changing, "start", "node3")
    assert answers(changing, spare)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("node4", "'node4' is not an IP address"),
        ("8.8.8.8", "public address"),
        ("0.0.0.0", "no address of one node"),
        ("10.255.255.254", "is not on this machine"),
    ],
)
@pytest.mark.parametrize("command", [("add",), ("move", "node1")])
def test_addresses_that_no_node_can_have(
    lab: Lab, address: str, said: str, command: tuple[str, ...]
) -> None:
    assert said in refused("node", *command, address, f"--state-dir={lab.state_dir}")
    assert published(lab) == lab.info


def test_names_that_no_node_has(lab: Lab) -> None:
    for command in (("remove", "node9"), ("move", "node9", spare_address(lab))):
        said = refused("node", *command, f"--state-dir={lab.state_dir}")
        assert "there is no node node9; nodes are node1, node2, node3" in said


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"address": 5}', '{"address": "127.0.0.9", "name": "n"}']
)
def test_bodies_that_are_refused(api: Api, body: str) -> None:
    reply = api.raw("POST", "/lab/v1/nodes", body)
    assert (reply.status_code, reply.json()["code"]) == (400, 3)
    assert len(api.raw("GET", "/lab/v1/nodes").json()["nodes"]) == 3


def test_renewed_tokens(changing: Lab) -> None:
    api = Api(changing)
    files = list((changing.state_dir / "tokens").glob("*.jwt"))
    before = {file: file.read_text() for file in files}
    lightos("lab", "renew-tokens", f"--state-dir={changing.state_dir}")
    for file in files:
        assert file.read_text() != before[file]
        assert file.stat().st_mode & 0o777 == 0o600
    api.call("GET", "/api/v2/cluster")  # with the old one
    Api(changing).call("GET", "/api/v2/cluster")


def wait_for_state(api: Api, number: int, state: str) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while api.call("GET", "/api/v2/nodes")["nodes"][number]["state"] != state:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_node_that_joins_is_activating_first(own_lab: Lab) -> None:
    """The reply comes before the transition is over, as a start of a node does."""
    api = Api(own_lab)
    reply = api.raw("POST", "/lab/v1/nodes", {"address": spare_address(own_lab)})
    assert reply.status_code == 200
    assert reply.json()["state"] == "Activating"
    assert api.call("GET", "/api/v2/nodes")["nodes"][3]["state"] == "Activating"
    wait_for_state(api, 3, "Active")


def test_the_private_files_of_a_moved_lab(changing: Lab) -> None:
    spare = spare_address(changing)
    node(changing, "add", spare)
    for name in ("ca-key.pem", "server-key.pem"):
        assert Path(changing.state_dir / "tls" / name).stat().st_mode & 0o777 == 0o600
