# SPDX-License-Identifier: Apache-2.0
"""Wanted paths minus the kernel's controllers, as actions. Pure.

Three rules make this safe beside other users of NVMe/TCP on the host:

* a controller that exists on a wanted path is adopted, whoever made it;
* only a controller that this daemon made is ever disconnected, and only once no file wants
  its subsystem. A path that merely left the discovery log is left to the kernel, which
  reconnects it or gives it up after its loss time-out: a discovery service with an
  incomplete view must not be able to cut I/O;
* a controller that the kernel is tearing down counts as gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass
from uuid import UUID

from lightos.discovery.desired import Cluster, ControllerPath
from lightos.discovery.sysfs import CONTROLLER_ENDING_STATES


@dataclass(frozen=True)
class KernelController:
    """One controller of the kernel as sysfs shows it. `name` is e.g. `nvme3`."""

    name: str
    path: ControllerPath
    state: str
    host_id: UUID | None = None

    @property
    def is_ending(self) -> bool:
        return self.state in CONTROLLER_ENDING_STATES


@dataclass(frozen=True)
class Actions:
    """What to do to the kernel. `disconnect` holds controllers that this daemon made."""

    connect: tuple[ControllerPath, ...] = ()
    disconnect: tuple[KernelController, ...] = ()


def reconcile(
    wanted: Iterable[ControllerPath],
    actual: Collection[KernelController],
    *,
    demanded: Set[Cluster],
    made_here: Set[ControllerPath],
) -> Actions:
    """Decide what to connect and disconnect.

    Args:
        wanted: paths that discovery logs offer of demanded clusters.
        actual: every NVMe/TCP controller of the kernel.
        demanded: clusters that at least one file asks for.
        made_here: paths whose controller this daemon created.
    """
    present = [controller for controller in actual if not controller.is_ending]
    existing_paths = {controller.path for controller in present}
    return Actions(
        connect=tuple(sorted(set(wanted) - existing_paths)),
        disconnect=tuple(
            controller
            for controller in sorted(present, key=lambda c: c.path)
            if controller.path in made_here and controller.path.cluster not in demanded
        ),
    )
