# SPDX-License-Identifier: Apache-2.0
"""A real Linux host with nvme-tcp: a QEMU guest on the machine's own files.

    with Network.for_this_process("try") as network, KernelHost(network, "host1") as host:
        host.run(["nvme", "list"]).stdout

What can be done with a host is in `guest.Guest`.
`python -m testbed.kernel_host` boots one and gives a prompt; `--network NAME --name HOST`
attaches to a kept one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from testbed.guest import Guest, prompt
from testbed.guest_agent import PORT_NAME
from testbed.kernel_image import KernelImage, kernel_image
from testbed.network import Network

_ACCELERATION = os.environ.get("LIGHTOS_QEMU_ACCEL", "tcg,thread=multi")


@dataclass
class KernelHost(Guest):
    """A guest in QEMU with the distribution's own kernel."""

    cpus: int = 2
    _image: KernelImage = field(init=False, repr=False)

    def prepare(self) -> None:
        self._image = kernel_image()

    def connect_agent(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._socket_path))
        except OSError:
            connection.close()
            raise
        return connection

    @property
    def output(self) -> Path:
        return self.folder / "qemu.log"

    @property
    def _socket_path(self) -> Path:
        return self.folder / "agent.sock"

    def command(self) -> list[str]:
        kernel_words = [
            "console=ttyS0 edd=off loglevel=4 panic=-1 tsc=reliable no_timer_check mitigations=off",
            "nokaslr audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests",
            *self.boot_words(modules_folder=str(self._image.modules)),
        ]
        # fmt: off
        return [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
            "-uuid", self.host_id, "-name", f"{self.network.name}-{self.name}",
            "-accel", _ACCELERATION, "-cpu", "max", "-smp", str(self.cpus),
            "-m", f"{self.memory_mib}M",
            "-kernel", str(self._image.kernel), "-initrd", str(self._image.initramfs),
            "-append", " ".join(kernel_words),
            "-serial", f"file:{self.console}",
            "-fsdev", "local,id=machine,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=machine,mount_tag=machine",
            "-netdev", f"tap,id=net,ifname={self.tap},script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=net,mac={self.mac},romfile=",
            "-device", "virtio-rng-pci",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={self._socket_path},server=on,wait=off",
            "-device", f"virtserialport,chardev=agent,name={PORT_NAME}",
        ]
        # fmt: on


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbed.kernel_host", description=__doc__)
    parser.add_argument("--network", help="attach to a kept guest in this namespace")
    parser.add_argument("--name", default="host1")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if arguments.network:
            host = KernelHost(Network(arguments.network), arguments.name)
            host.attach()
        else:
            network = stack.enter_context(Network.for_this_process("shell"))
            host = stack.enter_context(KernelHost(network, arguments.name))
        prompt(host)


if __name__ == "__main__":
    main()
