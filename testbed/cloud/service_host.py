# SPDX-License-Identifier: Apache-2.0
"""A host of the cloud with nvme-tcp, its discovery client, and services that run on it.

The machine's kernel may lack nvme-tcp, so such a host is a user-mode Linux of its own in the
cloud's network. The cloud's folder is the one part of the machine's files that it writes to.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed.cinder.paths import VENV_BIN
from testbed.cloud.deployment import Deployment
from testbed.discovery_daemon import FOLDER, DiscoveryDaemon
from testbed.polling import wait_until
from testbed.uml_host import UmlHost

STOP_SECONDS = 30.0
_PATH = f"{os.defpath}:/usr/sbin:/sbin"
_LOG_LINES = 30


@dataclass
class ServiceHost:
    """The host `name`."""

    deployment: Deployment
    name: str
    address: str
    memory_mib: int
    cpu: int | None = None
    """See `UmlHost`."""
    guest: UmlHost = field(init=False)
    """The host itself, for commands on it."""
    _discovery: DiscoveryDaemon = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.guest = UmlHost(
            self.deployment.network,
            self.name,
            self.address,
            self.memory_mib,
            writable=self.deployment.folder,
            cpu=self.cpu,
        )
        self._discovery = DiscoveryDaemon(self.guest)

    def boot(self) -> None:
        """Boot, and start the discovery client; needs nothing of the cloud. Raises `GuestError`.

        The discovery files are in the cloud's folder, and are there again after a reboot.
        """
        self.guest.start()
        kept = self.deployment.state(f"discovery-files-{self.name}")
        # The very folder that is watched: hostfs tells inotify nothing of those below its root.
        self.guest.shell(f"mount -t hostfs -o {kept} kept {FOLDER}")
        self._discovery.start()

    def attach(self) -> None:
        """Take over a host that another process has started, and left."""
        self.guest.attach()

    def launch_program(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a service, without waiting until it works; `environment`: more variables for it."""
        files = [_pid_file(name), self.log_file(name)]
        # Its output goes to the log on the machine, not to us: it stays when we have gone.
        script = 'echo $$ >"$1"; log=$2; shift 2; exec "$@" >>"$log" 2>&1'
        self.guest.run(["rm", "-f", _pid_file(name)])
        self.guest.popen(
            ["sh", "-c", script, "sh", *map(str, [*files, *command])],
            environment={
                "PATH": f"{self.deployment.programs}:{VENV_BIN}:{_PATH}",
                **(environment or {}),
            },
        )
        wait_until(lambda: self.guest.call("os.path.exists", _pid_file(name)), f"{name} to begin")

    def is_running(self, name: str) -> bool:
        """Whether the service's process is there."""
        return bool(self.guest.call("os.path.exists", f"/proc/{self._pid(name)}"))

    def kill(self, name: str) -> None:
        """End a service at once, as a crash would (SIGKILL), with its worker processes."""
        self.guest.run(["kill", "-9", "--", f"-{self._pid(name)}"])
        wait_until(lambda: not self.is_running(name), f"{name} to be gone", STOP_SECONDS)

    def log_file(self, name: str) -> Path:
        return self.deployment.log_file(f"{name}-{self.name}")

    def log_tail(self, name: str, lines: int = _LOG_LINES) -> str:
        """The last lines that a service logged."""
        with contextlib.suppress(FileNotFoundError):
            text = self.log_file(name).read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return "(nothing logged)"

    def block_devices(self) -> set[str]:
        """The names of its NVMe block devices."""
        return set(
            self.guest.shell("cd /sys/class/block; ls -d nvme*n* 2>/dev/null || true").split()
        )

    def namespaces(self) -> set[str]:
        """The UUIDs of those that have a block device."""
        return set(self.guest.shell("cat /sys/class/block/nvme*n*/uuid || true").split())

    def leftovers(self) -> list[str]:
        """NVMe block devices and discovery files that the host has."""
        return self.guest.shell(
            "ls -d /sys/class/block/nvme* /etc/discovery-client/discovery.d/* 2>/dev/null || true"
        ).split()

    def _pid(self, name: str) -> int:
        """The service's first process, which leads the process group of all its others."""
        return int(self.guest.read_file(_pid_file(name)))


def _pid_file(name: str) -> str:
    """On the host's own /run."""
    return f"/run/{name}.pid"
