# SPDX-License-Identifier: Apache-2.0
"""The operations of the management API v2: one table, read by the client and by servers.

A route's request message is spread as grpc-gateway does it: fields named in the path travel
there, the others in the query (GET, DELETE) or in the JSON body (POST, PUT); the path wins.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from lightos.api.models.cluster import Cluster, ClusterInfo, GetCluster, GetVersion, Version
from lightos.api.models.credentials import (
    CreateCredential,
    Credential,
    CredentialDeleted,
    CredentialList,
    DeleteCredential,
    GetCredential,
    ListCredentials,
)
from lightos.api.models.events import EventList, ListEvents
from lightos.api.models.hosts import ConnectedHost, ConnectedHostList, GetHost, ListHosts
from lightos.api.models.nodes import (
    GetNode,
    ListNodes,
    Node,
    NodeList,
    NodeRestarted,
    NodeStarted,
    NodeStopped,
    RestartNode,
    StartNode,
    StopNode,
)
from lightos.api.models.policies import (
    CreatePolicy,
    DeletePolicy,
    GetPolicy,
    ListPolicies,
    Policy,
    PolicyDeleted,
    PolicyList,
    PolicyUpdated,
    UpdatePolicy,
)
from lightos.api.models.projects import (
    CreateProject,
    DeleteProject,
    GetProject,
    ListProjects,
    Project,
    ProjectDeleted,
    ProjectList,
    ProjectUpdated,
    UpdateProject,
)
from lightos.api.models.servers import GetServer, ListServers, Server, ServerList
from lightos.api.models.snapshots import (
    ChangedBlocks,
    CreateSnapshot,
    DeleteSnapshot,
    GetSnapshot,
    ListChangedBlocks,
    ListSnapshots,
    Snapshot,
    SnapshotDeleted,
    SnapshotList,
)
from lightos.api.models.volumes import (
    CreateVolume,
    DeleteVolume,
    GetVolume,
    ListVolumes,
    RollbackVolume,
    UpdateVolume,
    Volume,
    VolumeDeleted,
    VolumeList,
    VolumeRolledBack,
    VolumeUpdated,
)
from lightos.api.wire import Model, WireError

Request = TypeVar("Request", bound=Model)
Reply = TypeVar("Reply", bound=Model)

_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Route(Generic[Request, Reply]):
    """One binding of an operation to a method and a path.

    `errors` says what each documented HTTP status means. Success is always 200.
    """

    operation: str
    method: str
    path: str
    request: type[Request]
    reply: type[Reply]
    errors: Mapping[int, str] = field(default_factory=dict)
    if_match: bool = False
    binding: int = 1

    @property
    def operation_id(self) -> str:
        """Return a name that is unique among all bindings."""
        return self.operation if self.binding == 1 else f"{self.operation}_{self.binding}"

    @property
    def tag(self) -> str:
        """Return the kind of object that the path is about."""
        words = [word for word in self.path.split("/")[3:] if not _VARIABLE.fullmatch(word)]
        return words[1] if words[0] == "projects" and len(words) > 1 else words[0]

    @property
    def has_body(self) -> bool:
        """Whether the request travels in the body rather than in the query."""
        return self.method in ("POST", "PUT")

    @property
    def is_write(self) -> bool:
        """Whether the operation changes anything."""
        return self.method != "GET"

    @functools.cached_property
    def path_names(self) -> tuple[str, ...]:
        """The wire names of the fields in the path."""
        return tuple(_VARIABLE.findall(self.path))

    def address(self, request: Request) -> str:
        """Return the path for a request, percent-encoded.

        ValueError for a value that no path segment can carry.
        """
        values = request.to_wire()
        return _VARIABLE.sub(lambda name: _segment(name[1], values.get(name[1], "")), self.path)

    def query(self, request: Request) -> dict[str, str | list[str]]:
        """Return the query parameters for a request."""
        return {} if self.has_body else self._without_path(request.to_query())

    def body(self, request: Request) -> dict[str, Any] | None:
        """Return the JSON body for a request; None where the operation has none."""
        return self._without_path(request.to_wire()) if self.has_body else None

    def _without_path(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in self.path_names}

    def read_request(
        self,
        path: Mapping[str, str],
        query: Mapping[str, Sequence[str]],
        body: bytes,
    ) -> Request:
        """Read a request on the server's side; WireError says what is wrong with it."""
        if not self.has_body:
            return self.request.from_query({**query, **{name: [path[name]] for name in path}})
        try:
            data = json.loads(body) if body.strip() else {}
        except (ValueError, RecursionError) as cause:
            raise WireError(f"the body is not JSON: {cause}") from None
        if not isinstance(data, dict):
            raise WireError("the body is not a JSON object")
        return self.request.from_wire({**data, **path})


