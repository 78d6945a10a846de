# SPDX-License-Identifier: Apache-2.0
"""The host's side of a soak; runs inside the guest, by `host.call`."""

from __future__ import annotations

from pathlib import Path

from lightos.discovery import kernel
from lightos.discovery.publish import TEMPORARY_PREFIX
from lightos.discovery.subsystems import read_subsystems


def change(
    folder: str, write: dict[str, str], remove: list[str], move: list[list[str]], whole: bool
) -> None:
    """Do what a `files.Change` says."""
    for name, content in write.items():
        target = Path(folder, name)
        if whole:
            scratch = target.with_name(f"{TEMPORARY_PREFIX}{name}")
            scratch.write_text(content)
            scratch.rename(target)
        else:
            with target.open("w") as file:
                for line in content.splitlines(keepends=True):
                    file.write(line)
                    file.flush()
    for old, new in move:
        Path(folder, old).rename(Path(folder, new))
    for name in remove:
        Path(folder, name).unlink()


def connections() -> list[list[str]]:
    """Subsystem NQN, address and state of every NVMe/TCP controller."""
    return [
        [each.path.cluster.subsystem_nqn, each.path.endpoint.address, each.state]
        for each in kernel.read_controllers()
    ]


def volume_uuids() -> list[str]:
    """UUIDs of the namespaces that have a block device."""
    return [each.uuid for subsystem in read_subsystems() for each in subsystem.namespaces]


def daemon_pid() -> int:
    """The discovery client, which is started as `lightos discovery-client serve`."""
    for folder in Path("/proc").glob("[0-9]*"):
        words = (folder / "cmdline").read_bytes().split(b"\0")
        if words[-3:-1] == [b"discovery-client", b"serve"] and b"setpriv" not in words[0]:
            return int(folder.name)
    raise LookupError("no discovery client runs")
