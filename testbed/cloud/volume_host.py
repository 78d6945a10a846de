# SPDX-License-Identifier: Apache-2.0
"""cinder-volume and cinder-backup on a host with nvme-tcp.

To make images, backups, encrypted volumes and migrations, Cinder attaches volumes to the host of
cinder-volume, by os-brick. The machine's kernel may lack nvme-tcp, so that host is a user-mode
Linux of its own in the cloud's network, with the discovery client as a real one has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from configparser import RawConfigParser
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from testbed.cinder.paths import VENV_BIN
from testbed.cloud.deployment import Deployment
from testbed.cloud.service import ServiceFailed
from testbed.cloud.service_host import ServiceHost
from testbed.network import HOST_ADDRESSES

VOLUME = "cinder-volume"
BACKUP = "cinder-backup"
UP_SECONDS = 180.0
MEMORY_MIB = 2048
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class ReportedService:
    """A service as Cinder's API lists it; `reported_at` is when it was last heard of (UTC)."""

    binary: str
    host: str
    is_up: bool
    reported_at: datetime


class VolumeHost(ServiceHost):
    """The host `name`, with the services that `configuration`/cinder.conf describes.

    `reported`: asks Cinder's API for its services. Logs, backups and images on their way are in
    the cloud's folder.
    """

    def __init__(
        self,
        deployment: Deployment,
        name: str,
        configuration: Path,
        reported: Callable[[], list[ReportedService]],
        *,
        address: str = HOST_ADDRESSES[0],
        memory_mib: int = MEMORY_MIB,
    ) -> None:
        super().__init__(deployment, name, address, memory_mib)
        self.configuration = configuration
        self.reported = reported
        self._started_at: dict[str, datetime] = {}

    def launch_services(self) -> None:
        """Start both services; the configuration is there by now."""
        self.launch(VOLUME)
        self.launch(BACKUP)

    def wait_services(self) -> None:
        """Wait until Cinder has both up. Raises `ServiceFailed`."""
        self.wait_up(VOLUME)
        self.wait_up(BACKUP)

    def launch(self, binary: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a service, without waiting until it works; `environment`: more variables for it."""
        self._started_at[binary] = datetime.now(UTC)
        command = [VENV_BIN / binary, "--config-file", self.configuration / "cinder.conf"]
        self.launch_program(binary, command, environment)

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