def _segment(name: str, value: str) -> str:
    if value in (".", ".."):
        raise ValueError(f"{name} {value!r} cannot be part of a path")
    return quote(value, safe="")


P = "/api/v2/projects/{projectName}"
A = "/api/v2"

_ACCESS = {401: "token missing or bad", 403: "role lacks this action"}
_FAULT = {500: "server fault"}
_USUAL = {**_ACCESS, **_FAULT}
_BAD_ARGUMENT = {400: "bad argument"}
_DELETE = {
    400: "bad id, or Deleting or Failed",
    409: "operation in progress",
    412: "ETag mismatch",
    503: "temporary state, retry",
}

GET_VERSION = Route("GetVersion", "GET", f"{A}/version", GetVersion, Version)
GET_CLUSTER = Route("GetCluster", "GET", f"{A}/cluster", GetCluster, Cluster, _USUAL)
GET_CLUSTER_INFO = Route(
    "GetClusterInfo", "GET", f"{A}/clusterinfo", GetCluster, ClusterInfo, _USUAL
)
LIST_NODES = Route(
    "ListNodes",
    "GET",
    f"{A}/nodes",
    ListNodes,
    NodeList,
    {**_USUAL, 400: "bad or conflicting filter"},
)
GET_NODE = Route(
    "GetNode",
    "GET",
    f"{A}/nodes/{{UUID}}",
    GetNode,
    Node,
    {**_USUAL, 404: "no such node"},
)
START_NODE = Route(
    "StartNodeInstance",
    "POST",
    f"{A}/nodes/{{nodeUUID}}/start",
    StartNode,
    NodeStarted,
)
STOP_NODE = Route("StopNodeInstance", "POST", f"{A}/nodes/{{nodeUUID}}/stop", StopNode, NodeStopped)
RESTART_NODE = Route(
    "RestartNodeInstance",
    "POST",
    f"{A}/nodes/{{nodeUUID}}/restart",
    RestartNode,
    NodeRestarted,
)

CREATE_VOLUME = Route(
    "CreateVolume",
    "POST",
    f"{P}/volumes",
    CreateVolume,
    Volume,
    {**_USUAL, 400: "bad name, size, replicas or ACL", 409: "name taken"},
)
LIST_VOLUMES = Route(
    "ListVolumes",
    "GET",
    f"{P}/volumes",
    ListVolumes,
    VolumeList,
    {**_USUAL, **_BAD_ARGUMENT},
)
GET_VOLUME = Route(
    "GetVolume",
    "GET",
    f"{P}/volumes/{{UUID}}",
    GetVolume,
    Volume,
    {**_USUAL, **_BAD_ARGUMENT, 404: "no such volume"},
)
UPDATE_VOLUME = Route(
    "UpdateVolume",
    "PUT",
    f"{P}/volumes/{{UUID}}",
    UpdateVolume,
    VolumeUpdated,
    {
        **_USUAL,
        **_DELETE,
        400: "bad argument, or Deleting or Failed",
        404: "no such volume",
        501: "size change unsupported",
    },
    if_match=True,
)
DELETE_VOLUME = Route(
    "DeleteVolume",
    "DELETE",
    f"{P}/volumes/{{UUID}}",
    DeleteVolume,
    VolumeDeleted,
    {**_USUAL, **_DELETE, 404: "no such volume"},
    if_match=True,
)
ROLLBACK_VOLUME = Route(
    "RollbackVolume",
    "PUT",
    f"{P}/volumes/{{UUID}}/rollback",
    RollbackVolume,
    VolumeRolledBack,
    {**_USUAL, **_BAD_ARGUMENT, 404: "no such volume or snapshot", 503: "volume is deleting"},
)


def _unscoped(route: Route[Request, Reply]) -> Route[Request, Reply]:
    """Return the second binding of an operation, with the project outside the path."""
    return Route(
        route.operation,
        route.method,
        route.path.replace(P, A),
        route.request,
        route.reply,
        route.errors,
        route.if_match,
        binding=2,
    )


LIST_ALL_VOLUMES = _unscoped(LIST_VOLUMES)

