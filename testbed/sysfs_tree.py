# SPDX-License-Identifier: Apache-2.0
"""What a kernel with native NVMe multipath shows in /sys and /dev, as plain files in a folder."""

from __future__ import annotations

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
        self.subsystem = self.sysfs / "devices" / "virtual" / "nvme-subsystem" / "nvme-subsys0"
        for folder in (self.block, self.dev, self.subsystem):
            folder.mkdir(parents=True)

    def add_controller(self, name: str, state: str = "live") -> Path:
        folder = self.subsystem / name
        folder.mkdir()
        (folder / "state").write_text(state)
        return folder

    def add_namespace(self, name: str, uuid: str, size_bytes: int = GIB) -> Path:
        """A multipath head, with one hidden path beside it."""
        number = name.rpartition("n")[2]
        for block_name in (name, f"nvme0c0n{number}"):
            folder = self.block / f".{block_name}"
            folder.mkdir()
            (folder / "wwid").write_text(f"uuid.{uuid}\n")
            (folder / "size").write_text(f"{size_bytes // SECTOR_BYTES}\n")
            (folder / "device").symlink_to(self.subsystem)
            (self.dev / block_name).touch()
            folder.rename(self.block / block_name)
        return self.block / name
