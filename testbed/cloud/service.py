# SPDX-License-Identifier: Apache-2.0
"""One service of the cloud: a process in its network namespace, with a log, that can be awaited."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.cinder.paths import PYTHON, VENV_BIN

if TYPE_CHECKING:
    from testbed.cloud.deployment import Deployment

WSGI_SERVER = Path(__file__).with_name("wsgi.py")
START_SECONDS = 180.0
STOP_SECONDS = 20.0
_LOG_LINES = 15
_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 2.0


class ServiceFailed(Exception):
    """A service ended, or did not answer in time; ends with the last lines of its log."""


class Service:
    """A process of the cloud. It can be started again once it has been stopped or killed."""

    def __init__(
        self,
        deployment: Deployment,
        name: str,
        argv: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.deployment = deployment
        self.name = name
        self.argv = [str(word) for word in argv]
        self.environment = dict(environment or {})
        self.log_file = deployment.log_file(name)
        self._process: subprocess.Popen[Any] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServiceFailed(f"{self.name} is not started")
        return self._process.pid

    def start(self, inherit: Sequence[int] = ()) -> None:
        """Start the process; its output is added to the log. Returns before it is ready.

        `inherit`: file descriptors that it gets under the same numbers.
        """
        self.deployment.check_wanted()
        path = os.pathsep.join(
            [str(self.deployment.programs), str(VENV_BIN), os.environ.get("PATH", os.defpath)]
        )
        with self.log_file.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for whoever started the cloud.
            self._process = self.deployment.network.popen(
                self.argv,
                env={**os.environ, "PATH": path, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=inherit,
            )

    def run(self, timeout_seconds: float = START_SECONDS) -> None:
        """Run a command to its end. Raises `ServiceFailed` when it returns non-zero."""
        self.start()
        give_up_at = time.monotonic() + timeout_seconds
        while (status := self._status()) is None:
            self._pause(give_up_at, "end", timeout_seconds)
        if status:
            raise ServiceFailed(f"{self.name} returned {status}; its log:\n{self.log_tail()}")

    def wait_listening(self, port: int, timeout_seconds: float = START_SECONDS) -> None:
        """Wait until something accepts connections on the cloud's address."""
        address = (self.deployment.address, port)
        give_up_at = time.monotonic() + timeout_seconds
        while not self._connects(address):
            self.check_running()
            self._pause(give_up_at, f"listen on {address[0]}:{port}", timeout_seconds)

    def check_running(self) -> None:
        """Raises `ServiceFailed`, with the end of the log, when a started process has ended."""
        if self._status() is not None:
            raise ServiceFailed(f"{self.name} ended; its log:\n{self.log_tail()}")

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Ask the process to end, and end it when it does not in time."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the process at once, as a crash would (SIGKILL), with its worker processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def log_since(self, position: int) -> str:
        """What was logged after the first `position` bytes."""
        with self.log_file.open("rb") as log:
            log.seek(position)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = _LOG_LINES) -> str:
        """The last lines logged."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def _status(self) -> int | None:
        return self._process.poll() if self._process else None

    def _pause(self, give_up_at: float, what: str, timeout_seconds: float) -> None:
        self.deployment.check_wanted()
        if time.monotonic() > give_up_at:
            raise ServiceFailed(
                f"{self.name} did not {what} within {timeout_seconds:.0f} s; "
                f"its log:\n{self.log_tail()}"
            )
        time.sleep(_POLL_SECONDS)

    def _connects(self, address: tuple[str, int]) -> bool:
        with self.deployment.network.entered():
            try:
                socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
            except OSError:
                return False
        return True


def wsgi_service(
    deployment: Deployment,
    name: str,
    module: str,
    port: int,
    *,
    arguments: Sequence[str | Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Service:
    """The service that serves `module.application`; `arguments` are what the module parses."""
    server = [PYTHON, "-P", WSGI_SERVER, module, deployment.address, str(port), name]
    return Service(deployment, name, [*server, *arguments], environment)