CREATE_SNAPSHOT = Route(
    "CreateSnapshot",
    "POST",
    f"{P}/snapshots",
    CreateSnapshot,
    Snapshot,
    {
        **_USUAL,
        400: "bad name or field",
        404: "no such source volume",
        409: "name taken",
        501: "feature unsupported",
    },
)
LIST_SNAPSHOTS = Route(
    "ListSnapshots",
    "GET",
    f"{P}/snapshots",
    ListSnapshots,
    SnapshotList,
    {**_USUAL, **_BAD_ARGUMENT},
)
GET_SNAPSHOT = Route(
    "GetSnapshot",
    "GET",
    f"{P}/snapshots/{{UUID}}",
    GetSnapshot,
    Snapshot,
    {**_USUAL, **_BAD_ARGUMENT, 404: "no such snapshot"},
)
DELETE_SNAPSHOT = Route(
    "DeleteSnapshot",
    "DELETE",
    f"{P}/snapshots/{{UUID}}",
    DeleteSnapshot,
    SnapshotDeleted,
    {**_FAULT, **_DELETE, 404: "no such snapshot"},
    if_match=True,
)

LIST_CHANGED_BLOCKS = Route(
    "ListChangedBlocks",
    "GET",
    f"{P}/snapshots/diff/{{snapshotUUID}}",
    ListChangedBlocks,
    ChangedBlocks,
    {
        **_USUAL,
        400: "unrelated snapshots or bad offset",
        404: "no such snapshot or project",
    },
)

_NO_POLICY = {404: "no such policy"}

CREATE_POLICY = Route(
    "CreatePolicy",
    "POST",
    f"{A}/policies",
    CreatePolicy,
    Policy,
    {**_FAULT, 400: "bad name or field", 404: "a listed project is unknown", 409: "name taken"},
)
LIST_POLICIES = Route(
    "ListPolicies",
    "GET",
    f"{A}/policies",
    ListPolicies,
    PolicyList,
    {**_FAULT, **_BAD_ARGUMENT, **_NO_POLICY},
)
GET_POLICY = Route(
    "GetPolicy",
    "GET",
    f"{A}/policies/{{UUID}}",
    GetPolicy,
    Policy,
    {**_FAULT, **_BAD_ARGUMENT, **_NO_POLICY},
)
UPDATE_POLICY = Route(
    "UpdatePolicy",
    "PUT",
    f"{A}/policies/{{UUID}}",
    UpdatePolicy,
    PolicyUpdated,
    {**_FAULT, 400: "bad, missing or conflicting field", **_NO_POLICY},
)
DELETE_POLICY = Route(
    "DeletePolicy",
    "DELETE",
    f"{A}/policies/{{UUID}}",
    DeletePolicy,
    PolicyDeleted,
    {**_FAULT, **_BAD_ARGUMENT, **_NO_POLICY},
)

CREATE_PROJECT = Route(
    "CreateProject",
    "POST",
    f"{A}/projects",
    CreateProject,
    Project,
    {**_USUAL, 400: "bad name or field", 409: "name taken"},
)
LIST_PROJECTS = Route(
    "ListProjects",
    "GET",
    f"{A}/projects",
    ListProjects,
    ProjectList,
    {**_USUAL, **_BAD_ARGUMENT},
)
GET_PROJECT = Route(
    "GetProject",
    "GET",
    P,
    GetProject,
    Project,
    {**_USUAL, **_BAD_ARGUMENT, 404: "no such project"},
)
UPDATE_PROJECT = Route(
    "UpdateProject",
    "PUT",
    P,
    UpdateProject,
    ProjectUpdated,
    {**_USUAL, 400: "required field missing"},
)
DELETE_PROJECT = Route(
    "DeleteProject",
    "DELETE",
    P,
    DeleteProject,
    ProjectDeleted,
    {
        **_USUAL,
        400: "bad name or undeletable",
        404: "no such project",
        412: "ETag mismatch",
    },
    if_match=True,
)

CREATE_CREDENTIAL = Route(
    "CreateCredential",
    "POST",
    f"{P}/credentials",
    CreateCredential,
    Credential,
    {**_USUAL, 400: "bad name or field", 409: "name taken"},
)
LIST_CREDENTIALS = Route(
    "ListCredentials",
    "GET",
    f"{P}/credentials",
    ListCredentials,
    CredentialList,
    {**_USUAL, **_BAD_ARGUMENT},
)
GET_CREDENTIAL = Route(
    "GetCredential",
    "GET",
    f"{P}/credentials/{{ID}}",
    GetCredential,
    Credential,
    {**_USUAL, **_BAD_ARGUMENT, 404: "no such credential"},
)
DELETE_CREDENTIAL = Route(
    "DeleteCredential",
    "DELETE",
    f"{P}/credentials/{{ID}}",
    DeleteCredential,
    CredentialDeleted,
    {
        **_USUAL,
        400: "bad name or undeletable",
        404: "no such credential",
        412: "ETag mismatch",
    },
    if_match=True,
)

