# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from os_brick import exception

from lightos.openstack.os_brick.connection import LightOSConnection, volume_uuid_of

VOLUME = "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a01"
SUBSYSTEM = "nqn.2016-01.com.lightbitslabs:uuid:5c0b9f9e-3f3e-4ad1-b8d0-4d1c1b1f9a01"
HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"


def node(address: Any = "192.168.75.11", port: Any = 8009, **more: Any) -> dict[str, Any]:
    return {"target_portal": address, "target_port": port, "transport_type": "tcp", **more}


def properties(**changes: Any) -> dict[str, Any]:
    return {
        "uuid": VOLUME,
        "subsysnqn": SUBSYSTEM,
        "lightos_nodes": {"192.168.75.11": node()},
        **changes,
    }


@pytest.mark.parametrize(
    ("nodes", "services"),
    [
        ([node()], [("192.168.75.11", 8009)]),
        ([node(port="8009"), node("192.168.75.12", 8010)],
         [("192.168.75.11", 8009), ("192.168.75.12", 8010)]),
        ([node("fd00::0:1"), node("[fd00::1]")], [("fd00::1", 8009)]),
        ([node("Storage-1.example.com")], [("storage-1.example.com", 8009)]),
        ([node(None), node()], [("192.168.75.11", 8009)]),
    ],
)  # fmt: skip
def test_every_form_of_an_endpoint(
    nodes: list[dict[str, Any]], services: list[tuple[str, int]]
) -> None:
    parsed = LightOSConnection.from_properties(
        properties(lightos_nodes={str(key): each for key, each in enumerate(nodes)})
    )
    assert parsed == LightOSConnection(UUID(VOLUME), SUBSYSTEM, tuple(services))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"uuid": "../../etc/passwd"}, "no volume UUID: '../../etc/passwd'"),
        ({"uuid": None}, "no volume UUID"),
        ({"uuid": 7}, "no volume UUID"),
        ({"subsysnqn": "x\n-a 6.6.6.6"}, "subsysnqn"),
        ({"subsysnqn": None}, "subsysnqn is empty"),
        ({"lightos_nodes": {}}, "names no node"),
        ({"lightos_nodes": None}, "names no node"),
        ({"lightos_nodes": {"a": "b"}}, "not a mapping"),
        ({"lightos_nodes": {"a": node("x y")}}, "x y"),
        ({"lightos_nodes": {"a": node(None)}}, "names no node with an address"),
        ({"lightos_nodes": {"a": node(""), "b": node()}}, "address ''"),
        ({"lightos_nodes": {"a": node(port=0)}}, "port 0"),
        ({"lightos_nodes": {"a": node(port="http")}}, "port 'http'"),
        ({"lightos_nodes": {"a": node(transport_type="rdma")}}, "rdma"),
    ],
)
def test_malformed_properties_are_refused_by_name(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(exception.BrickException, match="LightOS connection properties") as raised:
        LightOSConnection.from_properties(properties(**changes))
    assert complaint in str(raised.value)


@pytest.mark.parametrize("nothing", [{}, None, "x"])
def test_a_missing_uuid_is_named(nothing: Any) -> None:
    with pytest.raises(exception.BrickException, match="no volume UUID: None"):
        volume_uuid_of(nothing)
