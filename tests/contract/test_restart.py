# SPDX-License-Identifier: Apache-2.0
"""What the lab has acknowledged survives kill -9, again and again."""

from __future__ import annotations

import threading
from typing import Any

import requests

from tests.contract.lab import PROJECT, Api, Lab

BODY = {"size": "4096", "replicaCount": 1, "acl": {"values": ["ALLOW_NONE"]}}


def state(api: Api) -> dict[str, Any]:
    return {
        "info": api.call("GET", "/api/v2/clusterinfo"),
        "nodes": api.call("GET", "/api/v2/nodes"),
        "volumes": api.call("GET", f"{PROJECT}/volumes?showAll=true"),
        "snapshots": api.call("GET", f"{PROJECT}/snapshots?showAll=true"),
    }


def test_a_killed_lab_comes_back_as_it_was(own_lab: Lab) -> None:
    api = Api(own_lab)
    volume = api.create_volume("vol", labels=[{"key": "a", "value": "b"}])
    snapshot = api.create_snapshot("snap", volume["UUID"])
    clone = api.create_volume("clone", sourceSnapshotName="snap")
    own_lab.node("stop", "node3")
    api.call("PUT", f"{PROJECT}/volumes/{volume['UUID']}", {"size": "2 gib"})
    api.call("POST", f"{PROJECT}/volumes", {**BODY, "name": "late"})
    api.call("DELETE", f"{PROJECT}/snapshots/{snapshot['UUID']}")
    api.call("DELETE", f"{PROJECT}/volumes/{clone['UUID']}")
    before = state(api)
    own_lab.kill()
    own_lab.start()
    again = Api(own_lab)  # the token and the authority of the first start are good still
    assert state(again) == before
    assert {v["state"] for v in before["volumes"]["volumes"]} == {
        "Updating",
        "Creating",
        "Deleting",
    }
    again.gone("volumes", clone["UUID"])
    again.gone("snapshots", snapshot["UUID"])
    assert again.settled("volumes", volume["UUID"])["size"] == str(2 << 30)


def test_no_acknowledged_create_is_lost_however_it_dies(own_lab: Lab) -> None:
    acknowledged: set[str] = set()
    for turn in range(3):
        api = Api(own_lab)
        enough = threading.Event()

        def create(api: Api = api, turn: int = turn, enough: threading.Event = enough) -> None:
            for number in range(10_000):
                name = f"v{turn}-{number}"
                try:
                    reply = api.raw("POST", f"{PROJECT}/volumes", {**BODY, "name": name})
                except requests.ConnectionError:
                    return
                assert reply.status_code == 200
                acknowledged.add(reply.json()["UUID"])
                if number == 20:
                    enough.set()

        writer = threading.Thread(target=create)
        writer.start()
        assert enough.wait(30)
        own_lab.kill()
        writer.join()
        own_lab.start()
        listed = Api(own_lab).call("GET", f"{PROJECT}/volumes")["volumes"]
        found = {volume["UUID"] for volume in listed}
        assert acknowledged <= found
        # The one whose reply was lost may be there as well.
        assert len(found) - len(acknowledged) <= turn + 1
        assert len({volume["nsid"] for volume in listed}) == len(listed)
