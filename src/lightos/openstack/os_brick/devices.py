# SPDX-License-Identifier: Apache-2.0
"""Block devices of NVMe namespaces, found in sysfs by namespace UUID. Reads only.

With native multipath a namespace is one block device, `nvme<subsystem>n<namespace>`, whose
paths (`nvme0c1n1`) are hidden behind it; callers only ever see the former.
"""

import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from lightos.discovery.sysfs import (
    CONTROLLER_ENDING_STATES,
    attribute,
    is_namespace,
    path_name,
)
from lightos.openstack.os_brick.shared_call import SharedCall

SYSFS_ROOT = Path("/sys")
DEV_ROOT = Path("/dev")
SECTOR_BYTES = 512
"""Unit of /sys/block/*/size, whatever the device's own block size."""

_ACCESSIBLE = frozenset({"optimized", "non-optimized", None})
"""ANA states of paths that take I/O; None is of a target without ANA."""

_CONTROLLER = re.compile(r"nvme[0-9]+")


class AmbiguousDevice(Exception):
    """Several block devices for one namespace: native NVMe multipath is off."""


@dataclass(frozen=True)
class NamespaceDevice:
    """The block device of one namespace, `name` as in /dev, `folder` in sysfs."""

    name: str
    size_bytes: int
    folder: Path

    @property
    def path(self) -> str:
        return str(DEV_ROOT / self.name)

    @property
    def controllers(self) -> list[Path]:
        """sysfs folders of the controllers that have a path to it.

        The kernel takes the paths away before the device itself (Linux `drivers/nvme/host/core.c`,
        nvme_ns_remove), and the other controllers of the subsystem may stay.
        """
        return [controller for controller, _ in self._paths()]

    @property
    def has_usable_path(self) -> bool:
        """Whether it could do I/O now."""
        return any(
            attribute(controller / "state") == "live"
            and attribute(path / "ana_state") in _ACCESSIBLE
            for controller, path in self._paths()
        )

    @property
    def is_ending(self) -> bool:
        """Whether the kernel removes every path to it, or has done so, and then removes it."""
        states = {attribute(controller / "state") for controller in self.controllers}
        return states <= CONTROLLER_ENDING_STATES

    @property
    def is_of_controller(self) -> bool:
        """Whether its parent is a controller, for want of native multipath, and no subsystem."""
        return (self.folder / "device" / "state").exists()

    def _paths(self) -> Iterator[tuple[Path, Path]]:
        """sysfs folders of each path's controller and of the path itself."""
        parent = self.folder / "device"
        if self.is_of_controller:
            yield parent, self.folder
            return
        for name in sorted(e.name for e in _entries(parent) if _CONTROLLER.fullmatch(e.name)):
            path = parent / name / path_name(self.name, name)
            if path.exists():
                yield parent / name, path


def find_devices(volume_uuid: UUID, sysfs_root: Path = SYSFS_ROOT) -> list[NamespaceDevice]:
    """The device of a volume's namespace, in a list; for a moment it may be several.

    An old device is shown until the kernel has removed it, while a controller that connects
    meanwhile may have made the one that follows. One that is known to end is then left out.

    Raises:
        AmbiguousDevice: there are several, and that stays so.
    """
    wanted = str(volume_uuid)
    folders = (
        sysfs_root / "block" / name for name, uuid in namespaces(sysfs_root) if uuid == wanted
    )
    found = list(filter(None, map(_device, folders)))
    if len(found) > 1:
        found = [device for device in found if not device.is_ending] or found
    if len(found) > 1 and all(device.is_of_controller for device in found):
        names = ", ".join(sorted(device.name for device in found))
        raise AmbiguousDevice(
            f"namespace {volume_uuid} has {len(found)} devices ({names}): "
            "native NVMe multipath is off on this host; boot it with nvme_core.multipath=Y"
        )
    return found


def path_of(name: str, volume_uuid: UUID, sysfs_root: Path = SYSFS_ROOT) -> str | None:
    """Path of the device of this name, None unless it is the volume's."""
    if not is_namespace(name) or _uuid(f"{sysfs_root}/block/{name}") != str(volume_uuid):
        return None
    return str(DEV_ROOT / name)


def namespaces(sysfs_root: Path = SYSFS_ROOT) -> tuple[tuple[str, str], ...]:
    """Name and UUID of each namespace that has a device, as they are during this call.

    Threads that call at once share a look: with many, looks by each would hold each other up.
    """
    return _shared_look(sysfs_root).result()


@functools.cache
def _shared_look(sysfs_root: Path) -> SharedCall[tuple[tuple[str, str], ...]]:
    return SharedCall(_Namespaces(sysfs_root / "block").look)


os.register_at_fork(after_in_child=_shared_look.cache_clear)  # a look may have been under way


class _Namespaces:
    """What `look` finds; it reads a UUID once, for a device that comes anew has another inode."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, int], str] = {}

    def look(self) -> tuple[tuple[str, str], ...]:
        # With a hundred volumes there are four hundred entries: most are paths.
        heads = [(e.name, e.inode()) for e in _entries(self._folder) if is_namespace(e.name)]
        self._known = {
            head: self._known.get(head) or _uuid(f"{self._folder}/{head[0]}") for head in heads
        }
        return tuple((name, uuid) for (name, _), uuid in self._known.items())


def _device(folder: Path) -> NamespaceDevice | None:
    """None for one that vanished meanwhile."""
    size = attribute(f"{folder}/size") or ""
    return (
        NamespaceDevice(folder.name, int(size) * SECTOR_BYTES, folder) if size.isdigit() else None
    )


def _uuid(folder: str) -> str:
    return (attribute(f"{folder}/wwid") or "").removeprefix("uuid.")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """None for a folder that is not there."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
