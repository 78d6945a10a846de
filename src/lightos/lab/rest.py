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

from lightos.api import openapi, routes
from lightos.api.routes import NoRoute, Route, WrongMethod
from lightos.api.wire import Model, WireError
from lightos.lab.auth import Caller
from lightos.lab.changes import ChangeQueue, Changes
from lightos.lab.describe import Description
from lightos.lab.errors import ClusterError, InvalidArgument, PermissionDenied
from lightos.lab.faults.calls import Disconnection, Faults
from lightos.lab.lab_api import PREFIX as LAB_PREFIX
from lightos.lab.lab_api import LabApi
from lightos.lab.operations import Operations
from lightos.lab.replies import json_bytes, message_reply, refusal
from lightos.lab.traffic import NO_REPLY, Traffic

OPENAPI_PATH = "/api/v2/openapi.json"
MAX_BODY_BYTES = 1 << 20

FOR_EVERYONE = frozenset({"GetVersion"})
FOR_ANY_TOKEN = frozenset(
    {
        "GetClusterInfo",
        "ListNodes",
        "GetNode",
        "ListServers",
        "GetServer",
        "ListHosts",
        "GetHost",
        "ListPolicies",
        "GetPolicy",
        "ListProjects",
        "GetProject",
    }
)
"""Hosts, policies and projects show as much as the token's roles cover."""
FOR_CLUSTER_ADMINS = frozenset(
    {
        "GetCluster",
        "StartNodeInstance",
        "StopNodeInstance",
        "RestartNodeInstance",
        "CreatePolicy",
        "UpdatePolicy",
        "DeletePolicy",
        "CreateProject",
        "UpdateProject",
        "DeleteProject",
    }
)
"""All other operations belong to a project: its viewers may read, its admins may write."""

Authenticate = Callable[[str | None], Caller]
"""From the `Authorization` header to who calls; raises Unauthenticated."""


class ManagementApi:
    """The ASGI application of one cluster; every node serves the same one."""

    def __init__(
        self,
        description: Description,
        changes: ChangeQueue,
        authenticate: Authenticate,
        lab_api: LabApi,
        *,
        faults: Faults | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        """`faults` happen to the calls that come in here; None for a way in without faults.

        `traffic` counts those calls.
        """
        self._description = description
        self._operations = Operations(description, changes)
        self._authenticate = authenticate
        self._lab_api = lab_api
        self._faults = faults
        self._traffic = traffic or Traffic()
        self._openapi = json.dumps(openapi.document()).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClusterError as error:
            response = refusal(error)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = request.scope["path"]
        if path == OPENAPI_PATH and request.method == "GET":
            return json_bytes(200, self._openapi)
        try:
            found = routes.match(request.method, path)
        except NoRoute:
            if path.startswith(LAB_PREFIX):
                return await self._respond_for_lab(request)
            return PlainTextResponse("Not Found\n", 404)
        except WrongMethod as error:
            allow = {"Allow": ", ".join(sorted(error.allowed))}
            return PlainTextResponse("Method Not Allowed\n", 405, allow)
        operation = found.route.operation
        self._traffic.note_call(operation)
        try:
            response = await self._answer(found, request)
        except ClusterError as error:
            response = refusal(error)
        lost = isinstance(response, Disconnection)
        self._traffic.note_reply(operation, NO_REPLY if lost else str(response.status_code))
        return response

    async def _answer(self, found: routes.Match, request: Request) -> Response:
        caller = (
            None
            if found.route.operation in FOR_EVERYONE
            else self._authenticate(request.headers.get("authorization"))
        )
        message = _read_message(found, request, await _body(request))
        if caller is not None:
            _authorize(caller, found.route, message)
        if_match = request.headers.get("if-match")
        if self._faults is None or not self._faults.planned:
            return message_reply(await self._operations.run(found.route, message, if_match, caller))

        async def answer(changes: Changes) -> Response:
            operations = Operations(self._description, changes)
            return message_reply(await operations.run(found.route, message, if_match, caller))

        return await self._faults.answer(found.route, message, request, answer)

    async def _respond_for_lab(self, request: Request) -> Response:
        caller = self._authenticate(request.headers.get("authorization"))
        if not caller.is_cluster_admin:
            raise PermissionDenied(f"{LAB_PREFIX} needs the role system:cluster-admin")
        return await self._lab_api.respond(
            request.method, request.scope["path"], await _body(request)
        )


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
