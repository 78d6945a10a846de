# SPDX-License-Identifier: Apache-2.0
"""The testbed's network service has nothing, and says so in the Networking API's form."""

from __future__ import annotations

import pytest

from testbed.cloud.network_stub import answer

URL = "http://192.168.75.1:9696"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2.0/networks", {"networks": []}),
        ("/v2.0/security-groups.json", {"security_groups": []}),
        ("/v2.0/quotas/0123abcd", {"quota": {"port": -1}}),
        ("/v2.0/", {"resources": []}),
    ],
)
def test_everything_is_empty(path: str, body: dict[str, object]) -> None:
    assert answer("GET", path, URL) == (200, body)


def test_its_version_is_announced() -> None:
    (version,) = answer("GET", "/", URL)[1]["versions"]
    assert version["id"] == "v2.0"
    assert version["links"] == [{"rel": "self", "href": f"{URL}/v2.0/"}]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v2.0/ports/1", 404), ("POST", "/v2.0/networks", 403)]
)
def test_nothing_can_be_found_or_made(method: str, path: str, status: int) -> None:
    found, body = answer(method, path, URL)
    assert found == status
    assert body["NeutronError"]["message"]
