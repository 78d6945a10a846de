# SPDX-License-Identifier: Apache-2.0
"""Starting, restarting and misconfiguring Cinder with our driver."""

import re
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from testbed.cinder import configuration
from testbed.cinder.client import CinderClient
from testbed.cinder.errors import CinderFailed
from testbed.cinder.service import CinderService
from testbed.cluster import Cluster, connector, files_with, free_port, sensitive_words
from tests.integration.conftest import StartCinder, assert_nothing_left, ready_client

HOST = connector("compute-1", number=1)
STATE_TIMEOUT_SECONDS = 30


def forged_token() -> str:
    """Everything right but the key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {"sub": "cinder", "exp": 4102444800, "roles": ["system:cluster-admin"]}
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": "system:root"})


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "forged": ({"lightos_jwt": forged_token()}, "lightos_jwt.* 401.*Renew the JWT"),
    "garbled": ({"lightos_jwt": "not.a.token"}, "lightos_jwt.*not valid.* 401.*Renew the JWT"),
    "no-token": ({"lightos_jwt": ""}, "lightos_jwt: .*a token is needed.*lightos_jwt is not set"),
    "other-ca": (
        {"driver_ssl_cert_path": certifi.where()},
        "driver_ssl_cert_path.*refused.*CA file",
    ),
    "missing-ca": ({"driver_ssl_cert_path": "/nonexistent/ca.pem"}, "/nonexistent/ca.pem"),
    "unreachable": ({"lightos_api_address": "127.255.255.1"}, "127.255.255.1"),
    "no-address": ({"lightos_api_address": ""}, "lightos_api_address: .*not set"),
    "bad-address": ({"lightos_api_address": "not an address"}, "lightos_.*not an address"),
    "replicas": ({"lightos_default_num_replicas": 7}, "lightos_default_num_replicas"),
    "compression": (
        {"lightos_default_compression_enabled": "sometimes"},
        "lightos_default_compression_enabled",
    ),
    "port": ({"lightos_api_port": 99999}, "lightos_api_port"),
    "time-out": ({"lightos_api_service_timeout": "soon"}, "lightos_api_service_timeout"),
}
"""Name of a backend: options that cannot work, what the log must say of them in one line."""


@pytest.fixture(scope="module")
def partly_working(
    lab: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CinderService]:
    """A Cinder of one good backend and every impossible one."""
    good = configuration.lightos_backend(lab) | {"lightos_api_service_timeout": 3}
    service = CinderService(
        tmp_path_factory.mktemp("partly-working"),
        lab,
        free_port(),
        incumbent=False,
        extra_backends={name: good | wrong for name, (wrong, _) in IMPOSSIBLE.items()},
    ).start()
    with pytest.raises(CinderFailed, match=f"backend {', '.join(IMPOSSIBLE)} failed"):
        service.wait_ready()
    yield service
    service.stop()


@pytest.mark.parametrize("backend", IMPOSSIBLE)
def test_backend_that_cannot_work_says_why(partly_working: CinderService, backend: str) -> None:
    _options, cause = IMPOSSIBLE[backend]
    errors = partly_working.log_errors(lines=100).splitlines()
    causes = [line for line in errors if "Failed to initialize" in line or "to start" in line]
    assert len(causes) == len(IMPOSSIBLE)
    assert [line for line in causes if re.search(cause, line)]


def test_only_the_backend_that_works_is_up(partly_working: CinderService, cluster: Cluster) -> None:
    """Cinder keeps the services of the others running and reports them "down"."""
    client = ready_client(partly_working)
    deadline = time.monotonic() + STATE_TIMEOUT_SECONDS
    while (up := hosts_up(client)) != {"cinder@lightos"}:
        assert time.monotonic() < deadline, f"volume services that report themselves up: {up}"
        time.sleep(0.5)
    client.create_volume(1)
    client.remove_everything()
    assert_nothing_left(cluster)


def hosts_up(client: CinderClient) -> set[str]:
    return {
        found["host"]
        for found in client.services()
        if (found["binary"], found["state"]) == ("cinder-volume", "up")
    }


def test_api_port_in_use_is_told(lab: dict[str, Any], start_cinder: StartCinder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        service = start_cinder(lab, api_port=port)
        with pytest.raises(CinderFailed, match=f"{port}.*Address already in use"):
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
    lab: dict[str, Any], lab_dir: Path, start_cinder: StartCinder
) -> None:
    service = start_cinder(lab, debug=True).wait_ready()
    client = ready_client(service)
    volume = client.create_volume(1)
    client.detach(client.attach(volume.id, HOST))
    client.remove_everything()
    service.stop()

    words = sensitive_words(lab)
    conf_file = service.deployment.conf_file
    assert stat.S_IMODE(conf_file.stat().st_mode) == 0o600
    assert files_with(words, conf_file.parent, but={conf_file}) == []
    assert files_with(words, lab_dir, but={Path(lab["jwt_file"])}) == []
    assert "DEBUG" in service.log_file.read_text()
    assert volume.id in service.log_file.read_text()
