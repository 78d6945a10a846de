# SPDX-License-Identifier: Apache-2.0
"""Discovery services of a lab cluster on loopback, on the event loop of the test itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from lightos.discovery.desired import Endpoint
from lightos.lab.store import ThinStore
from lightos.lab.target import NodeServer, serve_node
from lightos.lab.throttle import Throttles
from lightos.lab.traffic import Traffic
from lightos.lab.view import NodeView
from tests.unit.target.cluster import LiteralCluster


class ServedCluster:
    """Nodes on 127.0.0.11, .12, ... of which any can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self._store = ThinStore(folder)
        self._servers: dict[str, NodeServer] = {}
        ports = _free_ports(2)
        self.view = LiteralCluster([], nvme_port=ports[0], discovery_port=ports[1])
        self._throttles = Throttles(self.view)

    def service(self, number: int) -> Endpoint:
        return Endpoint(f"127.0.0.{10 + number}", self.view.discovery_port)

    async def start(self, number: int) -> None:
        node = NodeView(UUID(int=number), f"node{number}", f"127.0.0.{10 + number}", number * 4096)
        self._servers[node.name] = await serve_node(
            self.view,
            self._store,
            node,
            self._throttles,
            Traffic(),
            reserve=self.view.reserve,
        )
        self.view.nodes = [*self.view.nodes, node]
        self.view.changed(nodes=True)

    async def stop(self, number: int) -> None:
        name = f"node{number}"
        await self._servers.pop(name).close()
        self.view.nodes = [node for node in self.view.nodes if node.name != name]
        self.view.changed(nodes=True)

    async def lose_every_node(self) -> None:
        """All at once, so that nobody is left to tell hosts of it."""
        for server in self._servers.values():
            await server.close()
        self._servers.clear()
        self.view.nodes = []

    async def close(self) -> None:
        await self.lose_every_node()
        self._store.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.11", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.asynccontextmanager
async def serving(folder: Path, nodes: int = 3) -> AsyncIterator[ServedCluster]:
    """A cluster of that many nodes, and no longer than a test may take."""
    cluster = ServedCluster(folder)
    try:
        async with asyncio.timeout(30):
            for number in range(1, nodes + 1):
                await cluster.start(number)
            yield cluster
    finally:
        await cluster.close()


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder
