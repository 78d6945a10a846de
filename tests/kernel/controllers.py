# SPDX-License-Identifier: Apache-2.0
"""NVMe controllers of a guest, as its sysfs has them."""

from __future__ import annotations

from testbed.guest import Guest
from testbed.lab import Lab
from testbed.polling import wait_until


def controllers(host: Guest, subsystem_nqn: str) -> dict[str, str]:
    """Live controllers of a subsystem: address -> name."""
    found = host.call("tests.kernel.guest_sysfs.controllers", subsystem_nqn)
    return {
        dict(pair.split("=", 1) for pair in each["address"].split(","))["traddr"]: name
        for name, each in found.items()
        if each["state"] == "live"
    }


def wait_for_controllers(host: Guest, lab: Lab, addresses: tuple[str, ...]) -> dict[str, str]:
    """Wait until live controllers are at these addresses and no others; address -> name."""

    def settled() -> bool:
        return set(controllers(host, lab.subsystem_nqn)) == set(addresses)

    wait_until(settled, f"controllers at {addresses}")
    return controllers(host, lab.subsystem_nqn)


def controllers_settings(host: Guest, subsystem_nqn: str) -> set[tuple[str, ...]]:
    """Keep-alive, loss and reconnect times in seconds, and queues with the admin queue."""
    found = host.call("tests.kernel.guest_sysfs.controllers", subsystem_nqn)
    names = ("kato", "ctrl_loss_tmo", "reconnect_delay", "queue_count")
    return {tuple(each[name] for name in names) for each in found.values()}


def identities(host: Guest, subsystem_nqn: str) -> set[tuple[str, str]]:
    """Host NQN and host id of every controller of a subsystem."""
    found = host.call("tests.kernel.guest_sysfs.controllers", subsystem_nqn)
    return {(each["hostnqn"], each["hostid"]) for each in found.values()}
