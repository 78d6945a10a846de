# SPDX-License-Identifier: Apache-2.0
"""What nvme-cli and sysfs of a test guest say, as values.

The guest has no udev, so no /dev/disk: devices are found by the UUID that sysfs shows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from testbed.guest import Guest
from testbed.polling import wait_until

IGNORING_SIGPIPE = ("env", "--ignore-signal=PIPE")
"""Put before a command that writes to a device while nodes stop.

nvme-tcp sends in the context of whoever writes, and in Linux 6.1 that process gets SIGPIPE when the
node has just closed the connection. The I/O itself is repeated on another path. QEMU ignores the
signal, and so should who uses a device directly; docs/hosts.rst says so.
"""

_DEVICE_BY_UUID = """
for file in /sys/class/nvme-subsystem/nvme-subsys*/nvme*n*/uuid; do
    [ -e "$file" ] && [ "$(cat "$file")" = "$0" ] || continue
    folder=${file%/uuid}
    echo "${folder##*/}"
done
"""

_DISCONNECT = """
for controller in /sys/class/nvme/nvme*; do
    [ "$(cat "$controller/subsysnqn" 2>/dev/null)" = "$0" ] || continue
    # Who deletes it, the daemon perhaps, takes this file away first.
    echo 1 >"$controller/delete_controller" || [ ! -e "$controller/delete_controller" ]
    while [ "$(cat "$controller/subsysnqn" 2>/dev/null)" = "$0" ]; do sleep 0.1; done
done
"""

# /dev/nvme<S>n<H> is the head of the path devices nvme<S>c<controller>n<H>.
_PATHS = """
for path in /sys/class/nvme/nvme*/nvme$0c*n$1; do
    [ -e "$path" ] || continue
    controller=${path%/*}
    echo $(cat "$controller/address" "$controller/state" "$path/ana_state" 2>/dev/null)
done
"""


@dataclass(frozen=True)
class Path:
    """One path to a namespace: a controller's address, its state, the namespace's ANA state."""

    address: str
    controller_state: str
    ana_state: str


def nvme_json(host: Guest, *arguments: str) -> Any:
    """Parsed JSON output of an nvme-cli command; no output (nothing to show) gives None."""
    output = host.run(["nvme", *arguments, "--output-format=json"]).stdout.strip()
    return json.loads(output) if output else None


def find_device(host: Guest, volume_uuid: str) -> str | None:
    """/dev path of the (multipath) block device whose namespace has this UUID, or None."""
    names = host.run(["sh", "-c", _DEVICE_BY_UUID, volume_uuid], check=False).stdout.split()
    return f"/dev/{names[0]}" if names else None


def wait_for_device(host: Guest, volume_uuid: str, timeout_seconds: float = 30) -> str:
    """Wait until the volume's block device exists; its /dev path."""
    return str(
        wait_until(
            lambda: find_device(host, volume_uuid),
            f"{host.name}: block device of volume {volume_uuid}",
            timeout_seconds,
        )
    )


def wait_for_no_device(host: Guest, volume_uuid: str, timeout_seconds: float = 30) -> None:
    wait_until(
        lambda: find_device(host, volume_uuid) is None,
        f"{host.name}: block device of volume {volume_uuid} gone",
        timeout_seconds,
    )


def size_bytes(host: Guest, device: str) -> int:
    return int(host.run(["blockdev", "--getsize64", device]).stdout)


def paths(host: Guest, device: str) -> list[Path]:
    """Paths of a multipath block device, ordered by address, as sysfs has them.

    Unlike `nvme list-subsys`, which asks the controllers, this never waits for a dead one.
    """
    subsystem, head = device.removeprefix("/dev/nvme").split("n")
    lines = host.run(["sh", "-c", _PATHS, subsystem, head]).stdout.splitlines()
    # A controller that went away in between leaves fields out.
    found = [fields for line in lines if len(fields := line.split()) == 3]
    return sorted(
        (
            Path(dict(part.split("=", 1) for part in address.split(","))["traddr"], state, ana)
            for address, state, ana in found
        ),
        key=lambda path: path.address,
    )


def connect_all(host: Guest, address: str, *options: str) -> None:
    """`nvme connect-all` through the discovery service at `address`, port 8009."""
    host.run(["modprobe", "nvme-tcp"])
    host.run(["nvme", "connect-all", "-t", "tcp", "-a", address, "-s", "8009", *options])


def disconnect(host: Guest, subsystem_nqn: str) -> None:
    """Disconnect every controller of the subsystem; none connected is fine.

    Not by nvme-cli: 2.4 ends by SIGABRT when a controller goes while it reads their list.
    """
    host.run(["sh", "-euc", _DISCONNECT, subsystem_nqn])