LIST_SERVERS = Route("ListServers", "GET", f"{A}/servers", ListServers, ServerList, _USUAL)
GET_SERVER = Route(
    "GetServer",
    "GET",
    f"{A}/servers/{{UUID}}",
    GetServer,
    Server,
    {**_USUAL, 404: "no such server"},
)
LIST_HOSTS = Route(
    "ListHosts",
    "GET",
    f"{A}/connectedHosts",
    ListHosts,
    ConnectedHostList,
    {**_USUAL, **_BAD_ARGUMENT, 404: "no such volume"},
)
GET_HOST = Route(
    "GetHost",
    "GET",
    f"{A}/connectedHosts/{{hostNQN}}",
    GetHost,
    ConnectedHost,
    {**_USUAL, 404: "no such host"},
)
LIST_EVENTS = Route(
    "ListEvents",
    "GET",
    f"{P}/events",
    ListEvents,
    EventList,
    {**_USUAL, **_BAD_ARGUMENT, 404: "no such project", 501: "more than one filter given"},
)

ROUTES: tuple[Route[Any, Any], ...] = (
    GET_VERSION,
    GET_CLUSTER,
    GET_CLUSTER_INFO,
    LIST_NODES,
    GET_NODE,
    START_NODE,
    STOP_NODE,
    RESTART_NODE,
    CREATE_VOLUME,
    _unscoped(CREATE_VOLUME),
    LIST_VOLUMES,
    LIST_ALL_VOLUMES,
    GET_VOLUME,
    _unscoped(GET_VOLUME),
    UPDATE_VOLUME,
    _unscoped(UPDATE_VOLUME),
    DELETE_VOLUME,
    _unscoped(DELETE_VOLUME),
    ROLLBACK_VOLUME,
    CREATE_SNAPSHOT,
    LIST_SNAPSHOTS,
    GET_SNAPSHOT,
    DELETE_SNAPSHOT,
    LIST_CHANGED_BLOCKS,
    CREATE_POLICY,
    LIST_POLICIES,
    GET_POLICY,
    UPDATE_POLICY,
    DELETE_POLICY,
    CREATE_PROJECT,
    LIST_PROJECTS,
    GET_PROJECT,
    UPDATE_PROJECT,
    DELETE_PROJECT,
    CREATE_CREDENTIAL,
    LIST_CREDENTIALS,
    GET_CREDENTIAL,
    DELETE_CREDENTIAL,
    LIST_SERVERS,
    GET_SERVER,
    LIST_HOSTS,
    GET_HOST,
    LIST_EVENTS,
    _unscoped(LIST_EVENTS),
)


@dataclass(frozen=True)
class Match:
    """A route that a request line names, with the values of its path variables."""

    route: Route[Any, Any]
    path: Mapping[str, str]


class NoRoute(LookupError):
    """No operation has this path: a gateway answers 404 text/plain."""


class WrongMethod(LookupError):
    """The path exists with other methods, `allowed`: a gateway answers 405 text/plain."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self.allowed = allowed
        super().__init__(f"the path takes {', '.join(sorted(allowed))}")


def match(method: str, path: str) -> Match:
    """Find the operation of a request line; `path` is percent-decoded, without the query.

    As in grpc-gateway v1, a variable at the end may be empty (`.../volumes/?name=X` is
    GetVolume), and a last segment with a colon never matches. NoRoute, WrongMethod.
    """
    segments = path.split("/")
    if ":" in segments[-1]:
        raise NoRoute(path)
    found = {
        route.method: Match(route, values)
        for route in _by_length().get(len(segments), ())
        if (values := _values(route.path, segments)) is not None
    }
    if not found:
        raise NoRoute(path)
    if method not in found:
        raise WrongMethod(frozenset(found))
    return found[method]


@functools.cache
def _by_length() -> Mapping[int, list[Route[Any, Any]]]:
    table: dict[int, list[Route[Any, Any]]] = {}
    for route in ROUTES:
        table.setdefault(route.path.count("/") + 1, []).append(route)
    return MappingProxyType(table)


def _values(template: str, segments: Sequence[str]) -> dict[str, str] | None:
    values = {}
    for index, (expected, given) in enumerate(zip(template.split("/"), segments, strict=True)):
        if variable := _VARIABLE.fullmatch(expected):
            if not given and index != len(segments) - 1:
                return None
            values[variable[1]] = given
        elif expected != given:
            return None
    return values
