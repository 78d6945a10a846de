# SPDX-License-Identifier: Apache-2.0
"""The management API over the lab's control socket, for whoever owns its state folder."""

from __future__ import annotations

import http.client
import json
import socket
from types import TracebackType
from typing import Any, Self, TypeVar

from lightos.api import routes
from lightos.api.models.cluster import Cluster, GetCluster
from lightos.api.models.nodes import ListNodes, Node, StartNode, StopNode
from lightos.api.models.projects import ListProjects
from lightos.api.routes import Route
from lightos.api.wire import Model
from lightos.lab.errors import LabError
from lightos.lab.state_folder import StateFolder

TIMEOUT_SECONDS = 30.0

Q = TypeVar("Q", bound=Model)
A = TypeVar("A", bound=Model)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, folder: StateFolder) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._folder = folder

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        with self._folder.control_address() as path:
            self.sock.connect(path)


class ControlClient:
    """Calls a running lab as its administrator, without TLS and token."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._connection = _UnixConnection(folder)

    def call(self, route: Route[Q, A], request: Q) -> A:
        """Make one call. LabError when the lab does not answer or refuses."""
        return route.reply.from_wire(
            self._exchange(route.method, route.address(request), route.body(request))
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Make a call of the lab's own API, `path` being what follows `/lab/v1/`.

        LabError as `call`.
        """
        return self._exchange(method, f"/lab/v1/{path}", body)

    def _exchange(self, method: str, path: str, body: Any) -> Any:
        try:
            self._connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Content-Type": "application/json"},
            )
            response = self._connection.getresponse()
            content: Any = json.loads(response.read())
        except PermissionError:
            raise LabError(
                f"the lab on {self._folder.path} is another user's: run this as that user or root"
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as cause:
            self._connection.close()
            raise LabError(
                f"the lab on {self._folder.path} does not answer ({cause}); see {self._folder.log}"
            ) from cause
        if response.status != http.client.OK:
            raise LabError(str(content.get("message", content)))
        return content

    def nodes(self) -> tuple[Node, ...]:
        return self.call(routes.LIST_NODES, ListNodes()).nodes

    def node_named(self, name: str) -> Node:
        """LabError for a name that no node has; it lists those there are."""
        nodes = self.nodes()
        for node in nodes:
            if node.name == name:
                return node
        raise LabError(f"there is no node {name}; nodes are {', '.join(n.name for n in nodes)}")

    def projects(self) -> tuple[str, ...]:
        """The names of all projects."""
        listed = self.call(routes.LIST_PROJECTS, ListProjects()).projects
        return tuple(project.name for project in listed)

    def cluster(self) -> Cluster:
        return self.call(routes.GET_CLUSTER, GetCluster())

    def stop_node(self, uuid: str) -> None:
        self.call(routes.STOP_NODE, StopNode(node_uuid=uuid))

    def start_node(self, uuid: str) -> None:
        self.call(routes.START_NODE, StartNode(node_uuid=uuid))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
