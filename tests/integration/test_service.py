# SPDX-License-Identifier: Apache-2.0
"""Starting, restarting and misconfiguring Cinder with our driver."""

import stat
import time
from pathlib import Path
from typing import Any

import certifi
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from testbed.cinder.client import CinderClient
from testbed.cinder.errors import CinderFailed
from testbed.cinder.service import CinderService
from tests.integration.cluster import Cluster, connector, files_with, sensitive_words
from tests.integration.conftest import StartCinder, assert_nothing_left, ready_client

HOST = connector("compute-1", number=1)
STATE_TIMEOUT_SECONDS = 30


def forged_token() -> str:
    """Everything right but the key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {"sub": "cinder", "exp": 4102444800, "roles": ["system:cluster-admin"]}
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": "system:root"})


def wait_until_down(service: CinderService) -> None:
    """Cinder keeps a backend that did not initialise running, and reports it "down"."""
    client = CinderClient.of(service)
    deadline = time.monotonic() + STATE_TIMEOUT_SECONDS
    while {s["state"] for s in client.services() if s["binary"] == "cinder-volume"} != {"down"}:
        assert time.monotonic() < deadline, "the volume service still reports itself up"
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"lightos_jwt": "not.a.token"}, "401|[Uu]nauthorized|JWT"),
        ({"lightos_jwt": forged_token()}, "401|[Uu]nauthorized|JWT"),
        ({"driver_ssl_cert_path": certifi.where()}, "certificate|CA"),
        ({"driver_ssl_cert_path": "/nonexistent/ca.pem"}, "/nonexistent/ca.pem"),
        ({"lightos_api_address": "127.255.255.1"}, "127.255.255.1"),
        ({"lightos_api_address": None}, "lightos_api_address"),
    ],
    ids=["no-token", "forged-token", "other-ca", "missing-ca", "unreachable", "no-address"],
)
def test_backend_that_cannot_work_is_down_and_says_why(
    lab: dict[str, Any], start_cinder: StartCinder, options: dict[str, str | None], cause: str
) -> None:
    service = start_cinder(lab, lightos={"lightos_api_service_timeout": 3} | options)

    with pytest.raises(CinderFailed, match=cause) as failed:
        service.wait_ready()
    (line, *_more) = str(failed.value).splitlines()[1:]
    assert "Failed to initialize driver" in line
    wait_until_down(service)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lightos_default_num_replicas", "7"),
        ("lightos_default_compression_enabled", "sometimes"),
        ("lightos_api_port", "99999"),
    ],
)
def test_impossible_option_value_is_named(
    lab: dict[str, Any], start_cinder: StartCinder, option: str, value: str
) -> None:
    service = start_cinder(lab, lightos={option: value})

    with pytest.raises(CinderFailed, match=option):
        service.wait_ready()


def test_volumes_and_attachments_survive_a_crash(
    lab: dict[str, Any], cluster: Cluster, start_cinder: StartCinder
) -> None:
    service = start_cinder(lab).wait_ready()
    client = ready_client(service)
    volume = client.create_volume(1)
    attachment = client.attach(volume.id, HOST)
    client.complete_attachment(attachment)
    service.kill()

    client = ready_client(start_cinder(lab).wait_ready())
    assert client.volume(volume.id).status == "in-use"
    client.extend_volume(volume.id, 2)
    client.detach(attachment)
    assert cluster.host_nqns(volume.id) == set()
    client.remove_everything()
    assert_nothing_left(cluster)


def test_token_is_written_nowhere_but_where_it_belongs(
    lab: dict[str, Any], cluster: Cluster, start_cinder: StartCinder
) -> None:
    service = start_cinder(lab, debug=True).wait_ready()
    client = ready_client(service)
    volume = client.create_volume(1)
    client.detach(client.attach(volume.id, HOST))
    client.remove_everything()
    service.stop()

    words = sensitive_words(lab)
    jwt_file = Path(lab["jwt_file"])
    conf_file = service.deployment.conf_file
    assert stat.S_IMODE(conf_file.stat().st_mode) == 0o600
    assert files_with(words, conf_file.parent, but={conf_file}) == []
    assert files_with(words, jwt_file.parent, but={jwt_file}) == []
    assert "DEBUG" in service.log_file.read_text()
    assert volume.id in service.log_file.read_text()
