# SPDX-License-Identifier: Apache-2.0
"""Block devices of NVMe namespaces, found in sysfs by namespace UUID. Reads only.

With native multipath a namespace is one block device, `nvme<subsystem>n<namespace>`, whose
paths (`nvme0c1n1`) are hidden behind it; callers only ever see the former.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

SYSFS_ROOT = Path("/sys")
DEV_ROOT = Path("/dev")
SECTOR_BYTES = 512
"""Unit of /sys/block/*/size, whatever the device's own block size."""

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
        return any(_read(folder / "state") == "live" for folder in self.controllers)


def find_device(volume_uuid: UUID, sysfs_root: Path = SYSFS_ROOT) -> NamespaceDevice | None:
    """The device of a volume's namespace, None while the kernel has none.

    Raises:
        AmbiguousDevice: there are several.
    """
    wanted = f"uuid.{volume_uuid}"
    found = [
        device
        for folder in _folders(sysfs_root / "block", _HEAD)
        if _read(folder / "wwid") == wanted and (device := _device(folder)) is not None
    ]
    if len(found) > 1:
        names = ", ".join(device.name for device in found)
        raise AmbiguousDevice(
            f"namespace {volume_uuid} has {len(found)} devices ({names}): native NVMe multipath "
            "is off on this host; boot it with nvme_core.multipath=Y"
        )
    return found[0] if found else None


def _device(folder: Path) -> NamespaceDevice | None:
    size = _read(folder / "size")
    if not size.isdigit():
        return None
    # A subsystem with native multipath, else the one controller.
    parent = (folder / "device").resolve()
    controllers = tuple(
        child for child in _folders(parent, _CONTROLLER) if (child / "state").exists()
    )
    return NamespaceDevice(folder.name, int(size) * SECTOR_BYTES, controllers or (parent,))


def _folders(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if pattern.fullmatch(child.name))
    except OSError:
        return []


def _read(path: Path) -> str:
    """Content without white space at its ends; empty for a file that is not, or no more, there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
