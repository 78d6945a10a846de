# SPDX-License-Identifier: Apache-2.0
"""What can happen to the paths of a volume in use, and back to what they were.

Each fault sees to it that the host noticed, and is over when its function returns; the paths need
not be back by then.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.paths.bed import LOSS_SECONDS, Bed
from testbed import nvme
from testbed.polling import wait_until

MOVING_SECONDS = 60
MOVE_SECONDS = 1.0
DISCOVERY_AWAY_SECONDS = 5.0


@dataclass(frozen=True)
class PathFault:
    """One row of the table."""

    name: str
    happen: Callable[[Bed], None]
    loses_io: bool = False
    """Whether the kernel gives I/O up and the host sees errors, as it is configured to."""
    is_silent: bool = False
    """Whether nothing but a time-out tells the host that a path is lost."""


def stop_each_node(bed: Bed) -> None:
    for node in bed.lab.info["nodes"]:
        _stop_nodes(bed, node["address"])
        bed.wait_for_paths()


def stop_two_nodes(bed: Bed) -> None:
    primary = bed.primary
    other = next(address for address in bed.addresses if address != primary)
    _stop_nodes(bed, primary, other)


def _stop_nodes(bed: Bed, *addresses: str) -> None:
    with bed.stopped(*addresses):
        bed.wait_for_loss(*addresses)
        bed.wait_for_another_primary(*addresses)


def drop_to_node(bed: Bed) -> None:
    _drop(bed, f"ip saddr {bed.host.address} ip daddr {bed.primary} drop")


def drop_from_node(bed: Bed) -> None:
    _drop(bed, f"ip saddr {bed.primary} ip daddr {bed.host.address} drop")


def _drop(bed: Bed, rule: str) -> None:
    primary = bed.primary
    with bed.network.filtered(rule):
        bed.wait_for_loss(primary)


def freeze_node(bed: Bed) -> None:
    primary = bed.primary
    with bed.faults_but_at(primary).during(address=primary, freeze=True):
        bed.wait_for_another_primary(primary)
        bed.wait_for_loss(primary)


def freeze_all(bed: Bed) -> None:
    """All nodes of the lab are one process."""
    os.kill(bed.lab.info["pid"], signal.SIGSTOP)
    try:
        bed.wait_for_loss(*bed.addresses)
    finally:
        os.kill(bed.lab.info["pid"], signal.SIGCONT)


def move_primary(bed: Bed) -> None:
    home = bed.primary
    faults = bed.faults_but_at(home)
    seen = set()
    until = time.monotonic() + MOVING_SECONDS
    for number in itertools.count():
        due = time.monotonic() + MOVE_SECONDS
        if number % 2 == 0:
            moved = faults.add(address=home, demote=True)
        else:
            faults.clear(moved)
        seen |= bed.optimized()
        if number % 2 and time.monotonic() > until:
            break
        time.sleep(max(0.0, due - time.monotonic()))
    assert len(seen) > 1, f"I/O only went to {seen}"


def lose_all_for_less(bed: Bed) -> None:
    _pull_cable(bed, lambda: bed.wait_for_loss(*bed.addresses))


def lose_all_for_more(bed: Bed) -> None:
    """The device goes, and the daemon brings the volume back by itself."""
    gone = lambda: nvme.wait_for_no_device(bed.host, bed.volume_uuid, 5 * LOSS_SECONDS)  # noqa: E731
    _pull_cable(bed, gone)
    nvme.wait_for_device(bed.host, bed.volume_uuid, 60)


def _pull_cable(bed: Bed, meanwhile: Callable[[], None]) -> None:
    bed.network.set_tap(bed.host.tap, up=False)
    try:
        meanwhile()
    finally:
        bed.network.set_tap(bed.host.tap, up=True)


def restart_discovery(bed: Bed) -> None:
    """Its connections are reset, it refuses others for a while, and is there again."""
    port = bed.lab.info["discovery_port"]
    before = bed.daemon.log.count(" offers ")
    with bed.network.filtered(f"tcp dport {port} reject with tcp reset"):
        wait_until(lambda: not _has_session(bed), "the daemon lost its discovery service")
        time.sleep(DISCOVERY_AWAY_SECONDS)
    wait_until(lambda: _has_session(bed), "the daemon has a discovery service again")
    assert bed.daemon.log.count(" offers ") > before


def _has_session(bed: Bed) -> bool:
    (cluster,) = bed.healthz()["clusters"]
    return bool(cluster["discovery_service"])


def kill_daemon(bed: Bed) -> None:
    before = _controllers(bed)
    bed.daemon.end(signal.SIGKILL)
    bed.daemon.start()
    wait_until(lambda: _has_session(bed), "the daemon has a discovery service again")
    assert _controllers(bed) == before


def _controllers(bed: Bed) -> str:
    return bed.host.shell("ls /sys/class/nvme")


FAULTS = (
    PathFault("each node stopped and started in turn", stop_each_node),
    PathFault("two nodes stopped at once, the primary among them", stop_two_nodes),
    PathFault("packets from the host to the primary dropped", drop_to_node, is_silent=True),
    PathFault("packets from the primary to the host dropped", drop_from_node, is_silent=True),
    PathFault("the primary frozen", freeze_node, is_silent=True),
    PathFault("all nodes frozen (SIGSTOP)", freeze_all),
    PathFault("the primary moved every second for a minute", move_primary),
    PathFault("all paths gone for less than the loss time-out", lose_all_for_less),
    PathFault("all paths gone for more than the loss time-out", lose_all_for_more, loses_io=True),
    PathFault("the discovery service restarted", restart_discovery),
    PathFault("the daemon killed and restarted", kill_daemon),
)
