# SPDX-License-Identifier: Apache-2.0
"""The lab as one process: the cluster, its blocks on disk, and the services of every node."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lightos.lab.auth import (
    ADMIN,
    CLUSTER_ADMIN,
    LOCAL_ADMINISTRATOR,
    SYSTEM,
    Authenticator,
    Authority,
)
from lightos.lab.certificates import CertificateFiles, ensure_certificates
from lightos.lab.changes import ChangeQueue
from lightos.lab.cluster import Cluster
from lightos.lab.database import Database
from lightos.lab.describe import Description
from lightos.lab.errors import LabError
from lightos.lab.faults.calls import CallFaults
from lightos.lab.files import write_secret
from lightos.lab.founding import found_cluster
from lightos.lab.lab_api import LabApi
from lightos.lab.listeners import HttpServer, check_tcp_port, control_listener, tcp_listener
from lightos.lab.nodes import NodeServices
from lightos.lab.records import ClusterRecord
from lightos.lab.rest import ManagementApi
from lightos.lab.state_folder import StateFolder
from lightos.lab.store import ThinStore
from lightos.lab.target import serve_node
from lightos.lab.view import NodeView

LOG = logging.getLogger(__name__)

TOKEN_LIFETIME = timedelta(days=365)


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


def now() -> datetime:
    return datetime.now(UTC)


async def run_lab(options: LabOptions, ready: Callable[[dict[str, Any]], None]) -> None:
    """Run until SIGTERM or SIGINT; `ready` gets the content of lab.json once all serves.

    Raises LabError, Internal or OSError when the lab cannot start; nothing is lost then.
    """
    folder = options.folder
    folder.make()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(folder.locked())
        folder.clear()
        cluster, store = _open_state(options, stack)
        addresses = [node.address for node in cluster.nodes.values()]
        folder.tls.mkdir(mode=0o755, exist_ok=True)
        tls = ensure_certificates(folder.tls, addresses, now())
        authority = _issue_tokens(folder, cluster)
        changes = ChangeQueue(cluster)
        stack.push_async_callback(changes.close)
        description = Description(
            cluster, store, options.api_port, lambda: shutil.disk_usage(folder.path).free
        )
        authenticator = Authenticator(authority.public_key, cluster.projects, now)
        faults = CallFaults(cluster, changes)
        lab_api = LabApi(faults, lambda: [node.address for node in cluster.nodes.values()])
        api = ManagementApi(description, changes, authenticator.authenticate, lab_api, faults)

        async def start_node(node: NodeView, opened: contextlib.AsyncExitStack) -> None:
            _check_nvme_ports(node.address, options)
            listener = tcp_listener(node.address, options.api_port, "--api-port")
            server = await HttpServer.start(api, listener, tls)
            opened.push_async_callback(server.close)
            services = await serve_node(cluster, store, node)
            opened.push_async_callback(services.close)

        nodes = NodeServices(cluster, changes, start_node)
        stack.push_async_callback(nodes.close)
        await nodes.start()
        control = ManagementApi(description, changes, lambda _header: LOCAL_ADMINISTRATOR, lab_api)
        server = await HttpServer.start(control, control_listener(folder))
        stack.push_async_callback(server.close)
        published = _lab_json(options, cluster, tls)
        stack.callback(folder.clear)
        folder.publish(published)
        LOG.info("ready: %d nodes, subsystem %s", len(cluster.nodes), cluster.subsystem_nqn)
        ready(published)
        await stop.wait()
        LOG.info("stopping")


def _open_state(options: LabOptions, stack: contextlib.AsyncExitStack) -> tuple[Cluster, ThinStore]:
    database = Database(options.folder.database)
    stack.callback(database.close)
    if options.folder.blocks.exists() and not database.load(ClusterRecord):
        # A new cluster would free these blocks, since nothing in its metadata names them.
        raise LabError(
            f"{options.folder.database} names no cluster, yet {options.folder.blocks} is there: "
            "restore that file or choose another --state-dir"
        )

    def check_address(address: str) -> None:
        _check_nvme_ports(address, options)
        check_tcp_port(address, options.api_port, "--api-port")

    found_cluster(
        database,
        node_count=options.node_count,
        addresses=options.addresses,
        projects=options.projects,
        check_address=check_address,
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


def _check_nvme_ports(address: str, options: LabOptions) -> None:
    check_tcp_port(address, options.discovery_port, "--discovery-port")
    check_tcp_port(address, options.nvme_port, "--nvme-port")


def _issue_tokens(folder: StateFolder, cluster: Cluster) -> Authority:
    """Write a token for the cluster's administrator and one for each project's."""
    folder.tokens.mkdir(mode=0o700, exist_ok=True)
    authority = Authority.at(folder.tokens / "key.pem")
    roles = {SYSTEM: CLUSTER_ADMIN} | dict.fromkeys(cluster.projects, ADMIN)
    for project, role in roles.items():
        token = authority.issue(project, role, now=now(), valid=TOKEN_LIFETIME)
        write_secret(folder.tokens / f"{project}.jwt", token.encode() + b"\n")
    return authority


def _lab_json(options: LabOptions, cluster: Cluster, tls: CertificateFiles) -> dict[str, Any]:
    nodes = [
        {"uuid": str(node.uuid), "name": node.name, "address": node.address}
        for node in cluster.nodes.values()
    ]
    return {
        "api_addresses": [node["address"] for node in nodes],
        "api_port": options.api_port,
        "jwt_file": str(options.folder.tokens / f"{SYSTEM}.jwt"),
        "ca_file": str(tls.ca),
        "subsystem_nqn": cluster.subsystem_nqn,
        "discovery_port": options.discovery_port,
        "nvme_port": options.nvme_port,
        "pid": os.getpid(),
        "nodes": nodes,
    }
