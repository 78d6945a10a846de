# SPDX-License-Identifier: Apache-2.0
"""Block devices of NVMe namespaces, found in sysfs by namespace UUID. Reads only.

With native multipath a namespace is one block device, `nvme<subsystem>n<namespace>`, whose
paths (`nvme0c1n1`) are hidden behind it; callers only ever see the former.

Every attach reads the UUID of every namespace, so this is done without pathlib, which takes most
of the time where there are many.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

SYSFS_ROOT = Path("/sys")
DEV_ROOT = Path("/dev")
SECTOR_BYTES = 512
"""Unit of /sys/block/*/size, whatever the device's own block size."""
_ATTRIBUTE_BYTES = 4096
"""sysfs shows no more than a page of anything."""

_HEAD = re.compile(r"nvme[0-9]+n[0-9]+")
_CONTROLLER = re.compile(r"nvme[0-9]+")


class AmbiguousDevice(Exception):
    """Several block devices for one namespace: native NVMe multipath is off."""


@dataclass(frozen=True)
class NamespaceDevice:
    """The block device of one namespace, `name` as in /dev."""

    name: str
    size_bytes: int
    controllers: tuple[Path, ...]
    """sysfs folders of the controllers that lead to its subsystem."""

    @property
    def path(self) -> str:
        return str(DEV_ROOT / self.name)

    @property
    def has_live_path(self) -> bool:
        """Whether any controller could do I/O now."""
        return any(_read(f"{folder}/state") == "live" for folder in self.controllers)


def find_device(volume_uuid: UUID, sysfs_root: Path = SYSFS_ROOT) -> NamespaceDevice | None:
    """The device of a volume's namespace, None while the kernel has none.

    Raises:
        AmbiguousDevice: there are several.
    """
    wanted = f"uuid.{volume_uuid}"
    names = [name for name, wwid in _namespaces(sysfs_root) if wwid == wanted]
    if len(names) > 1:
        raise AmbiguousDevice(
            f"namespace {volume_uuid} has {len(names)} devices ({', '.join(names)}): native NVMe "
            "multipath is off on this host; boot it with nvme_core.multipath=Y"
        )
    return _device(sysfs_root / "block" / names[0]) if names else None


def present_volumes(sysfs_root: Path = SYSFS_ROOT) -> set[str]:
    """UUIDs of all namespaces that have a device."""
    return {wwid.removeprefix("uuid.") for _, wwid in _namespaces(sysfs_root)}


def is_namespace(name: str) -> bool:
    """Whether a block device of this name is one of those that callers see."""
    return _HEAD.fullmatch(name) is not None


def _namespaces(sysfs_root: Path) -> Iterator[tuple[str, str]]:
    """Name and world-wide id of each namespace's device."""
    folder = f"{sysfs_root}/block"
    return ((name, _read(f"{folder}/{name}/wwid")) for name in _names(folder, _HEAD))


def _device(folder: Path) -> NamespaceDevice | None:
    """None for one that vanished meanwhile."""
    size = _read(f"{folder}/size")
    if not size.isdigit():
        return None
    # A subsystem with native multipath, else the one controller.
    parent = folder / "device"
    controllers = tuple(
        parent / name
        for name in _names(parent, _CONTROLLER)
        if os.path.exists(f"{parent}/{name}/state")
    )
    return NamespaceDevice(folder.name, int(size) * SECTOR_BYTES, controllers or (parent,))


def _names(folder: Path | str, pattern: re.Pattern[str]) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if pattern.fullmatch(name))
    except OSError:
        return []


def _read(path: str) -> str:
    """Content without white space at its ends; empty for a file that is not, or no more, there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _ATTRIBUTE_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
    finally:
        os.close(descriptor)
