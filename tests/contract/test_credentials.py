# SPDX-License-Identifier: Apache-2.0
"""Keys of a project's own, and the tokens that are signed with them."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.contract.lab import PROJECT, Api, Lab

CREDENTIALS = f"{PROJECT}/credentials"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def payload(key: Any) -> str:
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(pem).decode()


def asked(name: str = "ci", key: Any = KEY) -> dict[str, str]:
    return {"ID": name, "type": "RS256PubKey", "payload": payload(key)}


def signed(kid: str = "default:ci", role: str = "default:admin", key: Any = KEY) -> str:
    claims = {"sub": "ci", "exp": int(time.time()) + 60, "roles": [role]}
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})


@pytest.fixture
def projects(api: Api) -> Iterator[Api]:
    yield api
    for project in ("default", "blue", "system"):
        path = f"/api/v2/projects/{project}/credentials"
        for credential in api.call("GET", path)["credentials"]:
            if credential["ID"] != "lab":
                api.call("DELETE", f"{path}/{credential['ID']}")


def test_the_life_of_a_credential(lab: Lab, projects: Api) -> None:
    owner = Api(lab, token=lab.token("default"))
    tenant = Api(lab, token=signed())
    assert "not known" in tenant.call("GET", f"{PROJECT}/volumes", status=401)["message"]
    made = owner.call("POST", CREDENTIALS, asked())
    assert made == {"projectName": "default", **asked()}
    assert owner.call("GET", f"{CREDENTIALS}/ci") == made
    own, listed = owner.call("GET", CREDENTIALS)["credentials"]
    assert (own["ID"], listed) == ("lab", made)
    assert owner.call("POST", CREDENTIALS, asked(), status=409)["code"] == 6
    tenant.create_volume("mine")
    tenant.call("GET", "/api/v2/projects/blue/volumes", status=403)
    owner.call("DELETE", f"{CREDENTIALS}/ci")
    assert "not known" in tenant.call("GET", f"{PROJECT}/volumes", status=401)["message"]
    owner.call("GET", f"{CREDENTIALS}/ci", status=404)
    owner.call("DELETE", f"{CREDENTIALS}/ci", status=404)


def test_another_key_under_the_same_name(lab: Lab, projects: Api) -> None:
    projects.call("POST", CREDENTIALS, asked())
    before = Api(lab, token=signed())
    before.call("GET", f"{PROJECT}/volumes")
    projects.call("DELETE", f"{CREDENTIALS}/ci")
    projects.call("POST", CREDENTIALS, asked(key=OTHER_KEY))
    assert "signature" in before.call("GET", f"{PROJECT}/volumes", status=401)["message"]
    Api(lab, token=signed(key=OTHER_KEY)).call("GET", f"{PROJECT}/volumes")


def test_a_credential_of_the_cluster(lab: Lab, projects: Api) -> None:
    projects.call("POST", "/api/v2/projects/system/credentials", asked("root"))
    root = Api(lab, token=signed("system:root", "system:cluster-admin"))
    root.call("GET", "/api/v2/cluster")
    root.call("POST", "/api/v2/projects", {"name": "system"}, status=400)
    root.call("DELETE", "/api/v2/projects/system", status=400)
    root.call("GET", "/api/v2/cluster")
    tenant = Api(lab, token=lab.token("default"))
    tenant.call("POST", "/api/v2/projects/system/credentials", asked("mine"), status=403)
    tenant.call("GET", "/api/v2/projects/system/credentials", status=403)
    forged = Api(lab, token=signed("default:root", "system:cluster-admin"))
    forged.call("GET", "/api/v2/cluster", status=401)


def test_it_survives_a_restart_and_goes_with_its_project(own_lab: Lab) -> None:
    api = Api(own_lab)
    path = "/api/v2/projects/blue/credentials"
    api.call("POST", path, asked())
    own_lab.kill()
    own_lab.start()
    Api(own_lab, token=signed("blue:ci", "blue:admin")).call("GET", "/api/v2/projects/blue/volumes")
    api = Api(own_lab)
    api.call("DELETE", "/api/v2/projects/blue")
    api.call("POST", "/api/v2/projects", {"name": "blue"})
    assert [c["ID"] for c in api.call("GET", path)["credentials"]] == ["lab"]


SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**asked(), "ID": ""}, "ID is required"),
        ({**asked(), "ID": "a b"}, "credential ID 'a b' is not valid"),
        ({**asked(), "type": "TlsPrivKeyPem"}, "TlsPrivKeyPem are not supported here"),
        ({**asked(), "payload": ""}, "payload is required"),
        ({**asked(), "payload": base64.b64encode(b"no key").decode()}, "not an RSA public key"),
        (asked(key=ec.generate_private_key(ec.SECP256R1())), "it is no RSA key"),
        (asked(key=SMALL), "1024 bits, fewer than 2048"),
    ],
)
def test_refused(projects: Api, body: dict[str, str], said: str) -> None:
    assert said in projects.call("POST", CREDENTIALS, body, status=400)["message"]


def test_the_labs_own_credential(lab: Lab, projects: Api) -> None:
    own = projects.call("GET", f"{CREDENTIALS}/lab")
    key = serialization.load_pem_public_key(base64.b64decode(own["payload"]))
    assert isinstance(key, rsa.RSAPublicKey)
    token = lab.token("default")
    assert jwt.decode(token, key, algorithms=["RS256"])["roles"] == ["default:admin"]
    assert "stays" in projects.call("DELETE", f"{CREDENTIALS}/lab", status=400)["message"]
    projects.call("POST", CREDENTIALS, asked("lab"), status=409)
    projects.call("GET", "/api/v2/projects/green/credentials", status=404)
