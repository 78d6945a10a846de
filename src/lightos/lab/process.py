# SPDX-License-Identifier: Apache-2.0
"""The lab as one process: the cluster, its blocks on disk, and the services of every node."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import shutil
import signal
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from lightos.lab.auth import LOCAL_ADMINISTRATOR
from lightos.lab.certificates import CertificateFiles, bad_certificate, ensure_certificates
from lightos.lab.changes import ChangeQueue
from lightos.lab.cluster import Cluster
from lightos.lab.connected_hosts import ConnectedHosts
from lightos.lab.database import Database
from lightos.lab.describe import Description
from lightos.lab.errors import LabError
from lightos.lab.event_log import Chronicle, EventLog
from lightos.lab.faults.calls import Faults
from lightos.lab.faults.rules import CertificateFault
from lightos.lab.founding import found_cluster
from lightos.lab.lab_api import LabApi
from lightos.lab.listeners import HttpServer, check_tcp_port, control_listener, tcp_listener
from lightos.lab.membership import Membership
from lightos.lab.metrics import LabFigures
from lightos.lab.names import SYSTEM
from lightos.lab.node_services import NodeServices, Service
from lightos.lab.page.overview import Overview
from lightos.lab.page.server import PageServer, page_key
from lightos.lab.records import ClusterRecord
from lightos.lab.reservations.rules import Host, ReservationCommand
from lightos.lab.reset import Reset
from lightos.lab.rest import ManagementApi
from lightos.lab.state_folder import StateFolder
from lightos.lab.store import ThinStore
from lightos.lab.target import NodeServer, serve_node
from lightos.lab.throttle import Throttles
from lightos.lab.tokens import Tokens, token_file
from lightos.lab.traffic import Traffic
from lightos.lab.view import NodeView

LOG = logging.getLogger(__name__)

PAGE_ADDRESS = "127.0.0.1"
PAGE_PORT = 4480


@dataclass(frozen=True)
class LabOptions:
    """What `lightos lab up` was given; None keeps what the state folder says."""

    folder: StateFolder
    node_count: int | None
    addresses: tuple[str, ...] | None
    projects: tuple[str, ...]
    api_port: int
    discovery_port: int
    nvme_port: int
    transition_seconds: float
    failback_seconds: float
    allow_public_addresses: bool = False
    memory_only: bool = False
    page_port: int | None = None
    """None: any that is free, `PAGE_PORT` before others."""


def now() -> datetime:
    return datetime.now(UTC)


def _allow_descriptors() -> None:
    """As many as the machine lets us have: each connection of a host takes one.

    The soft limit is for programs that use select(2); with it, a host that only opens connections
    would keep the lab from its own files.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run_lab(options: LabOptions, ready: Callable[[dict[str, Any]], None]) -> None:
    """Run until SIGTERM or SIGINT; `ready` gets the content of lab.json once all serves.

    Raises LabError, Internal or OSError when the lab cannot start; nothing is lost then.
    """
    folder = options.folder
    _allow_descriptors()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(folder.opened(memory_only=options.memory_only))
        cluster, store = _open_state(options, stack)
        addresses = [node.address for node in cluster.nodes.values()]
        folder.tls.mkdir(mode=0o755, exist_ok=True)
        tls = ensure_certificates(folder.tls, addresses, now())
        tokens = Tokens(folder.tokens, cluster.projects, cluster.tenants.credentials, now)
        traffic = Traffic()
        events = EventLog(now)
        changes = ChangeQueue(Chronicle(cluster, events, traffic))
        stack.push_async_callback(changes.close)
        node_servers: dict[UUID, NodeServer] = {}
        description = Description(
            cluster,
            store,
            ConnectedHosts(cluster.nodes, node_servers),
            events,
            traffic,
            api_port=options.api_port,
            free_bytes=lambda: shutil.disk_usage(folder.path).free,
            public_key_pem=lambda: tokens.authenticator.public_key_pem,
        )
        faults = Faults(cluster, changes, tokens)

        async def follow() -> None:
            await nodes.follow()
            folder.publish(_lab_json(options, cluster, tls, page_address))

        membership = Membership(
            cluster,
            changes,
            allow_public_addresses=options.allow_public_addresses,
            prepare=lambda address: _check_ports(address, options),
            prove=lambda addresses: ensure_certificates(folder.tls, addresses, now()),
            follow=follow,
        )
        overview = Overview(description, faults, time.monotonic)
        reset = Reset(cluster, changes, faults, tokens)
        lab_api = LabApi(
            faults,
            membership,
            tokens,
            traffic,
            overview=overview,
            figures=partial(LabFigures.of, description, faults),
            events=events,
            reset=reset,
        )
        authenticate = tokens.authenticator.authenticate
        api = ManagementApi(
            description, changes, authenticate, lab_api, faults=faults, traffic=traffic
        )
        starter = _NodeStarter(
            options,
            cluster,
            changes,
            store,
            api,
            traffic,
            events,
            tls,
            Throttles(cluster),
            node_servers,
        )
        nodes = NodeServices(cluster, changes, starter.start, faults.at_address)
        faults.addresses_changed = nodes.follow
        stack.push_async_callback(nodes.close)
        await nodes.start()
        control = ManagementApi(description, changes, lambda _header: LOCAL_ADMINISTRATOR, lab_api)
        server = await HttpServer.start(control, control_listener(folder))
        stack.push_async_callback(server.close)
        page_address = await _serve_page(options, control, stack)
        published = _lab_json(options, cluster, tls, page_address)
        stack.callback(folder.clear)
        stack.push_async_callback(faults.clear)  # what waits, or is refused, ends in order
        folder.publish(published)
        LOG.info("ready: %d nodes, subsystem %s", len(cluster.nodes), cluster.subsystem_nqn)
        ready(published)
        await stop.wait()
        LOG.info("stopping")


