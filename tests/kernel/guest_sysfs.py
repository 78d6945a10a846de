# SPDX-License-Identifier: Apache-2.0
"""What sysfs of a guest says; runs inside, by `host.call`: a shell there takes seconds."""

from __future__ import annotations

from pathlib import Path

from lightos.openstack.os_brick.devices import namespaces

ATTRIBUTES = (
    *("subsysnqn", "state", "address", "hostnqn", "hostid"),
    *("kato", "ctrl_loss_tmo", "reconnect_delay", "queue_count"),
)


def devices() -> dict[str, str]:
    """Paths of the devices of all namespaces, by UUID."""
    return {uuid: f"/dev/{name}" for name, uuid in namespaces()}


def controllers(subsystem_nqn: str) -> dict[str, dict[str, str]]:
    """Controllers of a subsystem by name; one that vanishes while it is read is left out."""
    found = {}
    for folder in Path("/sys/class/nvme").glob("nvme*"):
        try:
            attributes = {name: (folder / name).read_text().strip() for name in ATTRIBUTES}
        except OSError:
            continue
        if attributes["subsysnqn"] == subsystem_nqn:
            found[folder.name] = attributes
    return found
