# SPDX-License-Identifier: Apache-2.0
"""Whether anything on this host still uses the block devices of a subsystem.

A discovery file can go while its volume is in use: by mistake, or because two services of one
host attached the same volume and one detached it. Cutting the paths then would be I/O errors,
so the daemon looks here before it disconnects.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from lightos.discovery.sysfs import attribute

_DEVICE_NAME = re.compile(r"nvme[0-9]+n[0-9]+")


def use_of(
    subsystem_nqn: str,
    sysfs_root: Path = Path("/sys"),
    dev_root: Path = Path("/dev"),
    proc_root: Path = Path("/proc"),
) -> str:
    """Say who uses a device of the subsystem; empty if nobody does.

    That is the kernel itself (a mount, swap, device mapper, md: they claim the device for
    themselves, and an exclusive open fails) or a process that has it or a partition of it
    open, such as QEMU.
    """
    numbers: dict[int, str] = {}
    for name in _device_names(subsystem_nqn, sysfs_root):
        node = dev_root / name
        try:
            os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
            numbers[node.stat().st_rdev] = name
        except OSError as error:
            if error.errno == errno.EBUSY:
                return f"{node} is mounted or part of another device"
            if error.errno in (errno.EPERM, errno.EACCES):
                return f"{node} must not be looked at, so it may be in use"
        numbers |= _partitions(name, sysfs_root)
    if not numbers:
        return ""
    for process in proc_root.iterdir():
        if process.name.isdigit():
            for number in _open_block_devices(process):
                if number in numbers:
                    return f"{dev_root / numbers[number]} is open in process {process.name}"
    return ""


def _device_names(subsystem_nqn: str, sysfs_root: Path) -> Iterator[str]:
    for subsystem in (sysfs_root / "class" / "nvme-subsystem").glob("nvme-subsys*"):
        try:
            if (subsystem / "subsysnqn").read_text().strip() != subsystem_nqn:
                continue
            names = os.listdir(subsystem)
        except OSError:
            continue
        yield from (name for name in names if _DEVICE_NAME.fullmatch(name))


def _partitions(disk: str, sysfs_root: Path) -> dict[int, str]:
    """Device numbers and names. One that is mounted is no news: its disk is claimed, too.

    A disk or a partition that goes meanwhile has none.
    """
    folder = sysfs_root / "class" / "block" / disk
    try:
        names = [name for name in os.listdir(folder) if name.startswith(f"{disk}p")]
    except OSError:
        return {}
    numbers = ((attribute(folder / name / "dev"), name) for name in names)
    return {os.makedev(*map(int, number.split(":"))): name for number, name in numbers if number}


def _open_block_devices(process: Path) -> Iterator[int]:
    """Device numbers; a process that ends meanwhile has none."""
    try:
        descriptors = os.listdir(process / "fd")
    except OSError:
        return
    for descriptor in descriptors:
        try:
            status = os.stat(process / "fd" / descriptor)
        except OSError:
            continue
        if stat.S_ISBLK(status.st_mode):
            yield status.st_rdev
