# SPDX-License-Identifier: Apache-2.0
"""Who may do what, over HTTPS."""

from __future__ import annotations

import json
import ssl
import time
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
import requests

from tests.contract.lab import PROJECT, Api, Lab, lightos

BODY = {"name": "v", "size": "4096", "replicaCount": 1, "acl": {"values": ["ALLOW_NONE"]}}


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer x.y.z", "Basic YWRtaW46YWRtaW4="],
)
def test_without_a_good_token(api: Api, header: str | None) -> None:
    refused = api.call("GET", f"{PROJECT}/volumes", status=401, Authorization=header)
    assert refused["code"] == 16
    api.call("GET", "/api/v2/version", Authorization=header)
    api.call("GET", "/api/v2/cluster", status=401, Authorization=header)


def test_a_token_of_another_lab(api: Api) -> None:
    head, claims, signature = api.token.split(".")
    forged = f"{head}.{claims}.{signature[:-40]}{'A' * 38}{signature[-2:]}"
    refused = api.call("GET", f"{PROJECT}/volumes", status=401, Authorization=f"Bearer {forged}")
    assert "signature" in refused["message"]
    assert forged not in refused["message"]


def test_a_token_expires(lab: Lab, api: Api) -> None:
    token = lab.token("system", "--valid-seconds=2")
    short = Api(lab, token=token)
    short.call("GET", "/api/v2/clusterinfo")
    while short.raw("GET", "/api/v2/clusterinfo").status_code == 200:
        time.sleep(0.1)
    assert "expired" in short.call("GET", "/api/v2/clusterinfo", status=401)["message"]


def test_a_projects_administrator(lab: Lab, api: Api) -> None:
    tenant = Api(lab, token=lab.token("default"))
    made = tenant.create_volume("mine")
    tenant.call("GET", "/api/v2/clusterinfo")
    tenant.call("GET", "/api/v2/nodes")
    node = lab.info["nodes"][0]["uuid"]
    for method, path in (
        ("GET", "/api/v2/cluster"),
        ("POST", f"/api/v2/nodes/{node}/stop"),
        ("GET", "/api/v2/volumes"),
        ("GET", "/api/v2/projects/blue/volumes"),
        ("GET", "/api/v2/projects/green/volumes"),
        ("GET", f"/api/v2/volumes/{made['UUID']}?projectName=blue"),
    ):
        assert tenant.call(method, path, status=403)["code"] == 7
    blue = Api(lab, token=lab.token("blue"))
    blue.call("DELETE", f"{PROJECT}/volumes/{made['UUID']}", status=403)
    blue.call("DELETE", f"/api/v2/volumes/{made['UUID']}", status=403)
    blue.call("DELETE", f"/api/v2/projects/blue/volumes/{made['UUID']}", status=404)


def test_a_projects_viewer(lab: Lab, api: Api) -> None:
    made = api.create_volume("seen")
    viewer = Api(lab, token=lab.token("default", "--role=viewer"))
    assert viewer.call("GET", f"{PROJECT}/volumes/{made['UUID']}") == made
    viewer.call("POST", f"{PROJECT}/volumes", BODY, status=403)
    viewer.call("DELETE", f"{PROJECT}/volumes/{made['UUID']}", status=403)


def test_a_token_of_the_cluster_for_roles_in_two_projects(lab: Lab, api: Api) -> None:
    roles = ["--role=default:admin", "--role=blue:viewer", "--subject=ci"]
    token = lab.token("system", *roles)
    head, claims = (json.loads(urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    assert (head["alg"], head["kid"]) == ("RS256", "system:lab")
    assert (claims["roles"], claims["sub"]) == (["default:admin", "blue:viewer"], "ci")
    both = Api(lab, token=token)
    both.create_volume("mine")
    both.call("GET", "/api/v2/projects/blue/volumes")
    both.call("POST", "/api/v2/projects/blue/volumes", BODY, status=403)
    both.call("GET", "/api/v2/cluster", status=403)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--project=green"], "no project green; projects are blue, default, system"),
        (["--project=blue", "--role=veiwer"], "no role 'veiwer'; it has admin, viewer"),
        (["--project=blue", "--role=cluster-admin"], "blue has no role 'cluster-admin'"),
        (["--role=admin"], "system has no role 'admin'; it has cluster-admin"),
        (["--project=blue", "--role=default:admin"], "one of default or of system can"),
    ],
)
def test_tokens_that_would_be_refused_are_not_made(lab: Lab, options: list[str], said: str) -> None:
    done = lightos("lab", "token", f"--state-dir={lab.state_dir}", *options, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert said in done.stderr


def test_the_projects_token_file(lab: Lab, api: Api) -> None:
    tenant = Api(lab, token=(lab.state_dir / "tokens" / "default.jwt").read_text().strip())
    assert tenant.create_volume("mine")["state"] == "Available"
    for file in (lab.state_dir / "tokens").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


def test_the_authority_is_not_publicly_trusted(lab: Lab) -> None:
    url = f"https://{lab.info['api_addresses'][0]}:{lab.info['api_port']}/api/v2/version"
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, timeout=5)
    ssl.create_default_context(cafile=lab.info["ca_file"])


def test_the_log_holds_no_token(lab: Lab, api: Api) -> None:
    api.raw("GET", "/api/v2/nothing")
    log = (lab.state_dir / "lab.log").read_text()
    assert api.token.split(".")[2] not in log
    assert Path(lab.info["jwt_file"]).read_text().strip() not in log