@dataclass(frozen=True)
class _NodeStarter:
    """What the services of any node are made of."""

    options: LabOptions
    cluster: Cluster
    changes: ChangeQueue
    store: ThinStore
    api: ManagementApi
    traffic: Traffic
    events: EventLog
    tls: CertificateFiles
    throttles: Throttles
    running: dict[UUID, NodeServer]

    async def start(
        self, node: NodeView, fault: CertificateFault | None, opened: contextlib.AsyncExitStack
    ) -> list[Service]:
        """Start the services of a node, with a bad certificate if so asked."""
        _check_nvme_ports(node.address, self.options)
        listener = tcp_listener(node.address, self.options.api_port, "--api-port")
        with tempfile.TemporaryDirectory() as directory:
            files = self.tls
            if fault is not None:
                files = bad_certificate(files, fault, node.address, Path(directory), now())
            api = await HttpServer.start(self.api, listener, files, self.traffic.note_connection)
        opened.push_async_callback(api.close)
        services = await serve_node(
            self.cluster,
            self.store,
            node,
            self.throttles,
            self.traffic,
            reserve=self._reserve,
            watch=partial(self.events.note_controller, node),
        )
        opened.push_async_callback(services.close)
        self.running[node.uuid] = services
        opened.callback(self.running.pop, node.uuid)
        return [api, services]

    async def _reserve(self, volume_uuid: UUID, host: Host, command: ReservationCommand) -> None:
        await self.changes.carry_out(self.cluster.reservations.reserve, volume_uuid, host, command)


def _open_state(options: LabOptions, stack: contextlib.AsyncExitStack) -> tuple[Cluster, ThinStore]:
    database = Database(options.folder.database)
    stack.callback(database.close)
    if options.folder.blocks.exists() and not database.load(ClusterRecord):
        # A new cluster would free these blocks, since nothing in its metadata names them.
        raise LabError(
            f"{options.folder.database} names no cluster, yet {options.folder.blocks} is there: "
            "restore that file or choose another --state-dir"
        )
    found_cluster(
        database,
        node_count=options.node_count,
        addresses=options.addresses,
        projects=options.projects,
        check_address=lambda address: _check_ports(address, options),
    )
    try:
        store = ThinStore(options.folder.blocks)
    except sqlite3.Error as cause:
        raise LabError(
            f"{options.folder.blocks} is damaged: {cause}; restore it or choose another --state-dir"
        ) from cause
    stack.callback(store.close)
    cluster = Cluster(
        database,
        store,
        monotonic=time.monotonic,
        now=now,
        transition_seconds=options.transition_seconds,
        failback_seconds=options.failback_seconds,
        nvme_port=options.nvme_port,
        discovery_port=options.discovery_port,
    )
    return cluster, store


def _check_ports(address: str, options: LabOptions) -> None:
    _check_nvme_ports(address, options)
    check_tcp_port(address, options.api_port, "--api-port")


def _check_nvme_ports(address: str, options: LabOptions) -> None:
    check_tcp_port(address, options.discovery_port, "--discovery-port")
    check_tcp_port(address, options.nvme_port, "--nvme-port")


async def _serve_page(
    options: LabOptions, control: ManagementApi, stack: contextlib.AsyncExitStack
) -> str | None:
    """Serve the web page; its address, or None where loopback has no port for it.

    Raises LabError for a port that was asked for and cannot be had.
    """
    key = page_key(options.folder.page_key)
    try:
        listener = _page_listener(options.page_port)
    except LabError as cause:
        if options.page_port is not None:
            raise
        LOG.warning("there is no web page: %s", cause)
        return None
    port = listener.getsockname()[1]
    server = await HttpServer.start(PageServer(control, key, port), listener)
    stack.push_async_callback(server.close)
    return f"http://{PAGE_ADDRESS}:{port}/"


def _page_listener(wanted_port: int | None) -> socket.socket:
    if wanted_port is not None:
        return tcp_listener(PAGE_ADDRESS, wanted_port, "--page-port")
    try:
        return tcp_listener(PAGE_ADDRESS, PAGE_PORT, "--page-port")
    except LabError:
        return tcp_listener(PAGE_ADDRESS, 0, "--page-port")


def _lab_json(
    options: LabOptions, cluster: Cluster, tls: CertificateFiles, page_address: str | None
) -> dict[str, Any]:
    nodes = [
        {"uuid": str(node.uuid), "name": node.name, "address": node.address}
        for node in cluster.nodes.values()
    ]
    return {
        "api_addresses": [node["address"] for node in nodes],
        "api_port": options.api_port,
        "jwt_file": str(token_file(options.folder.tokens, SYSTEM)),
        "ca_file": str(tls.ca),
        "subsystem_nqn": cluster.subsystem_nqn,
        "discovery_port": options.discovery_port,
        "nvme_port": options.nvme_port,
        "page_address": page_address,
        "pid": os.getpid(),
        "nodes": nodes,
    }
