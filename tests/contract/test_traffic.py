# SPDX-License-Identifier: Apache-2.0
"""The lab's count of what it is asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

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
    assert after["readBytes"] - before["readBytes"] == 7 * BLOCK


def test_only_administrators_of_the_cluster_see_the_traffic(lab: Lab) -> None:
    of_a_project = Api(lab, token=lab.token("blue"))
    assert of_a_project.raw("GET", "/lab/v1/traffic").status_code == 403
