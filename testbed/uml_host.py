# SPDX-License-Identifier: Apache-2.0
"""A real Linux host with nvme-tcp at almost the machine's own speed: user-mode Linux.

    with Network.for_this_process("try") as network, UmlHost(network, "host1") as host:
        host.run(["nvme", "list"]).stdout

What can be done with a host is in `guest.Guest`. Where QEMU emulates every instruction, here the
kernel is a process of the machine, and only system calls and page faults cost more than elsewhere.
It has one CPU, no modules, and no hypervisor for virtual machines of its own. Its agent is reached
through the guest's network, so it is out of reach while the cable is pulled.
`python -m testbed.uml_host` boots one and gives a prompt.
"""

from __future__ import annotations

import os
import shutil
import socket
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from testbed.guest import Guest, GuestError, prompt
from testbed.guest_agent import TCP_PORT
from testbed.kernel_image import CHECKOUT
from testbed.network import Network
from testbed.uml_kernel import uml_kernel

_INIT = CHECKOUT / "testbed/guest_init.sh"
_CONNECT_SECONDS = 2.0
_MEMORY_FOLDERS = (Path("/dev/shm"), Path("/var/tmp"))


@dataclass
class UmlHost(Guest):
    """A guest in user-mode Linux.

    `writable`: a folder of the machine, or None, that the guest writes to itself, not to memory.
    `cpu`: the machine's CPU that the guest runs on, by default one that follows from its names.
    The kernel and its processes are processes of the machine that take turns: on one CPU a turn is
    several times faster than between two.
    """

    writable: Path | None = None
    cpu: int | None = None
    _kernel: Path = field(init=False, repr=False)

    def prepare(self) -> None:
        self._kernel = uml_kernel()

    def connect_agent(self) -> socket.socket:
        with self.network.entered():
            connection = socket.create_connection((self.address, TCP_PORT), _CONNECT_SECONDS)
        connection.settimeout(None)
        return connection

    def command(self) -> list[str]:
        words = self.boot_words(
            agent_address=self.address, writable_folder=str(self.writable or "")
        )
        # fmt: off
        return [
            "taskset", "--cpu-list", str(self._cpu()), "env", f"TMPDIR={self._memory_folder()}",
            str(self._kernel), f"mem={self.memory_mib}M", "quiet",
            "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={_INIT}",
            f"vec0:transport=tap,ifname={self.tap},depth=128,gro=1,mac={self.mac}",
            "con=null", "con0=null,fd:1", "ssl=null", f"uml_dir={self.folder}/", *words,
        ]
        # fmt: on

    def _cpu(self) -> int:
        if self.cpu is not None:
            return self.cpu
        usable = sorted(os.sched_getaffinity(0))
        return usable[zlib.crc32(f"{self.network.name}/{self.name}".encode()) % len(usable)]

    def _memory_folder(self) -> Path:
        """Where the guest's memory is, a file without a name; it grows as memory is used."""
        needed = self.memory_mib << 20
        for folder in _MEMORY_FOLDERS:
            if folder.is_dir() and shutil.disk_usage(folder).free > needed:
                return folder
        raise GuestError(
            f"{self.name} needs {self.memory_mib} MiB free in "
            f"{' or '.join(map(str, _MEMORY_FOLDERS))}"
        )


if __name__ == "__main__":
    with Network.for_this_process("shell") as network, UmlHost(network) as host:
        prompt(host)
