# SPDX-License-Identifier: Apache-2.0
"""MariaDB, as Cinder runs on it: one server, with a database for each driver.

It runs in a network namespace of its own, whose address it listens on, so this needs root.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.cinder.scratch import scratch_folder
from bench.cinder.side import SIDES
from testbed.cloud import packages
from testbed.cloud.database import Database, Schema
from testbed.cloud.deployment import Deployment
from testbed.network import Network

SCHEMAS = {
    side: Schema(f"cinder_{side}", "cinder", ("cinder-manage", "db", "sync")) for side in SIDES
}


@contextmanager
def database_server(*, connections: int) -> Iterator[Mapping[str, dict[str, object]]]:
    """Cinder's options for it, by driver; meanwhile, the calling thread is in its network.

    `connections`: how many each Cinder keeps open, so that as many threads need no new ones.
    """
    unpacked = packages.unpacked(packages.CLOUD)  # fetched here: inside, no archive can be reached
    with scratch_folder() as folder, Network.for_this_process("bench") as network:
        deployment = Deployment(network, folder / "cloud")
        deployment.make_folders()
        server = Database(deployment, unpacked, tuple(SCHEMAS.values()))
        server.prepare()
        server.start()
        with network.entered():
            yield {
                side: {
                    "connection": deployment.database_url(schema.database),
                    "max_pool_size": connections,
                }
                for side, schema in SCHEMAS.items()
            }
