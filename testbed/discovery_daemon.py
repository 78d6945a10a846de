# SPDX-License-Identifier: Apache-2.0
"""`lightos discovery-client` in a guest, and the discovery files it follows."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Self

from lightos.discovery.entries import DiscoveryEntry, format_file
from testbed.cluster import LIGHTOS
from testbed.guest import Guest, GuestProcess
from testbed.polling import wait_until

FOLDER = "/etc/discovery-client/discovery.d"
START_SECONDS = 90
"""Python and its imports, under emulation at worst."""


@dataclass
class DiscoveryDaemon:
    """The daemon on `host`; files that are published here are removed at the end."""

    host: Guest
    _process: GuestProcess | None = field(default=None, init=False)

    def start(self) -> None:
        self._process = self.host.popen(
            [str(LIGHTOS), "discovery-client"], environment={"DC_LOGGING_LEVEL": "debug"}
        )
        wait_until(self._has_started, "discovery client is ready", START_SECONDS)

    def _has_started(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the discovery client ended: {self.log}")
        return "ready" in self.log

    @property
    def log(self) -> str:
        return self._process.stderr if self._process else ""

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the daemon and wait; its exit status."""
        assert self._process is not None
        self._process.signal(number)
        status = self._process.wait(30, check=False).returncode
        self._process = None
        return status

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end()

    def publish(self, name: str, subsystem_nqn: str, *addresses: str) -> None:
        entries = [
            DiscoveryEntry(address, 8009, self.host.host_nqn, subsystem_nqn)
            for address in addresses
        ]
        self.host.write_file(f"{FOLDER}/{name}", format_file(entries).encode())

    def remove(self, *names: str) -> None:
        self.host.run(["rm", "-f", *(f"{FOLDER}/{name}" for name in names)])

    def files(self) -> list[str]:
        return self.host.shell(f"ls {FOLDER}").split()
