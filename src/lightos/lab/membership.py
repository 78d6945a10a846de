# SPDX-License-Identifier: Apache-2.0
"""Nodes that join, leave and move while the cluster runs."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from lightos.lab.addresses import address_violation
from lightos.lab.changes import ChangeQueue
from lightos.lab.cluster import Cluster
from lightos.lab.errors import FailedPrecondition, InvalidArgument, LabError
from lightos.lab.records import NodeRecord


class Membership:
    """Changes the nodes of a running lab, and all that has to follow.

    `prepare` gets a new node's address and raises LabError where it cannot be had; `prove` gets
    all addresses that certificates must name; `follow` is awaited after each change.
    """

    def __init__(
        self,
        cluster: Cluster,
        changes: ChangeQueue,
        *,
        allow_public_addresses: bool,
        prepare: Callable[[str], None],
        prove: Callable[[Sequence[str]], object],
        follow: Callable[[], Awaitable[None]],
    ) -> None:
        self._cluster = cluster
        self._changes = changes
        self._allow_public_addresses = allow_public_addresses
        self._prepare = prepare
        self._prove = prove
        self._follow = follow

    def addresses(self) -> list[str]:
        return [node.address for node in self._cluster.nodes.values()]

    def to_json(self) -> list[dict[str, Any]]:
        return [self.describe(node) for node in self._cluster.nodes.values()]

    def describe(self, node: NodeRecord) -> dict[str, Any]:
        return {
            "uuid": str(node.uuid),
            "name": node.name,
            "address": node.address,
            "state": self._cluster.nodes.state_of(node).wire_name,
        }

    async def add(self, address: str) -> NodeRecord:
        """Have one more node, which serves after the transition time. Raises ClusterError."""
        address = self._usable(address)
        self._cluster.nodes.add(address)  # whether it may be, before certificates are made
        self._make_ready(address)
        change = await self._changes.carry_out(self._cluster.nodes.add, address)
        await self._follow()
        return change.put[0]

    async def remove(self, name: str) -> None:
        """Have a node less; others take over what it held. Raises ClusterError."""
        uuid = self._cluster.nodes.named(name).uuid
        await self._changes.carry_out(self._cluster.nodes.remove, uuid)
        await self._follow()

    async def move(self, name: str, address: str) -> NodeRecord:
        """Give a node another address; it serves there at once. Raises ClusterError."""
        address = self._usable(address)
        uuid = self._cluster.nodes.named(name).uuid
        if not self._cluster.nodes.move(uuid, address).put:
            return self._cluster.nodes[uuid]
        self._make_ready(address)
        change = await self._changes.carry_out(self._cluster.nodes.move, uuid, address)
        await self._follow()
        return change.put[0]

    def _usable(self, address: str) -> str:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            raise InvalidArgument(f"address {address[:64]!r} is not an IP address") from None
        if violation := address_violation(parsed, allow_public=self._allow_public_addresses):
            raise InvalidArgument(violation)
        return str(parsed)

    def _make_ready(self, address: str) -> None:
        try:
            self._prepare(address)
            self._prove([*self.addresses(), address])
        except LabError as cause:
            raise FailedPrecondition(str(cause)) from None
