# SPDX-License-Identifier: Apache-2.0
"""Real Cinder services, as shipped on PyPI, on one machine: started, watched and stopped."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from testbed.cinder import configuration, database
from testbed.cinder.errors import CinderFailed, CinderTimeout
from testbed.cinder.paths import PYTHON, VENV_BIN

ALL_IN_ONE = Path(__file__).with_name("all_in_one.py")
READY_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 30
LOG_TAIL_LINES = 12
ERROR_RECORD = re.compile(r" (?:ERROR|CRITICAL) \S+ \[[^]]*\] (?P<message>.*)")
"""The first line of a logged error; the lines of its traceback have no request context."""
JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")


class CinderService:
    """cinder-api, cinder-scheduler and cinder-volume on the cluster that ``lab`` describes.

    ``lab``: the content of lab.json. ``lightos``: options of the ``[lightos]`` section that differ
    from the driver guide's example (None leaves one out). ``extra_backends``: further enabled
    backends, name to options. ``incumbent``: run cinder's own LightOS driver instead of ours (as
    ``LIGHTOS_OVERLAY=0`` does for one process). ``namespace``: the network namespace to run in.
    ``threading``: native threads instead of eventlet.

    The database in ``config_dir`` survives stop() and start().
    """

    def __init__(
        self,
        config_dir: Path,
        lab: Mapping[str, Any],
        api_port: int,
        *,
        api_address: str = "127.0.0.1",
        lightos: configuration.Section | None = None,
        extra_backends: Mapping[str, configuration.Section] | None = None,
        namespace: str | None = None,
        incumbent: bool | None = None,
        threading: bool = False,
        debug: bool = True,
    ) -> None:
        if incumbent is None:
            incumbent = os.environ.get("LIGHTOS_OVERLAY") == "0"
        backend = configuration.lightos_backend(lab)
        if incumbent:
            backend = configuration.unverified_tls(backend)
        backend |= lightos or {}
        self.deployment = configuration.Deployment(
            config_dir=config_dir.absolute(),
            api_address=api_address,
            api_port=api_port,
            backends={
                "lightos": {name: value for name, value in backend.items() if value is not None},
                **(extra_backends or {}),
            },
            debug=debug,
        )
        self.namespace = namespace
        self.incumbent = incumbent
        self.threading = threading
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def endpoint(self) -> str:
        """Base URL of the Block Storage API, without a project."""
        return f"http://{self.deployment.api_address}:{self.deployment.api_port}/v3"

    @property
    def log_file(self) -> Path:
        return self.deployment.log_file

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("Cinder is not running: call start() first")
        return self._process.pid

    def start(self) -> Self:
        """Start the services; returns before they are ready.

        Raises CinderFailed when the database cannot be made.
        """
        if self._process is not None:
            raise RuntimeError(f"Cinder is already running as pid {self._process.pid}")
        self.deployment.config_dir.mkdir(parents=True, exist_ok=True)
        configuration.write(self.deployment)
        database.provision(self.deployment.database)
        self._ready_file.unlink(missing_ok=True)
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        prefix = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        with self._output_file.open("wb") as output:
            self._process = subprocess.Popen(
                [*prefix, PYTHON, "-P", ALL_IN_ONE, self.deployment.config_dir],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,
            )
        return self

    def wait_ready(self, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> Self:
        """Wait until the API answers and every backend's driver is initialised.

        Raises CinderFailed, with the cause out of the log, when the process ends or a driver
        does not initialise (the services then go on, as Cinder's do, with that backend down),
        and CinderTimeout.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self._ready_file.exists():
            if self._process is None or self._process.poll() is not None:
                raise CinderFailed("Cinder", self.log_errors())
            if time.monotonic() > deadline:
                raise CinderTimeout(
                    f"Cinder is not ready after {timeout_seconds:.0f} s:\n{self.log_tail()}"
                )
            time.sleep(0.1)
        down = [name for name, up in json.loads(self._ready_file.read_text()).items() if not up]
        if down:
            raise CinderFailed(f"backend {', '.join(down)}", self.log_errors())
        return self

    def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """End the services after the requests they are working on, or at the time-out."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the services at once, as a crash would (SIGKILL)."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()

    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        return int(kib) * 1024

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines written, without secrets."""
        return _redact("\n".join(self._log_lines()[-lines:]))

    def log_errors(self, lines: int = LOG_TAIL_LINES) -> str:
        """The errors logged since start(): each once, in one line, without secrets."""
        return _redact("\n".join(self._errors()[:lines])) or self.log_tail(lines)

    def log_about(self, object_id: str, lines: int = LOG_TAIL_LINES) -> str:
        """The last errors logged that name an object, without traceback or secrets."""
        named = [
            line for line in self._log_lines() if ERROR_RECORD.search(line) and object_id in line
        ]
        return _redact("\n".join(named[-lines:]))

    def __enter__(self) -> Self:
        self.start()
        try:
            return self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _ready_file(self) -> Path:
        return self.deployment.config_dir / "ready.json"

    @property
    def _output_file(self) -> Path:
        """What the process prints before logging works, or when it dies."""
        return self.deployment.config_dir / "output.log"

    def _log_lines(self) -> list[str]:
        """What was logged, then printed, since start()."""
        texts = (
            path.read_bytes()[offset:].decode(errors="replace")
            for path, offset in ((self.log_file, self._log_start), (self._output_file, 0))
            if path.exists()
        )
        return [line for text in texts for line in text.splitlines()]

    def _errors(self) -> list[str]:
        """First line of each logged error; one that repeats only once."""
        first: dict[str, str] = {}
        for line in self._log_lines():
            if match := ERROR_RECORD.search(line):
                first.setdefault(match["message"], line)
        return list(first.values())

    def _environment(self) -> dict[str, str]:
        environment = {
            **os.environ,
            "PATH": f"{VENV_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "OS_CINDER_DISABLE_EVENTLET_PATCHING": "1" if self.threading else "0",
        }
        environment.pop("LIGHTOS_OVERLAY", None)
        if self.incumbent:
            environment["LIGHTOS_OVERLAY"] = "0"
        return environment


def _redact(text: str) -> str:
    return JWT.sub("<token>", text)
