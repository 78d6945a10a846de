# SPDX-License-Identifier: Apache-2.0
"""What a cloud runs beside Cinder: MariaDB; etcd and Redis.

Each runs in a network namespace of its own, whose address it listens on, so this needs root.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.cinder.scratch import scratch_folder
from bench.sides import SIDES
from testbed.cloud import packages
from testbed.cloud.database import Database, Schema
from testbed.cloud.deployment import Deployment
from testbed.cloud.lock_manager import LOCK_MANAGERS
from testbed.network import Network

SCHEMAS = {
    side: Schema(f"cinder_{side}", "cinder", ("cinder-manage", "db", "sync")) for side in SIDES
}


@contextmanager
def database_server(*, connections: int) -> Iterator[Mapping[str, dict[str, object]]]:
    """Cinder's options for one MariaDB with a database for each driver, by driver.

    Meanwhile, the calling thread is in its network. `connections`: how many each Cinder keeps
    open, so that as many threads need no new ones.
    """
    unpacked = packages.unpacked(packages.CLOUD)  # fetched here: inside, no archive can be reached
    with _deployment() as deployment:
        server = Database(deployment, unpacked, tuple(SCHEMAS.values()))
        server.prepare()
        server.start()
        with deployment.network.entered():
            yield {
                side: {
                    "connection": deployment.database_url(schema.database),
                    "max_pool_size": connections,
                }
                for side, schema in SCHEMAS.items()
            }


@contextmanager
def lock_servers() -> Iterator[Mapping[str, str]]:
    """The `backend_url` of etcd and of Redis, by name; the calling thread is in their network."""
    unpacked = packages.unpacked(packages.LOCK_MANAGERS)
    with _deployment() as deployment:
        servers = {name: kind(deployment, unpacked) for name, kind in LOCK_MANAGERS.items()}
        for server in servers.values():
            server.start()
        with deployment.network.entered():
            yield {name: server.url for name, server in servers.items()}


@contextmanager
def _deployment() -> Iterator[Deployment]:
    with scratch_folder() as folder, Network.for_this_process("bench") as network:
        deployment = Deployment(network, folder / "cloud")
        deployment.make_folders()
        yield deployment
