# SPDX-License-Identifier: Apache-2.0
"""`lightos discovery-client` in a guest, and the discovery files it follows.

It runs with the capabilities that its systemd unit leaves it, and no others.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Self

from lightos.discovery.entries import DiscoveryEntry, format_file
from testbed.cluster import LIGHTOS
from testbed.guest import Guest, GuestProcess
from testbed.polling import wait_until

FOLDER = "/etc/discovery-client/discovery.d"
START_SECONDS = 240
"""Python and its imports, under emulation and beside I/O at worst."""


def command() -> list[str]:
    """The daemon as root with what `CapabilityBoundingSet` of the unit names."""
    unit = resources.files("lightos.discovery").joinpath("discovery-client.service").read_text()
    (names,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    kept = ",".join(f"+{name.lower().removeprefix('cap_')}" for name in names.split())
    return ["setpriv", f"--bounding-set=-all,{kept}", str(LIGHTOS), "discovery-client", "serve"]


@dataclass
class DiscoveryDaemon:
    """The daemon on `host`. `settings` are `DC_...` variables that differ from the defaults."""

    host: Guest
    settings: Mapping[str, str] = field(default_factory=dict)
    _process: GuestProcess | None = field(default=None, init=False)

    def start(self) -> None:
        environment = {"DC_LOGGING_LEVEL": "debug", **self.settings}
        self._process = self.host.popen(command(), environment=environment)
        wait_until(self._has_started, "discovery client is ready", START_SECONDS)

    def _has_started(self) -> bool:
        self.check()
        return "ready" in self.log

    def check(self) -> None:
        """Raise RuntimeError, with its log, if it has ended by itself."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the discovery client ended: {self.log}")

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

    def publish(self, name: str, subsystem_nqn: str, *addresses: str, port: int = 8009) -> None:
        entries = [
            DiscoveryEntry(address, port, self.host.host_nqn, subsystem_nqn)
            for address in addresses
        ]
        self.host.write_file(f"{FOLDER}/{name}", format_file(entries).encode())

    def remove(self, *names: str) -> None:
        self.host.run(["rm", "-f", *(f"{FOLDER}/{name}" for name in names)])

    def files(self) -> list[str]:
        return self.host.shell(f"ls {FOLDER}").split()
