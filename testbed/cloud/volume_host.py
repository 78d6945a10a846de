# SPDX-License-Identifier: Apache-2.0
"""cinder-volume and cinder-backup on a host with nvme-tcp.

To make images, backups, encrypted volumes and migrations, Cinder attaches volumes to the host of
cinder-volume, by os-brick. The machine's kernel may lack nvme-tcp, so that host is a user-mode
Linux of its own in the cloud's network, with the discovery client as a real one has.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from configparser import RawConfigParser
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from testbed.cinder.paths import VENV_BIN
from testbed.cloud.deployment import Deployment
from testbed.cloud.service import ServiceFailed
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.network import HOST_ADDRESSES
from testbed.polling import wait_until
from testbed.uml_host import UmlHost

VOLUME = "cinder-volume"
BACKUP = "cinder-backup"
UP_SECONDS = 180.0
STOP_SECONDS = 30.0
MEMORY_MIB = 2048
_PATH = f"{os.defpath}:/usr/sbin:/sbin"
_POLL_SECONDS = 0.5
_LOG_LINES = 30


@dataclass(frozen=True)
class ReportedService:
    """A service as Cinder's API lists it; `reported_at` is when it was last heard of (UTC)."""

    binary: str
    host: str
    is_up: bool
    reported_at: datetime


@dataclass
class VolumeHost:
    """The host `name`, with the services that `configuration`/cinder.conf describes.

    `reported`: asks Cinder's API for its services. The cloud's folder is the one part of the
    machine's files that the host writes to: logs, backups and images on their way are there.
    """

    deployment: Deployment
    name: str
    configuration: Path
    reported: Callable[[], list[ReportedService]]
    address: str = HOST_ADDRESSES[0]
    memory_mib: int = MEMORY_MIB
    guest: UmlHost = field(init=False)
    """The host itself, for commands on it."""
    _discovery: DiscoveryDaemon = field(init=False, repr=False)
    _started_at: dict[str, datetime] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.guest = UmlHost(
            self.deployment.network,
            self.name,
            self.address,
            self.memory_mib,
            writable=self.deployment.folder,
        )
        self._discovery = DiscoveryDaemon(self.guest)

    # -------------------------------------------------------------- life

    def boot(self) -> None:
        """Boot, and start the discovery client; needs nothing of the cloud. Raises `GuestError`."""
        self.guest.start()
        self._discovery.start()

    def launch_services(self) -> None:
        """Start both services; the configuration is there by now."""
        self.launch(VOLUME)
        self.launch(BACKUP)

    def wait_services(self) -> None:
        """Wait until Cinder has both up. Raises `ServiceFailed`."""
        self.wait_up(VOLUME)
        self.wait_up(BACKUP)

    def attach(self) -> None:
        """Take over a host that another process has started, and left."""
        self.guest.attach()

    # -------------------------------------------------------------- services

    def launch(self, binary: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a service, without waiting until it works; `environment`: more variables for it."""
        self._started_at[binary] = datetime.now(UTC)
        command = [VENV_BIN / binary, "--config-file", self.configuration / "cinder.conf"]
        files = [_pid_file(binary), self.log_file(binary)]
        # Its output goes to the log on the machine, not to us: it stays when we have gone.
        script = 'echo $$ >"$1"; log=$2; shift 2; exec "$@" >>"$log" 2>&1'
        self.guest.run(["rm", "-f", _pid_file(binary)])
        self.guest.popen(
            ["sh", "-c", script, "sh", *map(str, [*files, *command])],
            environment={
                "PATH": f"{self.deployment.programs}:{VENV_BIN}:{_PATH}",
                **(environment or {}),
            },
        )
        wait_until(
            lambda: self.guest.call("os.path.exists", _pid_file(binary)), f"{binary} to begin"
        )

    def wait_up(self, binary: str, timeout_seconds: float = UP_SECONDS) -> None:
        """Wait until a service that we started is up, with all its back ends.

        Raises `ServiceFailed`, with the end of its log, when it ends before or takes too long.
        """
        wanted = self._hosts(binary)
        give_up_at = time.monotonic() + timeout_seconds
        while missing := wanted - self._up_since(binary, self._started_at[binary]):
            self.deployment.check_wanted()
            if not self.is_running(binary):
                raise ServiceFailed(f"{binary} ended; its log:\n{self.log_tail(binary)}")
            if time.monotonic() > give_up_at:
                raise ServiceFailed(
                    f"{', '.join(sorted(missing))} of {binary} not up within "
                    f"{timeout_seconds:.0f} s; its log:\n{self.log_tail(binary)}"
                )
            time.sleep(_POLL_SECONDS)

    def is_running(self, binary: str) -> bool:
        """Whether the service's process is there."""
        return bool(self.guest.call("os.path.exists", f"/proc/{self._pid(binary)}"))

    def kill(self, binary: str) -> None:
        """End a service at once, as a crash would (SIGKILL), with its worker processes."""
        self.guest.run(["kill", "-9", "--", f"-{self._pid(binary)}"])
        wait_until(lambda: not self.is_running(binary), f"{binary} to be gone", STOP_SECONDS)

    def log_file(self, binary: str) -> Path:
        return self.deployment.log_file(f"{binary}-{self.name}")

    def log_tail(self, binary: str, lines: int = _LOG_LINES) -> str:
        """The last lines that a service logged."""
        with contextlib.suppress(FileNotFoundError):
            text = self.log_file(binary).read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return "(nothing logged)"

    # -------------------------------------------------------------- inside

    def _pid(self, binary: str) -> int:
        """The service's first process, which leads the process group of all its others."""
        return int(self.guest.read_file(_pid_file(binary)))

    def _hosts(self, binary: str) -> set[str]:
        """The names under which a service reports: cinder-volume has one per back end."""
        parser = RawConfigParser(strict=False)
        parser.read(self.configuration / "cinder.conf")
        host: str = parser.get("DEFAULT", "host")
        if binary != VOLUME:
            return {host}
        return {f"{host}@{name}" for name in parser.get("DEFAULT", "enabled_backends").split(",")}

    def _up_since(self, binary: str, started_at: datetime) -> set[str]:
        return {
            service.host
            for service in self.reported()
            if service.binary == binary and service.is_up and service.reported_at >= started_at
        }


def _pid_file(binary: str) -> str:
    """On the host's own /run."""
    return f"/run/{binary}.pid"


def reported_services(block_storage: Any) -> list[ReportedService]:
    """What Cinder's API says; `block_storage` is openstacksdk's, as an administrator."""
    return [
        ReportedService(
            service.binary,
            service.host,
            service.state == "up",
            datetime.fromisoformat(service.updated_at).replace(tzinfo=UTC),
        )
        for service in block_storage.services()
        if service.updated_at
    ]
