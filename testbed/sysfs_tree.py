# SPDX-License-Identifier: Apache-2.0
"""What a kernel with native NVMe multipath shows in /sys and /dev, as plain files in a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

GIB = 1 << 30
SECTOR_BYTES = 512
"""Unit of a block device's `size`."""


class SysfsTree:
    """One NVMe subsystem; its block devices are in `block`, as in /sys/block."""

    def __init__(self, root: Path) -> None:
        self.sysfs = root / "sys"
        self.dev = root / "dev"
        self.block = self.sysfs / "block"
        self.controllers = self.sysfs / "class" / "nvme"
        self.subsystem = self.sysfs / "devices" / "virtual" / "nvme-subsystem" / "nvme-subsys0"
        subsystems = self.sysfs / "class" / "nvme-subsystem"
        for folder in (self.block, self.dev, self.subsystem, self.controllers, subsystems):
            folder.mkdir(parents=True)
        (subsystems / self.subsystem.name).symlink_to(self.subsystem)

    def add_module(self, name: str, **parameters: str) -> None:
        folder = self.sysfs / "module" / name / "parameters"
        folder.mkdir(parents=True)
        for parameter, value in parameters.items():
            (folder / parameter).write_text(f"{value}\n")

    def add_controller(self, name: str, state: str = "live", **attributes: str) -> Path:
        """With a path to each namespace that there is."""
        folder = self.subsystem / name
        folder.mkdir()
        for attribute, value in {"state": state, **attributes}.items():
            (folder / attribute).write_text(value)
        (self.controllers / name).symlink_to(folder)
        for namespace in self.block.glob("nvme0n*"):
            self._path(name, namespace.name).mkdir()
        return folder

    def set_state(self, controller: str, state: str) -> None:
        (self.subsystem / controller / "state").write_text(state)

    def add_namespace(
        self, name: str, uuid: str, size_bytes: int = GIB, parent: Path | None = None
    ) -> Path:
        """A multipath head, with one hidden path beside it, and a path by each controller; or the
        only path to it, whose `parent` is a controller, as without native multipath."""
        number = name.rpartition("n")[2]
        block_names = [name]
        if parent is None:
            block_names.append(f"nvme0c0n{number}")
            for controller in self.controllers.iterdir():
                self._path(controller.name, name).mkdir(exist_ok=True)
        for block_name in block_names:
            folder = self.block / f".{block_name}"
            folder.mkdir()
            (folder / "wwid").write_text(f"uuid.{uuid}\n")
            (folder / "uuid").write_text(f"{uuid}\n")
            (folder / "nsid").write_text(f"{number}\n")
            (folder / "size").write_text(f"{size_bytes // SECTOR_BYTES}\n")
            (folder / "device").symlink_to(parent or self.subsystem)
            (self.dev / block_name).touch()
            folder.rename(self.block / block_name)
        (self.subsystem / name).unlink(missing_ok=True)
        (self.subsystem / name).symlink_to(self.block / name)
        return self.block / name

    def remove_path(self, controller: str, name: str) -> None:
        shutil.rmtree(self._path(controller, name))

    def set_ana_state(self, controller: str, name: str, state: str) -> None:
        """Of the path to a namespace by way of a controller."""
        (self._path(controller, name) / "ana_state").write_text(f"{state}\n")

    def _path(self, controller: str, name: str) -> Path:
        path = f"nvme0c{controller.removeprefix('nvme')}n{name.rpartition('n')[2]}"
        return self.subsystem / controller / path
