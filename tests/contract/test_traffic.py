# SPDX-License-Identifier: Apache-2.0
"""The lab's count of what comes in at its API addresses."""

from __future__ import annotations

from collections import Counter

from tests.contract.lab import PROJECT, Api, Lab

NO_SUCH = f"{PROJECT}/volumes/00000000-0000-4000-8000-000000000000"


def traffic(api: Api) -> tuple[Counter[str], int]:
    reply = api.raw("GET", "/lab/v1/traffic")
    assert reply.status_code == 200
    seen = reply.json()
    assert set(seen) == {"calls", "tlsConnections"}
    return Counter(seen["calls"]), seen["tlsConnections"]


def test_calls_are_counted_by_operation_whatever_their_answer(api: Api) -> None:
    before, _ = traffic(api)
    body = {"name": "a", "size": "1 gib", "replicaCount": 1, "acl": {"values": ["ALLOW_NONE"]}}
    made = api.call("POST", f"{PROJECT}/volumes", body)
    for _ in range(3):
        api.call("GET", f"{PROJECT}/volumes/{made['UUID']}")
    api.call("GET", NO_SUCH, status=404)
    assert api.raw("GET", NO_SUCH, headers={"Authorization": "Bearer nonsense"}).status_code == 401
    after, _ = traffic(api)
    assert after - before == Counter(CreateVolume=1, GetVolume=5)


def test_a_connection_is_counted_once_however_many_calls_it_carries(lab: Lab, api: Api) -> None:
    _, before = traffic(api)
    for _ in range(3):
        api.call("GET", f"{PROJECT}/volumes")
    assert traffic(api)[1] == before
    for node in range(3):
        Api(lab, node).call("GET", "/api/v2/version")
    assert traffic(api)[1] == before + 3


def test_only_administrators_of_the_cluster_see_the_traffic(lab: Lab) -> None:
    of_a_project = Api(lab, token=lab.token("blue"))
    assert of_a_project.raw("GET", "/lab/v1/traffic").status_code == 403
