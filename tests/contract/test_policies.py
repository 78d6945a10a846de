# SPDX-License-Identifier: Apache-2.0
"""QoS policies and projects over HTTPS; `Api.call` holds each reply against the document."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.contract.lab import POLICIES, PROJECT, Api, Lab

PROJECTS = "/api/v2/projects"
ABSENT = str(uuid.UUID(int=1))
IOPS = {"limitIOPS": {"readIOPSLimit": 1000, "writeIOPSLimit": 256}}
EVERYWHERE = {"policyVisibility": "Global"}


def asked(name: str = "gold", **limit: Any) -> dict[str, Any]:
    return {"name": name, "qoSRateLimitPolicy": limit or {**EVERYWHERE, **IOPS}}


def blue(**limit: Any) -> dict[str, Any]:
    return {"policyVisibility": "Scoped", "projectsNamesScope": ["blue"], **(limit or IOPS)}


def test_the_life_of_a_policy(api: Api) -> None:
    made = api.call("POST", POLICIES, {**asked(), "description": "fast"})
    limit = {"readIOPSLimit": 1024, "writeIOPSLimit": 256}
    assert made == {
        "UUID": made["UUID"],
        "name": "gold",
        "description": "fast",
        "state": "Active",
        "QoSRateLimitPolicy": {"policyVisibility": "Global", "limitIOPS": limit},
    }
    path = f"{POLICIES}/{made['UUID']}"
    for same in (path, f"{POLICIES}/?name=gold"):
        assert api.call("GET", same) == made
    for query in ("", "?name=gold", f"?UUID={made['UUID']}"):
        assert api.call("GET", POLICIES + query) == {"policies": [made]}
    assert api.call("GET", f"{POLICIES}?name=silver") == {}
    bandwidth = {"limitBw": {"writeBWLimit": 20}}
    assert api.call("PUT", path, {"name": "gold", "qoSRateLimitPolicy": bandwidth}) == {}
    changed = api.call("GET", path)
    assert changed["QoSRateLimitPolicy"] == {**EVERYWHERE, **bandwidth}
    assert changed["description"] == "fast"
    assert api.call("PUT", f"{POLICIES}/", {"name": "gold", "description": "slow"}) == {}
    assert api.call("GET", path) == {**changed, "description": "slow"}
    assert api.call("DELETE", f"{POLICIES}/?name=gold") == {}
    for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
        assert api.call(method, path, body, status=404)["code"] == 5


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (asked(**EVERYWHERE), 400),
        (asked(**IOPS), 400),
        ({"name": "gold"}, 400),
        (asked("", **EVERYWHERE, **IOPS), 400),
        (asked("a/b"), 400),
        ({**asked(), "description": "d" * 257}, 400),
        (asked(**EVERYWHERE, **IOPS, limitBw={}), 400),
        (asked(**EVERYWHERE, limitIOPS={"readIOPSLimit": -1}), 400),
        (asked(**EVERYWHERE, limitIOPS={"readIOPSLimit": 1 << 32}), 400),
        (asked(**blue() | EVERYWHERE), 400),
        (asked(policyVisibility="Scoped", **IOPS), 400),
        (asked(policyVisibility="Secret", **IOPS), 400),
        (asked(**blue() | {"projectsNamesScope": ["blue", "green"]}), 404),
    ],
)
def test_bad_policies_are_refused(api: Api, body: dict[str, Any], status: int) -> None:
    api.call("POST", POLICIES, body, status=status)
    assert api.call("GET", POLICIES) == {}


def test_a_name_is_taken_once(api: Api) -> None:
    made = api.call("POST", POLICIES, asked())
    refused = api.call("POST", POLICIES, asked(), status=409)
    assert refused["code"] == 6
    assert made["UUID"] in refused["message"]


def test_a_limit_of_zero_is_no_limit_and_still_a_limit(api: Api) -> None:
    made = api.call("POST", POLICIES, asked(**EVERYWHERE, limitIOPSPerGB={}))
    assert made["QoSRateLimitPolicy"] == {**EVERYWHERE, "limitIOPSPerGB": {}}


def test_a_volume_names_its_policy(api: Api) -> None:
    gold = api.call("POST", POLICIES, asked())
    silver = api.call("POST", POLICIES, asked("silver"))
    volume = api.create_volume("vol", qosPolicyName="gold")
    assert (volume["qosPolicyUUID"], volume["qosPolicyName"]) == (gold["UUID"], "gold")
    path = f"{PROJECT}/volumes/{volume['UUID']}"
    api.call("PUT", path, {"qosPolicyUUID": silver["UUID"]}, If_Match=volume["ETag"])
    changed = api.settled("volumes", volume["UUID"])
    assert changed["qosPolicyName"] == "silver"
    assert changed["ETag"] != volume["ETag"]
    assert list(api.call("GET", f"{PROJECT}/volumes")["volumes"]) == [changed]
    refused = api.call("DELETE", f"{POLICIES}/{silver['UUID']}", status=400)
    assert refused["code"] == 9
    assert "volume vol of project default" in refused["message"]
    api.call("PUT", path, {"qosPolicyName": ""})
    cleared = api.settled("volumes", volume["UUID"])
    assert {"qosPolicyUUID", "qosPolicyName"}.isdisjoint(cleared)
    api.call("PUT", path, {"qosPolicyUUID": None, "qosPolicyName": "silver"})
    assert api.settled("volumes", volume["UUID"])["qosPolicyUUID"] == silver["UUID"]
    snapshot = api.create_snapshot("snap", volume["UUID"])
    clone = api.create_volume("clone", sourceSnapshotUUID=snapshot["UUID"])
    assert "qosPolicyUUID" not in clone


@pytest.mark.parametrize(
    "policy",
    [
        {"qosPolicyUUID": ABSENT},
        {"qosPolicyUUID": "no-uuid"},
        {"qosPolicyName": "bronze"},
        {"qosPolicyName": "blue-only"},
        {"qosPolicyUUID": ABSENT, "qosPolicyName": "gold"},
    ],
)
def test_a_volume_with_a_policy_that_is_not_there(api: Api, policy: dict[str, str]) -> None:
    api.call("POST", POLICIES, asked("blue-only", **blue()))
    body = {"name": "v", "size": "4096", "replicaCount": 1, "acl": {"values": ["ALLOW_NONE"]}}
    assert api.call("POST", f"{PROJECT}/volumes", {**body, **policy}, status=400)["code"] == 3
    assert api.call("GET", f"{PROJECT}/volumes") == {}
    volume = api.create_volume("vol")
    path = f"{PROJECT}/volumes/{volume['UUID']}"
    assert api.call("PUT", path, policy, status=400)["code"] == 3
    assert api.call("GET", path) == volume


def test_what_a_projects_token_sees_of_policies(lab: Lab, api: Api) -> None:
    gold = api.call("POST", POLICIES, asked())
    scoped = api.call("POST", POLICIES, asked("blue-only", **blue()))
    assert scoped["QoSRateLimitPolicy"]["projectsNamesScope"] == ["blue"]
    by_uuid = sorted([gold, scoped], key=lambda policy: str(policy["UUID"]))
    tenant, other = (Api(lab, token=lab.token(name)) for name in ("blue", "default"))
    shown = [
        {**policy, "QoSRateLimitPolicy": {"limitIOPS": policy["QoSRateLimitPolicy"]["limitIOPS"]}}
        for policy in by_uuid
    ]
    assert tenant.call("GET", POLICIES)["policies"] == shown
    assert tenant.call("GET", f"{POLICIES}?projectName=blue")["policies"] == shown
    assert api.call("GET", f"{POLICIES}?projectName=blue")["policies"] == shown
    assert [p["name"] for p in other.call("GET", POLICIES)["policies"]] == ["gold"]
    other.call("GET", f"{POLICIES}/{scoped['UUID']}", status=404)
    other.call("GET", f"{POLICIES}?projectName=blue", status=403)
    api.call("GET", f"{POLICIES}?projectName=green", status=404)
    for method, path, body in (
        ("POST", POLICIES, asked("mine")),
        ("PUT", f"{POLICIES}/{gold['UUID']}", {"description": "mine"}),
        ("DELETE", f"{POLICIES}/{gold['UUID']}", None),
    ):
        assert tenant.call(method, path, body, status=403)["code"] == 7
    volume = other.create_volume("vol", qosPolicyName="gold")
    assert volume["qosPolicyName"] == "gold"


def test_the_life_of_a_project(lab: Lab, api: Api) -> None:
    gold = api.call("POST", POLICIES, asked())
    default = [{"policyType": "qosRateLimit", "policyUUID": gold["UUID"]}]
    body = {"name": "green", "description": "d", "defaultPolicies": default}
    made = api.call("POST", PROJECTS, body)
    assert made == {**body, "UUID": made["UUID"]}
    assert api.call("POST", PROJECTS, body, status=409)["code"] == 6
    assert api.call("GET", f"{PROJECTS}/green") == made
    names = [project["name"] for project in api.call("GET", PROJECTS)["projects"]]
    assert names == ["blue", "default", "green"]
    tenant = Api(lab, token=lab.token("green"))
    assert tenant.call("GET", PROJECTS)["projects"] == [made]
    tenant.call("GET", f"{PROJECTS}/blue", status=403)
    tenant.call("POST", PROJECTS, {"name": "red"}, status=403)
    asked_volume = {"name": "v", "size": "1 gib", "replicaCount": 1, "acl": {"values": ["n"]}}
    volume = tenant.call("POST", f"{PROJECTS}/green/volumes", asked_volume)
    assert volume["qosPolicyName"] == "gold"
    in_use = api.call("DELETE", f"{PROJECTS}/green", status=400)["message"]
    assert "volume v" in in_use
    assert (
        "project green" in api.call("DELETE", f"{POLICIES}/{gold['UUID']}", status=400)["message"]
    )
    silver = api.call("POST", POLICIES, asked("silver"))
    default = [{"policyType": "qosRateLimit", "policyUUID": silver["UUID"]}]
    assert api.call("PUT", f"{PROJECTS}/green", {"defaultPolicies": default}) == {}
    assert api.call("GET", f"{PROJECTS}/green")["defaultPolicies"] == default
    path = f"{PROJECTS}/green/volumes/{volume['UUID']}"
    while (reply := tenant.raw("DELETE", path)).status_code == 503:
        pass
    assert reply.status_code == 200
    while tenant.raw("GET", path).status_code != 404:
        pass
    assert api.call("DELETE", f"{PROJECTS}/green") == {}
    api.call("GET", f"{PROJECTS}/green", status=404)
    api.call("DELETE", f"{PROJECTS}/green", status=404)
    assert tenant.call("GET", PROJECTS, status=401)["code"] == 16


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Green"},
        {"name": "system"},
        {},
        {"name": "green", "description": "d" * 257},
        {"name": "green", "defaultPolicies": [{"policyType": "snapshot", "policyUUID": ABSENT}]},
        {
            "name": "green",
            "defaultPolicies": [{"policyType": "qosRateLimit", "policyUUID": ABSENT}],
        },
    ],
)
def test_bad_projects_are_refused(api: Api, body: dict[str, Any]) -> None:
    api.call("POST", PROJECTS, body, status=400)
    api.call("GET", f"{PROJECTS}/green", status=404)
    api.call("PUT", f"{PROJECTS}/blue", {}, status=400)
    for name in ("default", "system"):
        assert api.call("DELETE", f"{PROJECTS}/{name}", status=400)["code"] == 9
