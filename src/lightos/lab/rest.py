# SPDX-License-Identifier: Apache-2.0
"""The management API v2 as an ASGI application: routes and messages come from `lightos.api`.

Replies are those of a grpc-gateway v1.16: 200 with a message, an error body `{error, code,
message}` with the HTTP status of its gRPC code, and 404 or 405 in plain text for what no route
takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs
from uuid import UUID

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from lightos.api import models, openapi, routes
from lightos.api.errors import HTTP_STATUS
from lightos.api.routes import NoRoute, Route, WrongMethod
from lightos.api.wire import Model, WireError
from lightos.lab.auth import Caller
from lightos.lab.cluster import Cluster
from lightos.lab.describe import Description
from lightos.lab.errors import ClusterError, InvalidArgument, PermissionDenied
from lightos.lab.records import NodeRecord

R = TypeVar("R", bound=Model)

OPENAPI_PATH = "/api/v2/openapi.json"
MAX_BODY_BYTES = 1 << 20
DEFAULT_SECTOR_BYTES = 4096

FOR_EVERYONE = frozenset({"GetVersion"})
FOR_ANY_TOKEN = frozenset({"GetClusterInfo", "ListNodes", "GetNode"})
FOR_CLUSTER_ADMINS = frozenset(
    {"GetCluster", "StartNodeInstance", "StopNodeInstance", "RestartNodeInstance"}
)
"""All other operations belong to a project: its viewers may read, its admins may write."""

Authenticate = Callable[[str | None], Caller]
"""From the `Authorization` header to who calls; raises Unauthenticated."""


class ManagementApi:
    """The ASGI application of one cluster; every node serves the same one."""

    def __init__(self, description: Description, authenticate: Authenticate) -> None:
        self._operations = Operations(description)
        self._authenticate = authenticate
        self._openapi = json.dumps(openapi.document()).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = request.scope["path"]
        if path == OPENAPI_PATH and request.method == "GET":
            return _json_response(200, self._openapi)
        try:
            found = routes.match(request.method, path)
        except NoRoute:
            return PlainTextResponse("Not Found\n", 404)
        except WrongMethod as error:
            allow = {"Allow": ", ".join(sorted(error.allowed))}
            return PlainTextResponse("Method Not Allowed\n", 405, allow)
        try:
            caller = (
                None
                if found.route.operation in FOR_EVERYONE
                else self._authenticate(request.headers.get("authorization"))
            )
            message = _read_message(found, request, await _body(request))
            if caller is not None:
                _authorize(caller, found.route, message)
            reply = self._operations.run(found.route, message, request.headers.get("if-match"))
        except ClusterError as error:
            return _error_response(error)
        return _json_response(200, _encoded(reply))


def _json_response(status: int, content: bytes) -> Response:
    return Response(content, status, media_type="application/json")


def _encoded(message: Model) -> bytes:
    return json.dumps(message.to_wire(), separators=(",", ":")).encode()


def _error_response(error: ClusterError) -> Response:
    text = str(error)
    body = models.GatewayError(error=text, code=error.code, message=text)
    return _json_response(HTTP_STATUS[error.code], _encoded(body))


async def _body(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > MAX_BODY_BYTES:
            raise InvalidArgument(f"the body is longer than {MAX_BODY_BYTES} bytes")
    return bytes(chunks)


def _read_message(found: routes.Match, request: Request, body: bytes) -> Model:
    query = parse_qs(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    try:
        message: Model = found.route.read_request(found.path, query, body)
    except WireError as error:
        raise InvalidArgument(str(error)) from None
    return message


def _authorize(caller: Caller, route: Route[Any, Any], message: Model) -> None:
    """Raises PermissionDenied for what the caller's roles do not cover."""
    if caller.is_cluster_admin or route.operation in FOR_ANY_TOKEN:
        return
    if route.operation in FOR_CLUSTER_ADMINS:
        raise PermissionDenied(f"{route.operation} needs the role system:cluster-admin")
    project = getattr(message, "project", "")
    if not project:
        raise PermissionDenied(f"{route.operation} over all projects needs a system role")
    allowed = caller.may_read(project) if route.method == "GET" else caller.may_write(project)
    if not allowed:
        raise PermissionDenied(f"the token's roles do not allow {route.operation} in {project}")


