# SPDX-License-Identifier: Apache-2.0
"""Who may use the web page's server, without a browser; tests/page has the page itself."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.contract.lab import TIMEOUT_SECONDS, Api, Lab, lightos

OVERVIEW = "/lab/v1/overview"
FAULTS = "/lab/v1/faults"
RULE = {"operation": "*", "status": 503, "count": 0}


class PageClient:
    """Speaks to the page's server as the page does, but for what a test says."""

    def __init__(self, lab: Lab) -> None:
        self.address = lab.info["page_address"].rstrip("/")
        self.key = (lab.state_dir / "page.key").read_text().strip()

    def ask(
        self, method: str, path: str, body: object = None, **headers: str | None
    ) -> requests.Response:
        own: dict[str, str | None] = {"X-Lab-Key": self.key, "Origin": self.address}
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in {**own, **changed}.items() if value is not None}
        return requests.request(
            method, self.address + path, json=body, headers=sent, timeout=TIMEOUT_SECONDS
        )


@pytest.fixture
def page(lab: Lab) -> PageClient:
    return PageClient(lab)


def no_faults(api: Api) -> bool:
    rules: list[dict[str, Any]] = api.raw("GET", FAULTS).json()["rules"]
    return rules == []


def test_it_listens_on_loopback_only(page: PageClient) -> None:
    port = urlsplit(page.address).port
    assert page.address == f"http://127.0.0.1:{port}"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), TIMEOUT_SECONDS)


def test_the_key_is_a_secret_of_the_owner_and_stays(own_lab: Lab) -> None:
    key = own_lab.state_dir / "page.key"
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    before = key.read_text()
    assert before.strip() not in (own_lab.state_dir / "lab.json").read_text()
    own_lab.stop()
    own_lab.start()
    assert key.read_text() == before
    assert before.strip() not in (own_lab.state_dir / "lab.log").read_text()


def test_status_prints_the_address(lab: Lab, page: PageClient) -> None:
    status = lightos("lab", "status", f"--state-dir={lab.state_dir}").stdout
    assert f"{page.address}/#{page.key}" in status


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/icon.svg"])
def test_the_page_itself_takes_nothing_from_elsewhere(page: PageClient, path: str) -> None:
    reply = page.ask("GET", path, X_Lab_Key=None, Origin=None)
    assert reply.status_code == 200
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert page.key not in reply.text
    assert page.ask("POST", path).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Lab_Key": None},
        {"X_Lab_Key": "guessed"},
        {"Host": "attacker.example"},
        {"Host": "attacker.example:4480"},
        {"Host": "127.0.0.1"},
    ],
)
def test_nothing_is_told_without_the_key_or_under_another_name(
    page: PageClient, headers: Mapping[str, str | None]
) -> None:
    assert page.ask("GET", OVERVIEW).status_code == 200
    assert page.ask("GET", OVERVIEW, **headers).status_code == 403
    assert page.ask("POST", FAULTS, RULE, **headers).status_code == 403


@pytest.mark.parametrize("origin", [None, "null", "http://attacker.example", "http://localhost:1"])
def test_another_site_changes_nothing(page: PageClient, api: Api, origin: str | None) -> None:
    """Even with the key."""
    assert page.ask("POST", FAULTS, RULE, Origin=origin).status_code == 403
    assert no_faults(api)


def test_no_site_is_allowed_to_read_across_origins(page: PageClient) -> None:
    asked = page.ask("OPTIONS", FAULTS, Access_Control_Request_Method="POST")
    assert asked.status_code == 403
    assert not [name for name in asked.headers if name.lower().startswith("access-control")]
    assert page.ask("GET", OVERVIEW).headers.get("Access-Control-Allow-Origin") is None


def test_what_the_page_offers_works(page: PageClient, api: Api) -> None:
    added = page.ask("POST", FAULTS, RULE)
    assert added.status_code == 200
    assert page.ask("GET", OVERVIEW).json()["faults"]["rules"] == [added.json()]
    assert page.ask("DELETE", f"{FAULTS}/{added.json()['id']}").status_code == 200
    assert no_faults(api)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v2/cluster"),
        ("DELETE", "/api/v2/projects/default"),
        ("POST", "/lab/v1/tokens/renew"),
        ("POST", "/lab/v1/nodes"),
        ("DELETE", "/lab/v1/nodes/node1"),
        ("PUT", "/lab/v1/faults"),
        ("POST", "/lab/v1/overview"),
    ],
)
def test_what_the_page_does_not_offer_is_refused(page: PageClient, method: str, path: str) -> None:
    assert page.ask(method, path, {}).status_code == 403


def test_only_administrators_get_the_overview_from_the_api(lab: Lab, api: Api) -> None:
    assert api.raw("GET", OVERVIEW).status_code == 200
    assert Api(lab, token=lab.token("blue")).raw("GET", OVERVIEW).status_code == 403


def test_a_port_that_is_asked_for_and_taken_is_an_error(own_lab: Lab) -> None:
    own_lab.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = lightos(
            "lab", "up", "--detach", *own_lab.options, f"--page-port={port}", check=False
        )
    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in refused.stderr
    assert "--page-port" in refused.stderr
    own_lab.start()
