# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.api import routes
from lightos.api.models.nodes import StopNode
from lightos.api.models.volumes import DeleteVolume, GetVolume, UpdateVolume
from lightos.api.routes import NoRoute, Route, WrongMethod, match
from lightos.api.wire import WireError

PROJECT = "/api/v2/projects/default"


@pytest.mark.parametrize(
    ("method", "path", "operation", "variables"),
    [
        ("GET", "/api/v2/version", "GetVersion", {}),
        ("GET", "/api/v2/clusterinfo", "GetClusterInfo", {}),
        ("POST", "/api/v2/nodes/n1/stop", "StopNodeInstance", {"nodeUUID": "n1"}),
        ("POST", f"{PROJECT}/volumes", "CreateVolume", {"projectName": "default"}),
        ("GET", f"{PROJECT}/volumes", "ListVolumes", {"projectName": "default"}),
        ("GET", f"{PROJECT}/volumes/", "GetVolume", {"projectName": "default", "UUID": ""}),
        ("PUT", f"{PROJECT}/volumes/u", "UpdateVolume", {"projectName": "default", "UUID": "u"}),
        ("PUT", f"{PROJECT}/volumes/u/rollback", "RollbackVolume",
         {"projectName": "default", "UUID": "u"}),
        ("GET", f"{PROJECT}/snapshots/", "GetSnapshot", {"projectName": "default", "UUID": ""}),
        ("GET", "/api/v2/volumes/", "GetVolume_2", {"UUID": ""}),
        ("DELETE", "/api/v2/volumes/u", "DeleteVolume_2", {"UUID": "u"}),
    ],
)  # fmt: skip
def test_match(method: str, path: str, operation: str, variables: dict[str, str]) -> None:
    found = match(method, path)
    assert (found.route.operation_id, dict(found.path)) == (operation, variables)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/api/v2",
        "/api/v2/version/",
        "/api/v2/Version",
        "/api/v1/version",
        "/api/v2/nodes/n1/stop/",
        "/api/v2/projects//volumes",
        f"{PROJECT}/volumes//rollback",
        f"{PROJECT}/volumes/a:b",
        f"{PROJECT}/volumes/a/b/c",
    ],
)
def test_no_route(path: str) -> None:
    with pytest.raises(NoRoute):
        match("GET", path)


def test_wrong_method() -> None:
    with pytest.raises(WrongMethod) as caught:
        match("PATCH", f"{PROJECT}/volumes/u")
    assert caught.value.allowed == {"GET", "PUT", "DELETE"}


def test_operation_ids_and_bindings_are_unique() -> None:
    ids = [route.operation_id for route in routes.ROUTES]
    lines = [(route.method, route.path) for route in routes.ROUTES]
    assert len(set(ids)) == len(set(lines)) == len(routes.ROUTES) == 44


@pytest.mark.parametrize("route", routes.ROUTES, ids=lambda route: route.operation_id)
def test_every_path_variable_is_a_field_of_the_request(route: Route[Any, Any]) -> None:
    assert set(route.path_names) <= {row.name for row in route.request.wire_fields()}


def test_a_request_is_spread_over_path_query_and_body() -> None:
    get = GetVolume(project="p/1", name="x")
    assert routes.GET_VOLUME.address(get) == "/api/v2/projects/p%2F1/volumes/"
    assert routes.GET_VOLUME.query(get) == {"name": "x"}
    assert routes.GET_VOLUME.body(get) is None
    update = UpdateVolume(project="p", uuid="u", size_bytes=4096)
    assert routes.UPDATE_VOLUME.query(update) == {}
    assert routes.UPDATE_VOLUME.body(update) == {"size": "4096"}


@pytest.mark.parametrize("value", [".", ".."])
def test_a_value_cannot_climb_out_of_its_segment(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a path"):
        routes.GET_VOLUME.address(GetVolume(project=value, uuid="u"))


def test_on_a_server_the_path_wins_over_query_and_body() -> None:
    path = {"projectName": "p", "UUID": "u"}
    body = b'{"projectName": "other", "UUID": "other", "size": "1 gib", "unknown": 1}'
    assert routes.UPDATE_VOLUME.read_request(path, {"Force": ["true"]}, body) == (
        UpdateVolume(project="p", uuid="u", size_bytes=1 << 30)
    )
    query = {"projectName": ["other"], "UUID": ["other"], "name": ["n"]}
    assert routes.GET_VOLUME.read_request({**path, "UUID": ""}, query, b"ignored") == (
        GetVolume(project="p", name="n")
    )


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(WireError, match="the body is not"):
        routes.CREATE_VOLUME.read_request({"projectName": "p"}, {}, body)


def test_an_empty_body_is_an_empty_message() -> None:
    request = routes.STOP_NODE.read_request({"nodeUUID": "n"}, {}, b"")
    assert request == StopNode(node_uuid="n")


_SEGMENT = st.text(min_size=1, max_size=12).filter(
    lambda text: "/" not in text and ":" not in text and text not in (".", "..")
)


@given(project=_SEGMENT, uuid=_SEGMENT, name=st.text(max_size=12))
def test_what_a_client_sends_is_what_a_server_reads(project: str, uuid: str, name: str) -> None:
    request = DeleteVolume(project=project, uuid=uuid, name=name)
    found = match("DELETE", unquote(routes.DELETE_VOLUME.address(request)))
    query = parse_qs(
        urlencode(routes.DELETE_VOLUME.query(request), doseq=True), keep_blank_values=True
    )
    assert found.route.read_request(found.path, query, b"") == request
