# SPDX-License-Identifier: Apache-2.0
"""The management API v2 as an ASGI application: routes and messages come from `lightos.api`.

Replies are those of a grpc-gateway v1.16: 200 with a message, an error body `{error, code,
message}` with the HTTP status of its gRPC code, and 404 or 405 in plain text for what no route
takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from lightos.api import models, openapi, routes
from lightos.api.errors import HTTP_STATUS
from lightos.api.routes import NoRoute, Route, WrongMethod
from lightos.api.wire import Model, WireError
from lightos.lab.auth import Caller
from lightos.lab.changes import ChangeQueue
from lightos.lab.describe import Description
from lightos.lab.errors import ClusterError, InvalidArgument, PermissionDenied
from lightos.lab.operations import Operations

OPENAPI_PATH = "/api/v2/openapi.json"
MAX_BODY_BYTES = 1 << 20

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

    def __init__(
        self, description: Description, changes: ChangeQueue, authenticate: Authenticate
    ) -> None:
        self._operations = Operations(description, changes)
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
            reply = await self._operations.run(
                found.route, message, request.headers.get("if-match")
            )
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
