# SPDX-License-Identifier: Apache-2.0
"""systemd in a test guest, as the first process of a PID namespace of its own, for one unit.

What the unit needs beside is started with it, but no default dependencies: guests have no
services. The guest's network, devices and files are those that the unit sees.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from testbed.guest import Guest, GuestProcess
from testbed.life import Life
from testbed.polling import wait_until

_FOLDER = "/run/systemd/system"
_PROGRAM = "/lib/systemd/systemd"
_IDLE = "lightos-testbed.target"
_START_SECONDS = 300
"""Under emulation at worst; the unit's own limit is for hosts that are not."""
_PREPARE = """
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p {folder}/{name}.d
cat >{folder}/{name}.d/guest.conf <<EOF
[Unit]
DefaultDependencies=no
[Service]
TimeoutStartSec={start_seconds}
EOF
printf '[Unit]\nDefaultDependencies=no\n' >{folder}/{idle}
"""


@dataclass
class Systemd(Life):
    """Runs `unit` under `name` on `host`; `start` returns once it is active.

    Without a `unit` it waits for a package to bring one of that name.
    """

    host: Guest
    name: str
    unit: str | None = None
    _process: GuestProcess | None = field(default=None, init=False)

    def start(self) -> None:
        words = {"folder": _FOLDER, "name": self.name, "idle": _IDLE}
        self.host.shell(_PREPARE.format(**words, start_seconds=_START_SECONDS))
        if self.unit is not None:
            self.host.write_file(f"{_FOLDER}/{self.name}", self.unit.encode())
        # "container": it then leaves alone what belongs to the machine.
        self._process = self.host.popen(
            [
                *("unshare", "--fork", "--pid", "--mount-proc", "--kill-child"),
                *(_PROGRAM, "--system", "--log-target=console"),
                f"--unit={_IDLE if self.unit is None else self.name}",
            ],
            environment={"container": "lightos-testbed"},
        )
        if self.unit is None:
            answers = lambda: self.call("is-active", _IDLE) == "active\n"  # noqa: E731
            wait_until(answers, "systemd answers", _START_SECONDS, pause=1.0)
        else:
            self.wait_active()

    def wait_active(self) -> None:
        """Wait for the unit; raises RuntimeError if it fails, or was started again."""
        wait_until(self._is_active, f"{self.name} is active", _START_SECONDS, pause=1.0)

    def _is_active(self) -> bool:
        state = self.show("ActiveState", "Result", "NRestarts")
        if state.get("NRestarts", "0") != "0" or state.get("ActiveState") == "failed":
            raise RuntimeError(f"{self.name}: {state}")
        return state.get("ActiveState") == "active"

    def show(self, *properties: str) -> dict[str, str]:
        """Properties of the unit; none while systemd does not answer."""
        said = self.call("show", self.name, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def call(self, *arguments: str) -> str:
        """Standard output of `systemctl`."""
        return self.host.run(self.command(["systemctl", *arguments]), check=False).stdout

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` as it must be started to be a process that the unit sees."""
        find = f"$(pgrep -f '^{_PROGRAM} --system' | head -n 1)"
        return ["sh", "-c", f"exec nsenter -t {find} -m -p {shlex.join(argv)}"]

    def stop(self) -> None:
        if self._process is not None:
            self._process.signal(9)
            self._process.wait(30, check=False)
            self._process = None
