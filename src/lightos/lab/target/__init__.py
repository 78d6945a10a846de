# SPDX-License-Identifier: Apache-2.0
"""One node of the lab as hosts reach it over NVMe/TCP: I/O controllers and discovery.

throttles, traffic = Throttles(view), Traffic()  # one of each for all nodes
server = await serve_node(view, store, node, throttles, traffic, reserve=reserve)
...
await server.close()
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lightos.lab.controller.base import Controller
from lightos.lab.controller.port import Port
from lightos.lab.discovery_service import DiscoveryController
from lightos.lab.target.held_writes import HeldWrites
from lightos.lab.target.host_reservations import Reserve
from lightos.lab.target.io_controller import IoController
from lightos.lab.throttle import Throttles
from lightos.lab.traffic import Traffic
from lightos.lab.view import BlockStore, ClusterView, NodeView
from lightos.nvme_tcp.constants import DISCOVERY_NQN

__all__ = ["NodeServer", "serve_node"]


class NodeServer:
    """The listening sockets of one node, and every connection that came in by them."""

    def __init__(self, io: Port, discovery: Port, held_writes: HeldWrites) -> None:
        self.io = io
        self.discovery = discovery
        self._held_writes = held_writes

    def swallow(self) -> None:
        """Let the network lose the node's address; see `Port.swallow`."""
        self.discovery.swallow()
        self.io.swallow()

    def answer(self) -> None:
        """Undo `swallow`."""
        self.discovery.answer()
        self.io.answer()

    def freeze(self) -> None:
        """Let the node stand still; see `Port.freeze`."""
        self.discovery.freeze()
        self.io.freeze()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self.discovery.thaw()
        self.io.thaw()

    def hold_writes(self) -> None:
        """Let writes wait that come in from now on; see `HeldWrites`."""
        self._held_writes.hold()

    def release_writes(self) -> None:
        """Undo `hold_writes`: they are carried out, if they still may be."""
        self._held_writes.release()

    async def close(self) -> None:
        """Stop the node: hosts see every connection drop at once, and no new one is taken."""
        self._held_writes.drop()
        await self.discovery.close()
        await self.io.close()


async def serve_node(
    view: ClusterView,
    store: BlockStore,
    node: NodeView,
    throttles: Throttles,
    traffic: Traffic,
    *,
    reserve: Reserve,
    watch: Callable[[Controller, bool], None] = lambda _controller, _connected: None,
) -> NodeServer:
    """Serve `node` on its own address, at the view's ports, until `close`.

    `throttles` are those of the cluster: volumes keep their limits whatever node serves them.
    `traffic` counts what hosts read and write. `reserve` carries out their reservation commands.
    `watch` is told of their I/O controllers, as they come (True) and go (False).

    Raises OSError, naming address, port and cause, if a port cannot be had; then neither
    is served.
    """
    held_writes = HeldWrites(node.name, traffic)
    io = Port(
        subsystem_nqn=view.subsystem_nqn,
        first_controller_id=node.controller_id_base,
        host_may_connect=view.host_may_connect,
        make_controller=partial(
            IoController,
            view,
            store,
            node,
            throttles,
            traffic,
            reserve=reserve,
            held_writes=held_writes,
        ),
        watch=watch,
    )
    discovery = Port(
        subsystem_nqn=DISCOVERY_NQN,
        first_controller_id=node.controller_id_base,
        host_may_connect=lambda _host_nqn, _host_address: True,
        make_controller=partial(DiscoveryController, view, node),
    )
    await io.listen(node.address, view.nvme_port)
    try:
        await discovery.listen(node.address, view.discovery_port)
    except OSError:
        await io.close()
        raise
    return NodeServer(io, discovery, held_writes)
