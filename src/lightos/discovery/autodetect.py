# SPDX-License-Identifier: Apache-2.0
"""A discovery file made of what the kernel is connected to, for a host whose files were lost.

Without one the daemon would follow no cluster, and paths to nodes that join would be missing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from lightos.discovery.config import Config
from lightos.discovery.desired import LIGHTOS_DOMAIN
from lightos.discovery.entries import DiscoveryEntry, InvalidEntry, format_file
from lightos.discovery.kernel import SYSFS_ROOT, read_controllers
from lightos.discovery.publish import is_discovery_file, publish_as
from lightos.discovery.reconcile import KernelController

LOG = logging.getLogger(__name__)


def detected_entries(controllers: Iterable[KernelController], port: int) -> list[DiscoveryEntry]:
    """A discovery service at the address of each I/O controller of a LightOS cluster."""
    entries = []
    for controller in controllers:
        path = controller.path
        # Of subsystems of others it is not known where they are discovered.
        if LIGHTOS_DOMAIN in path.cluster.subsystem_nqn:
            try:
                entries.append(
                    DiscoveryEntry(
                        path.endpoint.address,
                        port,
                        path.cluster.host_nqn,
                        path.cluster.subsystem_nqn,
                    )
                )
            except InvalidEntry as error:
                LOG.warning("%s: %s", controller.name, error)
    return entries


def detect(config: Config, sysfs_root: Path = SYSFS_ROOT) -> bool:
    """Write the file when there is none yet and something is connected; True if it was written.

    Raises OSError. Both folders of `config` must exist.
    """
    if any(is_discovery_file(file.name) for file in config.discovery_dir.iterdir()):
        return False
    entries = detected_entries(read_controllers(sysfs_root), config.auto_detect_port)
    if not entries:
        return False
    name = config.auto_detect_file_name
    publish_as(str(config.discovery_dir), name, format_file(entries, "found connected at start"))
    LOG.info("%s/%s: made of what is connected", config.discovery_dir, name)
    return True