def _uuid(field: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(f"{field} {text[:64]!r} is not a UUID") from None


def _optional_uuid(field: str, text: str) -> UUID | None:
    return _uuid(field, text) if text else None


def _uuid_or_name(uuid: str, name: str, field: str = "UUID") -> UUID | str:
    """What names an object: the UUID, or the name where that is empty."""
    if uuid:
        return _uuid(field, uuid)
    if not name:
        raise InvalidArgument(f"{field} and name are both empty")
    return name


def _checked(message: R) -> R:
    """The message, if it keeps the limits of the contract."""
    if violations := message.violations():
        raise InvalidArgument("; ".join(violations))
    return message


def _page(limit: int) -> int:
    if limit < 0:
        raise InvalidArgument(f"limit {limit} is negative")
    return min(limit or models.MAX_LIST_LIMIT, models.MAX_LIST_LIMIT)


def _no_qos_policy(uuid: str | None, name: str | None) -> None:
    # 404 would say that the volume does not exist.
    if policy := uuid or name:
        raise InvalidArgument(f"QoS policy {policy} does not exist: this lab has no QoS policies")


class Operations:
    """What each operation does: a method per operation, named as in the route table."""

    def __init__(self, description: Description) -> None:
        self._describe = description
        self._cluster: Cluster = description.cluster
        self._run: dict[str, Callable[[Any, str | None], Model]] = {
            "GetVersion": lambda _message, _etag: description.version(),
            "GetCluster": lambda _message, _etag: description.whole_cluster(),
            "GetClusterInfo": lambda _message, _etag: description.cluster_info(),
            "ListNodes": self._list_nodes,
            "GetNode": self._get_node,
            "StartNodeInstance": self._start_node,
            "StopNodeInstance": self._stop_node,
            "RestartNodeInstance": self._restart_node,
            "CreateVolume": self._create_volume,
            "ListVolumes": self._list_volumes,
            "GetVolume": self._get_volume,
            "UpdateVolume": self._update_volume,
            "DeleteVolume": self._delete_volume,
            "RollbackVolume": self._roll_back_volume,
            "CreateSnapshot": self._create_snapshot,
            "ListSnapshots": self._list_snapshots,
            "GetSnapshot": self._get_snapshot,
            "DeleteSnapshot": self._delete_snapshot,
        }

    def run(self, route: Route[Any, Any], message: Model, if_match: str | None) -> Model:
        """Do it. What is due by now is done first, so a reply is never behind the clock."""
        self._cluster.advance()
        return self._run[route.operation](message, if_match)

    def _list_nodes(self, message: models.ListNodes, _if_match: str | None) -> Model:
        def wanted(node: NodeRecord) -> bool:
            return (
                message.name in ("", node.name)
                and message.uuid in ("", str(node.uuid))
                and message.failure_domain in ("", node.name)
            )

        nodes = filter(wanted, self._cluster.nodes.values())
        return models.NodeList(nodes=tuple(map(self._describe.node, nodes)))

    def _get_node(self, message: models.GetNode, _if_match: str | None) -> Model:
        return self._describe.node(self._cluster.find_node(_uuid("UUID", message.uuid)))

    def _start_node(self, message: models.StartNode, _if_match: str | None) -> Model:
        self._cluster.start_node(_uuid("nodeUUID", message.node_uuid))
        return models.NodeStarted()

    def _stop_node(self, message: models.StopNode, _if_match: str | None) -> Model:
        self._cluster.stop_node(_uuid("nodeUUID", message.node_uuid))
        return models.NodeStopped()

    def _restart_node(self, message: models.RestartNode, _if_match: str | None) -> Model:
        uuid = _uuid("nodeUUID", message.node_uuid)
        self._cluster.stop_node(uuid)
        self._cluster.start_node(uuid)
        return models.NodeRestarted()

    def _create_volume(self, message: models.CreateVolume, _if_match: str | None) -> Model:
        _checked(message)
        _no_qos_policy(message.qos_policy_uuid, message.qos_policy_name)
        source: UUID | str | None = None
        if message.source_snapshot_uuid or message.source_snapshot_name:
            source = _uuid_or_name(
                message.source_snapshot_uuid, message.source_snapshot_name, "sourceSnapshotUUID"
            )
        volume = self._cluster.create_volume(
            message.project,
            name=message.name,
            size_bytes=message.size_bytes or 0,
            replica_count=message.replica_count,
            acl=message.acl,
            ip_acl=message.ip_acl or (models.ALLOW_ANY,),
            compression=message.compression,
            sector_size_bytes=int(message.sector_size) or DEFAULT_SECTOR_BYTES,
            source_snapshot=source,
            labels=[(label.key, label.value) for label in message.labels],
        )
        return self._describe.volume(volume)

    def _list_volumes(self, message: models.ListVolumes, _if_match: str | None) -> Model:
        volumes = self._cluster.list_volumes(
            message.project or None,
            limit=_page(message.limit),
            offset=_optional_uuid("offsetUUID", message.offset_uuid),
            show_all=message.show_all,
            name=message.name or None,
            uuid=_optional_uuid("UUID", message.uuid),
            source_snapshot_uuid=_optional_uuid("snapshotUUID", message.snapshot_uuid),
        )
        return models.VolumeList(volumes=tuple(map(self._describe.volume, volumes)))

    def _get_volume(self, message: models.GetVolume, _if_match: str | None) -> Model:
        key = _uuid_or_name(message.uuid, message.name)
        return self._describe.volume(self._cluster.find_volume(message.project or None, key))

    def _update_volume(self, message: models.UpdateVolume, if_match: str | None) -> Model:
        key = _uuid_or_name(message.uuid, message.name)
        for violation in message.violations():
            if violation != "UUID is required":  # a name does as well
                raise InvalidArgument(violation)
        _no_qos_policy(message.qos_policy_uuid, message.qos_policy_name)
        self._cluster.update_volume(
            message.project,
            key,
            if_match=if_match,
            size_bytes=message.size_bytes,
            force=message.force,
            acl=message.acl,
            ip_acl=message.ip_acl,
            compression=message.compression,
            labels=[(label.key, label.value) for label in message.labels] or None,
            new_name=message.new_name or None,
        )
        return models.VolumeUpdated()

    def _delete_volume(self, message: models.DeleteVolume, if_match: str | None) -> Model:
        key = _uuid_or_name(message.uuid, message.name)
        self._cluster.delete_volume(message.project or None, key, if_match=if_match)
        return models.VolumeDeleted()

    def _roll_back_volume(self, message: models.RollbackVolume, _if_match: str | None) -> Model:
        self._cluster.roll_back_volume(
            message.project,
            _uuid_or_name(message.uuid, message.name),
            snapshot=_uuid_or_name(
                message.source_snapshot_uuid, message.source_snapshot_name, "srcSnapshotUUID"
            ),
        )
        return models.VolumeRolledBack()

    def _create_snapshot(self, message: models.CreateSnapshot, _if_match: str | None) -> Model:
        _checked(message)
        kept = message.retention_time
        snapshot = self._cluster.create_snapshot(
            message.project,
            name=message.name,
            source_volume=_uuid_or_name(
                message.source_volume_uuid, message.source_volume_name, "sourceVolumeUUID"
            ),
            description=message.description,
            retention_seconds=None if kept is None else kept.total_seconds(),
        )
        return self._describe.snapshot(snapshot)

    def _list_snapshots(self, message: models.ListSnapshots, _if_match: str | None) -> Model:
        snapshots = self._cluster.list_snapshots(
            message.project,
            limit=_page(message.limit),
            offset=_optional_uuid("offsetUUID", message.offset_uuid),
            show_all=message.show_all,
            name=message.name or None,
            uuid=_optional_uuid("UUID", message.uuid),
        )
        return models.SnapshotList(snapshots=tuple(map(self._describe.snapshot, snapshots)))

    def _get_snapshot(self, message: models.GetSnapshot, _if_match: str | None) -> Model:
        key = _uuid_or_name(message.uuid, message.name)
        return self._describe.snapshot(self._cluster.find_snapshot(message.project, key))

    def _delete_snapshot(self, message: models.DeleteSnapshot, if_match: str | None) -> Model:
        key = _uuid_or_name(message.uuid, message.name)
        self._cluster.delete_snapshot(message.project, key, if_match=if_match)
        return models.SnapshotDeleted()
