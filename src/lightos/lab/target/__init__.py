# SPDX-License-Identifier: Apache-2.0
"""One node of the lab as hosts reach it over NVMe/TCP: I/O controllers and discovery.

throttles, traffic = Throttles(view), Traffic()  # one of each for all nodes
server = await serve_node(view, store, node, throttles, traffic, reserve=reserve)
...
await server.close()
"""

from __future__ import annotations

from functools import partial

from lightos.lab.controller.port import Port
from lightos.lab.discovery_service import DiscoveryController
from lightos.lab.target.host_reservations import Reserve
from lightos.lab.target.io_controller import IoController
from lightos.lab.throttle import Throttles
from lightos.lab.traffic import Traffic
from lightos.lab.view import BlockStore, ClusterView, NodeView
from lightos.nvme_tcp.constants import DISCOVERY_NQN

__all__ = ["NodeServer", "serve_node"]


class NodeServer:
    """The listening sockets of one node, and every connection that came in by them."""

    def __init__(self, io: Port, discovery: Port) -> None:
        self.io = io
        self.discovery = discovery

    def swallow(self) -> None:
        """Let the network lose the node's address; see `Port.swallow`."""
        self.discovery.swallow()
        self.io.swallow()

    def answer(self) -> None:
        """Undo `swallow`."""
        self.discovery.answer()
        self.io.answer()

    async def close(self) -> None:
        """Stop the node: hosts see every connection drop at once, and no new one is taken."""
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
) -> NodeServer:
    """Serve `node` on its own address, at the view's ports, until `close`.

    `throttles` are those of the cluster: volumes keep their limits whatever node serves them.
    `traffic` counts what hosts read and write. `reserve` carries out their reservation commands.

    Raises OSError, naming address, port and cause, if a port cannot be had; then neither
    is served.
    """
    io = Port(
        subsystem_nqn=view.subsystem_nqn,
        first_controller_id=node.controller_id_base,
        host_may_connect=view.host_may_connect,
        make_controller=partial(
            IoController, view, store, node, throttles, traffic, reserve=reserve
        ),
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
    return NodeServer(io, discovery)
