# SPDX-License-Identifier: Apache-2.0
"""The discovery service of one node (Base, "Discovery Subsystem").

Every node lists the same: each serving node's I/O controller, itself, and the discovery
services of the others as referrals. A host that holds a connection open is told of
changes.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Mapping
from typing import ClassVar

from lightos.lab.controller.base import Controller, Handler, LogHandler
from lightos.lab.view import ClusterChange, ClusterView, NodeView
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import (
    DISCOVERY_NQN,
    DYNAMIC_CONTROLLER_ID,
    AddressFamily,
    AsyncEvent,
    ControllerType,
    LogPage,
    SubsystemType,
)
from lightos.nvme_tcp.structures import (
    ConnectData,
    DiscoveryEntry,
    DiscoveryLog,
    IdentifyController,
)

ADMIN_QUEUE_ENTRIES = 32
_SQ_FLOW_CONTROL_OPTIONAL = 1 << 2


class DiscoveryController(Controller):
    """A host's connection to the discovery service: one admin queue, no namespaces."""

    kind = ControllerType.DISCOVERY
    async_events = (AsyncEvent.DISCOVERY_LOG_CHANGE,)
    idle_timeout_ms = 120_000
    """A connection without keep alive timeout is not meant to stay (Base, "Keep Alive")."""

    def __init__(
        self,
        view: ClusterView,
        node: NodeView,
        *,
        controller_id: int,
        connect: ConnectData,
        host_address: str,
        keep_alive_ms: int,
        ended: Callable[[int], None],
    ) -> None:
        super().__init__(
            controller_id=controller_id,
            connect=connect,
            host_address=host_address,
            keep_alive_ms=keep_alive_ms,
            ended=ended,
        )
        self._view = view
        self._node = node
        self._unsubscribe = view.subscribe(self._cluster_changed)

    def close(self) -> None:
        self._unsubscribe()
        super().close()

    def _cluster_changed(self, change: ClusterChange) -> None:
        if change.nodes:
            self.events.notify(AsyncEvent.DISCOVERY_LOG_CHANGE)

    def identity(self) -> IdentifyController:
        return dataclasses.replace(
            super().identity(),
            serial_number=self._view.serial_number,
            submission_entry_size=0,  # there are no I/O queues
            completion_entry_size=0,
            optional_fabrics_commands=0,
            firmware_updates=0,
            log_page_attributes=0b100,  # offsets in Get Log Page
        )

    def _discovery_log(self, _command: Command) -> bytes:
        return discovery_log(self._view, self._node).encode()

    io_commands: ClassVar[Mapping[int, Handler]] = {}
    log_pages: ClassVar[Mapping[int, LogHandler]] = {
        LogPage.SUPPORTED: Controller.log_pages[LogPage.SUPPORTED],
        LogPage.ERROR_INFORMATION: Controller.log_pages[LogPage.ERROR_INFORMATION],
        LogPage.DISCOVERY: _discovery_log,
    }


def discovery_log(view: ClusterView, answering: NodeView) -> DiscoveryLog:
    """What the discovery service of `answering` lists now."""
    nodes = view.serving_nodes()
    paths = [
        dataclasses.replace(
            _entry(node, number, view.nvme_port),
            subsystem_type=SubsystemType.NVM,
            subsystem_nqn=view.subsystem_nqn,
        )
        for number, node in enumerate(nodes)
    ]
    services = [
        dataclasses.replace(
            _entry(node, number, view.discovery_port),
            subsystem_type=SubsystemType.CURRENT_DISCOVERY
            if node.uuid == answering.uuid
            else SubsystemType.REFERRAL,
            subsystem_nqn=DISCOVERY_NQN,
            # All services say the same, so a host need not ask them all.
            flags=DiscoveryEntry.DUPLICATE_INFORMATION | DiscoveryEntry.EXPLICIT_PERSISTENT,
        )
        for number, node in enumerate(nodes)
    ]
    return DiscoveryLog(view.discovery_generation, tuple(paths + services))


def _entry(node: NodeView, port_id: int, port: int) -> DiscoveryEntry:
    is_ipv4 = ipaddress.ip_address(node.address.partition("%")[0]).version == 4
    return DiscoveryEntry(
        address_family=AddressFamily.IPV4 if is_ipv4 else AddressFamily.IPV6,
        requirements=_SQ_FLOW_CONTROL_OPTIONAL,
        port_id=port_id,
        controller_id=DYNAMIC_CONTROLLER_ID,
        admin_queue_size=ADMIN_QUEUE_ENTRIES,
        service_id=str(port),
        address=node.address,
    )
