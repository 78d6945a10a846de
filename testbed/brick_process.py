# SPDX-License-Identifier: Apache-2.0
"""os-brick in a Python of its own inside a guest, with our connector or with the one it ships.

One connector per process, because os-brick's names and configuration are global, and because
`LIGHTOS_OVERLAY=0` in the environment is what makes it os-brick's own.
"""

from __future__ import annotations

import queue
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from testbed.guest import Agent, Guest, GuestCallFailed, GuestProcess, GuestTimeout
from testbed.life import Life

_LISTEN_SECONDS = 60.0
_CALL_SECONDS = 300.0


@dataclass
class BrickProcess(Life):
    """A service that uses os-brick, such as nova-compute; `call` is answered by it.

    Start it on a thread that has entered the guest's network. `port` is its own on the guest.
    """

    host: Guest
    port: int
    incumbent: bool = False
    _process: GuestProcess | None = field(default=None, init=False, repr=False)
    _agent: Agent | None = field(default=None, init=False, repr=False)

    def start(self) -> None:
        """Returns when it answers; os-brick is imported in background. Raises `GuestError`."""
        where = f"{self.host.address}:{self.port}"
        self._process = self.host.popen(
            [sys.executable, "-W", "ignore", "-m", "testbed.guest_agent", "--listen", where],
            environment={"LIGHTOS_OVERLAY": "0" if self.incumbent else "1"},
        )
        self._agent = Agent(self._connected(time.monotonic() + _LISTEN_SECONDS))
        self._agent.send("call", function="testbed.brick.implementation", args=[], kwargs={})

    def _connected(self, give_up_at: float) -> socket.socket:
        while True:
            try:
                connection = socket.create_connection((self.host.address, self.port), 2.0)
            except OSError:
                if time.monotonic() > give_up_at:
                    raise GuestTimeout(f"{self.host.name}: port {self.port}: {self.log}") from None
                time.sleep(0.1)
            else:
                connection.settimeout(None)
                return connection

    def stop(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None
        if self._process is not None and self._process.poll() is None:
            self._process.signal()
            self._process.wait(check=False)
        self._process = None

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._process.stderr if self._process else ""

    def call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """As `Guest.call`, in this process. Any thread may."""
        assert self._agent is not None
        _, events = self._agent.send("call", function=function, args=args, kwargs=kwargs)
        try:
            event = events.get(timeout=_CALL_SECONDS)
        except queue.Empty:
            raise GuestTimeout(f"{self.host.name}: {function}: {self.log[-2000:]}") from None
        if event is None:
            raise self.host.died(f"during {function}")
        if event["event"] == "error":
            raise GuestCallFailed(self.host.name, function, event)
        return event["value"]
