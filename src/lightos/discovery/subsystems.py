# SPDX-License-Identifier: Apache-2.0
"""NVMe/TCP subsystems of this host as sysfs shows them: paths, namespaces, and ANA states.

Read from /sys/class/nvme-subsystem alone, so that nothing here waits for a controller that is lost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightos.discovery.kernel import SYSFS_ROOT, read_controllers
from lightos.discovery.reconcile import KernelController
from lightos.discovery.sysfs import is_namespace, path_name

_SECTOR_BYTES = 512
"""The unit of `size` in sysfs, whatever the device's own sectors are."""


@dataclass(frozen=True)
class Namespace:
    """A block device. `device` is e.g. `nvme0n1`; `uuid` is that of a LightOS volume."""

    device: str
    nsid: int
    uuid: str
    size_bytes: int
    ana_states: tuple[tuple[str, str], ...]
    """Controller name and ANA state of each path, `""` where the kernel has no such path."""


@dataclass(frozen=True)
class Subsystem:
    """A subsystem with its controllers and namespaces. `name` is e.g. `nvme-subsys0`."""

    name: str
    nqn: str
    controllers: tuple[KernelController, ...]
    namespaces: tuple[Namespace, ...]


def read_subsystems(sysfs_root: Path = SYSFS_ROOT) -> list[Subsystem]:
    """Subsystems with at least one NVMe/TCP controller, by number."""
    controllers = {controller.name: controller for controller in read_controllers(sysfs_root)}
    folders = (sysfs_root / "class" / "nvme-subsystem").glob("nvme-subsys*")
    found = []
    for folder in sorted(folders, key=lambda folder: _numbers(folder.name)):
        names = sorted(_names(folder), key=_numbers)
        members = tuple(controllers[name] for name in names if name in controllers)
        if members:
            namespaces = tuple(_namespaces(folder, names, members, sysfs_root))
            found.append(Subsystem(folder.name, _read(folder / "subsysnqn"), members, namespaces))
    return found


def _namespaces(
    folder: Path, names: list[str], controllers: tuple[KernelController, ...], sysfs_root: Path
) -> Iterator[Namespace]:
    for name in names:
        size = _read(folder / name / "size") if is_namespace(name) else ""
        if not size:  # no namespace, or gone meanwhile
            continue
        states = []
        for controller in controllers:
            where = sysfs_root / "class" / "nvme" / controller.name
            ana_state = _read(where / path_name(name, controller.name) / "ana_state")
            states.append((controller.name, ana_state))
        yield Namespace(
            device=name,
            nsid=int(_read(folder / name / "nsid") or 0),
            uuid=_read(folder / name / "uuid"),
            size_bytes=int(size) * _SECTOR_BYTES,
            ana_states=tuple(states),
        )


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:  # gone meanwhile
        return []


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall("[0-9]+", name))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
