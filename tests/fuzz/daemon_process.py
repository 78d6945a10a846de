# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.fuzz.daemon_process FOLDER PORT`: the discovery client on a host without NVMe.

All of it but its start, which asks for the kernel's fabrics device, and for root.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from lightos.discovery.config import Config
from lightos.discovery.daemon import DiscoveryClient
from lightos.discovery.desired import Endpoint
from lightos.discovery.status import StatusServer

RECONNECT_SECONDS = 0.05
"""So that services which fail are tried again often: that is what is wanted here."""


async def serve(folder: Path, port: int) -> None:
    config = Config(
        discovery_dir=folder / "discovery.d",
        internal_dir=folder / "internal",
        host_id_path=folder / "hostid",
        reconnect_interval_seconds=RECONNECT_SECONDS,
        status_endpoint=Endpoint("127.0.0.1", port),
    )
    client = DiscoveryClient(
        config, fabrics_device=folder / "nvme-fabrics", sysfs_root=folder / "sys"
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stop)
    with StatusServer(config.status_endpoint, lambda: client.status):
        await client.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
